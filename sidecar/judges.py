"""The models that this sidecar asks what they think of work (``judges`` of its settings), and what that costs.

An answer counts for the budget of the attempt whose work is judged. Made once in :mod:`sidecar.parts`.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.errors import BudgetSpent
from protocol.model import Budget, Usage
from sidecar.checks.base import Ask
from sidecar.llm.base import ChatMessage, ChatRequest
from sidecar.llm.endpoints import Endpoints

MOST_TOKENS: Final = 4_096
"""The longest answer; models that think before they speak need some."""
_DATE: Final = re.compile(r"[-@](?:\d{8}|\d{4}-\d\d-\d\d|latest)$")


@dataclass(frozen=True, slots=True)
class Judges:
    """Models as ``ENDPOINT/MODEL``, the first one first."""

    endpoints: Endpoints
    names: Sequence[str] = ()

    def ask(
        self,
        authors: Collection[str],
        *,
        remaining: Callable[[], Budget],
        spent: Callable[[Usage], None],
        check: Callable[[], None],
    ) -> Ask | None:
        """How to ask the first one that is no author; ``None`` if there is none.

        Args:
            authors: models that have done the work.
            remaining: tells what is left of the budget.
            spent: hears what an answer has used.
            check: raises if nothing may happen for the attempt any more.
        """
        taken = {_undated(author) for author in authors}
        chosen = next((name for name in self.names if _undated(name.partition("/")[2]) not in taken), None)
        if chosen is None:
            return None
        endpoint, _, model = chosen.partition("/")

        async def ask(system: str, question: str, timeout_s: float) -> tuple[str, str]:
            budget = remaining()
            check()
            if budget.tokens == 0 or (budget.usd == 0 and not self.endpoints.is_here(endpoint)):
                raise BudgetSpent("tokens" if budget.tokens == 0 else "USD", 0, 0)
            request = ChatRequest(
                system=system,
                messages=(ChatMessage("user", question),),
                model=model,
                max_output_tokens=min(MOST_TOKENS, budget.tokens or MOST_TOKENS),
                temperature=0.0,
                timeout_s=timeout_s,
                is_bounded=budget.usd is not None,
            )
            reply = await self.endpoints.provider(endpoint).chat(request)
            spent(reply.usage)
            return model, reply.text

        return ask


def _undated(model: str) -> str:
    """The name of a model as it may be asked for: endpoints tell which day's they are, and whose."""
    return _DATE.sub("", model.rpartition("/")[2].lower())
