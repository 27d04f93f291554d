"""``agentcom rejoin``; see ``join.py``."""

from agentcom.cli.join import rejoin as command

__all__ = ["command"]
