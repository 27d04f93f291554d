"""The contract between hub, sidecar and everybody else: words, messages, errors and the link as a state machine.

Pure: reads no clock, opens no connection, keeps no file. Every other package may import this one; it imports none of
them.
"""
