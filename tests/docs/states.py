"""Draw ``docs/reference/states.md`` from the tables of states: ``python -m tests.docs.states`` writes it anew."""

from pathlib import Path
from typing import Final

from hub.core.agent import AGENT_EDGES
from hub.core.health import ENDPOINT_EDGES
from hub.core.pulls import PULL_EDGES
from hub.core.task import TASK_EDGES
from protocol.table import mermaid
from sidecar.core.attempt import ATTEMPT_EDGES

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "states.md"


def page() -> str:
    """The page as the tables want it."""
    parts = [
        "# States\n\nDrawn from the tables in the code by `python -m tests.docs.states`; a test keeps them equal.\n",
        "## Task\n\n`hub/core/task.py`. Final states are never left, except a dead letter that a person retries.\n",
        _drawn(mermaid(TASK_EDGES)),
        "## Attempt\n\n`sidecar/core/attempt.py`. One assignment of a task to one agent.\n",
        _drawn(mermaid(ATTEMPT_EDGES)),
        "## Agent\n\n`hub/core/agent.py`.\n",
        _drawn(mermaid(AGENT_EDGES)),
        "## LLM endpoint\n\n`hub/core/health.py`. Not given work while `offline` or in `cooldown`.\n",
        _drawn(mermaid(ENDPOINT_EDGES)),
        "## Pull request\n\n`hub/core/pulls.py`. A `draft` waits for a person, `failed` for a retry.\n",
        _drawn(mermaid(PULL_EDGES)),
    ]
    return "\n".join(parts)


def _drawn(diagram: str) -> str:
    return f"```mermaid\n{diagram.rstrip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
