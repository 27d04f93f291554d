"""What tokens cost, in US dollars, by the prices that genai-prices carries (tiers and cached tokens included).

A local endpoint costs nothing; a model without a known price costs ``None``, never 0. Prices are estimates of the list
price: discounts are not known here.
"""

import importlib.metadata
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from protocol.model import EndpointKind, Usage
from protocol.prices import HOUR_S, Bill, Price

_UNIT: Final = 1_000
_MOST_TOKENS: Final = 10**12
_MOST_USD: Final = 1e9
"""Of one answer; no hub believes more."""
_PRICED: Final = {EndpointKind.ANTHROPIC: "anthropic", EndpointKind.GEMINI: "google"}
"""Whose list counts, also behind a proxy; other services are known by their address."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one answer. ``input`` holds all input tokens, those read from and written to a cache included."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0


def listed_price(model: str, *, kind: EndpointKind, url: str) -> Price | None:
    """The list price of a model and where it stands; ``None`` if nobody knows one. Takes a while the first time."""
    read = cost_usd(TokenCounts(_UNIT, 0), model, kind=kind, url=url, local=False)
    written = cost_usd(TokenCounts(0, _UNIT), model, kind=kind, url=url, local=False)
    if read is None or written is None:
        return None
    made = f"genai-prices {importlib.metadata.version('genai-prices')}"
    return Price(model=model, input_usd=read * _UNIT, output_usd=written * _UNIT, source=made)


def billed(
    usage: Usage, told: Price | None, listed: Price | None, *, is_local: bool, power_w: float | None = None
) -> Usage:
    """The usage of an answer with its cost and how that came about.

    Args:
        usage: as the provider has counted it, with the cost by the list.
        told, listed: what the hub says of the price, and what the list says.
        power_w: what the GPUs drew meanwhile, if that is measured.
    """
    usage = _believable(usage)
    if not is_local:
        cost = told.of_tokens(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) if told else None
        price = told if cost is not None else listed
        return replace(usage, cost_usd=usage.cost_usd if cost is None else cost, bill=Bill(price=price, requests=1))
    model_s = usage.timing.model_s - (usage.timing.queue_s or 0.0) if usage.timing else usage.seconds
    gpu_s = max(0.0, model_s)
    energy_wh = None if power_w is None else power_w * gpu_s / HOUR_S
    energy_wh = None if energy_wh is None else round(energy_wh, 6)
    bill = Bill(price=told, gpu_s=round(gpu_s, 6), energy_wh=energy_wh, requests=1)
    if told is None:
        return replace(usage, bill=bill)
    tokens = told.of_tokens(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)
    return replace(usage, cost_usd=(tokens or 0.0) + told.of_machine(gpu_s, energy_wh), bill=bill)


def _believable(usage: Usage) -> Usage:
    """What a server has counted, without what cannot be: a hub takes no result in which that stands."""
    cost = usage.cost_usd
    return replace(
        usage,
        input_tokens=min(max(0, usage.input_tokens), _MOST_TOKENS),
        output_tokens=min(max(0, usage.output_tokens), _MOST_TOKENS),
        cached_input_tokens=min(max(0, usage.cached_input_tokens), _MOST_TOKENS),
        cost_usd=cost if cost is not None and 0 <= cost <= _MOST_USD else None,
    )


def cost_usd(tokens: TokenCounts, model: str, *, kind: EndpointKind, url: str, local: bool) -> float | None:
    """What the answer cost; ``None`` if nobody knows."""
    if local:
        return 0.0
    from genai_prices import Usage, calc_price  # here, as its price table takes time and memory to load

    usage = Usage(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
    )
    try:
        if kind in _PRICED:
            price = calc_price(usage, model, provider_id=_PRICED[kind])
        else:
            price = calc_price(usage, model, provider_api_url=url)
    except (LookupError, ValueError, ArithmeticError):
        return None  # no price for it, or counts that cannot be
    return float(price.total_price)
