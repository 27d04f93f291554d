"""What tokens cost, in US dollars, by the prices that genai-prices carries (tiers and cached tokens included).

A local endpoint costs nothing; a model without a known price costs ``None``, never 0. Prices are estimates of the list
price: discounts are not known here.
"""

from dataclasses import dataclass
from typing import Final

from protocol.model import EndpointKind

_PRICED: Final = {EndpointKind.ANTHROPIC: "anthropic", EndpointKind.GEMINI: "google"}
"""Whose list counts, also behind a proxy; other services are known by their address."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one answer. ``input`` holds all input tokens, those read from and written to a cache included."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0


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
