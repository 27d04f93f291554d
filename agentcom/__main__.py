"""``python -m agentcom`` is the command ``agentcom``; where it starts."""

from typing import NoReturn

from agentcom.starting import staying


def main() -> NoReturn:
    """The entry point of the command ``agentcom``."""
    with staying():
        from agentcom.cli import main as run
    run()


if __name__ == "__main__":
    main()
