"""LLM endpoints that this machine can reach, one module a protocol.

The heavy clients are imported when an endpoint of their kind is first used, never at start-up.
"""
