"""What work with models is priced by: a price with its source and date, and what was measured of local work.

Prices of tokens are in US dollars for a million of them. Pure.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from protocol.bounds import Amount, Count, Measure, Word

MILLION: Final = 1_000_000
HOUR_S: Final = 3_600.0
SETTING: Final = "MODEL=INPUT/OUTPUT[/CACHED][@DATE]"
"""How a price is written in a setting: dollars for a million tokens."""


class Price(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What work is priced by; ``source`` says who says so, ``at`` when (a date, if it is known)."""

    model: Word = ""
    input_usd: Measure | None = None
    output_usd: Measure | None = None
    cached_usd: Measure | None = None
    """Of input that was read from a cache; left out: as other input."""
    gpu_hour_usd: Measure = 0.0
    kwh_usd: Measure = 0.0
    source: Word = ""
    at: Word = ""

    @property
    def has_tokens(self) -> bool:
        """Whether it tells what tokens cost."""
        return self.input_usd is not None and self.output_usd is not None

    def of_tokens(self, input_tokens: int, output_tokens: int, cached: int = 0) -> float | None:
        """What these tokens cost; ``None``: it does not tell. ``cached`` of the input tokens came from a cache."""
        if self.input_usd is None or self.output_usd is None:
            return None
        cached_usd = self.input_usd if self.cached_usd is None else self.cached_usd
        fresh = max(0, input_tokens - cached)
        return (fresh * self.input_usd + cached * cached_usd + output_tokens * self.output_usd) / MILLION

    def of_machine(self, gpu_s: float, energy_wh: float | None) -> float:
        """What a GPU of ours cost that was taken for so long and drew so much, as far as that was measured."""
        return self.gpu_hour_usd * gpu_s / HOUR_S + self.kwh_usd * (energy_wh or 0.0) / 1_000


class Bill(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the cost came about: the price, and of local work how long a GPU was taken and what it drew."""

    price: Price | None = None
    gpu_s: Amount = 0.0
    energy_wh: Amount | None = None
    """``None``: nobody measures it there."""
    requests: Count = 0
    """Answers of models that were asked for."""

    def plus(self, other: "Bill | None") -> "Bill":
        """Both together; the later price stands."""
        if other is None:
            return self
        measured = [each for each in (self.energy_wh, other.energy_wh) if each is not None]
        return Bill(
            price=other.price or self.price,
            gpu_s=self.gpu_s + other.gpu_s,
            energy_wh=sum(measured) if measured else None,
            requests=self.requests + other.requests,
        )

    def minus(self, part: "Bill | None") -> "Bill":
        """What is left of it without ``part``, which is in it; the price stands."""
        if part is None:
            return self
        energy_wh = self.energy_wh if part.energy_wh is None else round((self.energy_wh or 0.0) - part.energy_wh, 6)
        gpu_s = round(self.gpu_s - part.gpu_s, 6)
        return replace(self, gpu_s=gpu_s, energy_wh=energy_wh, requests=self.requests - part.requests)


def read_price(text: str) -> Price:
    """The price that a setting tells.

    Raises:
        ValueError: it is none; the text says why.
    """
    name, found, rest = text.rpartition("=")
    rest, _, at = rest.partition("@")
    parts = rest.split("/")
    shape = f"{text[:80]!r} is no price; write it as {SETTING}, in dollars for a million tokens"
    if not found or not name or len(parts) not in {2, 3}:
        raise ValueError(shape)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise ValueError(shape) from None
    if not all(0 <= number <= MILLION for number in numbers):
        raise ValueError(shape)
    cached = numbers[2] if len(numbers) > 2 else None  # noqa: PLR2004 - input, output and this
    return Price(
        model=name, input_usd=numbers[0], output_usd=numbers[1], cached_usd=cached, source="the hub's settings", at=at
    )


class Prices:
    """The prices that the settings of a hub tell.

    Args:
        told: prices of models, by their names.
        gpu_hour_usd, kwh_usd: what an hour of a GPU of ours costs, and energy; 0: local work costs nothing.
    """

    def __init__(self, told: Iterable[Price] = (), gpu_hour_usd: float = 0.0, kwh_usd: float = 0.0) -> None:
        self._told = {price.model: price for price in told}
        self.has_local = bool(gpu_hour_usd or kwh_usd)
        self._local = Price(gpu_hour_usd=gpu_hour_usd, kwh_usd=kwh_usd, source="the hub's settings")

    def of(self, model: str, *, is_local: bool) -> Price | None:
        """The price of a model; ``None``: the sidecar has to know it."""
        return self._told.get(model) or (self._local if is_local and self.has_local else None)
