"""``python -m agentcom`` is the command ``agentcom``."""

from agentcom.cli import main

if __name__ == "__main__":
    main()
