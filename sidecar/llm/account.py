"""What the programs of one attempt ask models for by themselves, against what is left of its budget.

Counted from the answers as they pass by (``sidecar/llm/passage.py``), so it holds whatever a program says of itself. A
question is refused once the budget is spent; those that are under way then end as they would. Prices are those of the
list (``sidecar/llm/pricing.py``). Caller: ``sidecar/rounds.py``, for every iteration anew.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from protocol.errors import BudgetSpent, Unpriced, WorkFailed
from protocol.model import Budget, Usage
from protocol.prices import Bill
from sidecar.core.metering import Metered
from sidecar.llm.config import EndpointSettings
from sidecar.llm.pricing import TokenCounts, cost_usd, listed_price

SETTLE_S: Final = 10.0
"""How long an answer is waited for whose asker has gone: its passage is being shut."""


class Account:
    """The account of one attempt.

    Attributes:
        is_open: its programs can ask; what they ask elsewhere is not known here.
        usage: what was used since :meth:`begin`.
        models: all that have answered, ever.
        under_way: questions that are being answered.
        spent: why a question was refused since :meth:`begin`; ``None``: none was.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.usage, self.under_way = Usage(), 0
        self.spent: WorkFailed | None = None
        self.models: set[str] = set()
        self._left, self._quiet = Budget(), asyncio.Event()
        self._quiet.set()
        self._booking: set[asyncio.Task[None]] = set()
        self._on_use: Callable[[], None] = lambda: None

    def begin(self, left: Budget, on_use: Callable[[], None]) -> None:
        """Count anew, against what is left; ``on_use`` hears whenever something was used."""
        self.usage, self.spent = Usage(), None
        self._left, self._on_use = left, on_use

    def refuse_if_spent(self) -> None:
        """Let a question be asked.

        Raises:
            BudgetSpent: tokens or money are used up.
            Unpriced: nobody knows what the last ones have cost, and money is bounded.
        """
        used, left = self.usage, self._left
        tokens = used.input_tokens + used.output_tokens
        try:
            if left.tokens is not None and tokens >= left.tokens:
                raise BudgetSpent("tokens", left.tokens, tokens)
            if left.usd is not None and used.cost_usd is None:
                raise Unpriced(used.model, used.endpoint)
            if left.usd is not None and used.cost_usd and used.cost_usd >= left.usd:
                raise BudgetSpent("USD", left.usd, used.cost_usd)
        except WorkFailed as exc:
            self.spent = exc
            raise

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """While a question is answered."""
        self.under_way += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self.under_way -= 1
            if not self.under_way:
                self._quiet.set()

    def book(self, entry: EndpointSettings, found: Metered) -> None:
        """One answer of ``entry`` has been given, as far as it came."""
        self.models.add(found.model)
        # A task of its own: the price list takes a while to load, and who has passed the answer on may be cancelled.
        task = asyncio.get_running_loop().create_task(self._book(entry, found))
        self._booking.add(task)
        task.add_done_callback(self._booking.discard)

    async def _book(self, entry: EndpointSettings, found: Metered) -> None:
        self.usage = self.usage.plus(await asyncio.to_thread(_priced, entry, found))
        self._on_use()

    async def booked(self) -> None:
        """Wait until all answers that were given are counted."""
        while self._booking:
            await asyncio.wait(tuple(self._booking))

    async def settled(self) -> None:
        """Wait until no question is under way, at most for a moment, and all answers are counted."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self._quiet.wait()
        await self.booked()


def _priced(entry: EndpointSettings, found: Metered) -> Usage:
    counts = TokenCounts(found.read, found.written, cache_read=found.cache_read, cache_write=found.cache_write)
    is_local = entry.is_local
    cost = cost_usd(counts, found.model, kind=entry.kind, url=entry.url, local=is_local)
    price = None if is_local else listed_price(found.model, kind=entry.kind, url=entry.url)
    return Usage(
        model=found.model or "unknown",
        endpoint=entry.id,
        input_tokens=found.read,
        output_tokens=found.written,
        cached_input_tokens=found.cache_read,
        cost_usd=cost,
        bill=Bill(price=price, requests=1),
    )
