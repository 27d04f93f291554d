"""What the client asks about budgets: a part of :class:`agentcom.aio.AsyncClient`."""

from urllib.parse import quote

from agentcom.calls import Calls
from protocol.api import PREFIX
from protocol.budgets import BudgetBody, BudgetList, BudgetView
from protocol.usage import UsageBy, UsageList


class BudgetCalls:
    """What may be used a day."""

    _transport: Calls

    async def budgets(self) -> BudgetList:
        """All budgets, and how they stand today."""
        return await self._transport.call("GET", f"{PREFIX}/budgets", BudgetList, is_repeatable=True)

    async def budget(self, budget: str) -> BudgetView:
        """One budget: ``hub``, ``submitter:TOKEN_ID`` or ``project:NAME``."""
        return await self._transport.call("GET", _one(budget), BudgetView, is_repeatable=True)

    async def set_budget(self, budget: str, body: BudgetBody) -> BudgetView:
        """Set a budget, new or changed; what is ``None`` has no limit."""
        return await self._transport.call("PUT", _one(budget), BudgetView, body=body, is_repeatable=True)

    async def remove_budget(self, budget: str) -> None:
        """Forget a budget."""
        await self._transport.call("DELETE", _one(budget), type(None))

    async def usage(self, by: UsageBy | str = UsageBy.MODEL, *, since: str = "", until: str = "") -> UsageList:
        """What attempts have used of models, by whom or what, of the last week or between two times."""
        asked = {"by": str(by), "since": since, "until": until}
        query = {name: value for name, value in asked.items() if value}
        return await self._transport.call("GET", f"{PREFIX}/usage", UsageList, query=query, is_repeatable=True)


def _one(budget: str) -> str:
    return f"{PREFIX}/budgets/{quote(budget, safe='')}"
