"""Speak the Agent Client Protocol (https://agentclientprotocol.com, version 1) with a coding agent of somebody else.

We are its client: the agent is a program in the cell of the attempt, and what it wants of us (files, terminals, leave
to do something) it gets within the walls that hold for all work.
"""
