"""What doing a task one way costs, term by term, in seconds: what the board adds up and what ``explain`` shows.

Money and the chance to fail are counted in the same unit, at rates that the hub's settings give (:class:`Rates`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict

from hub.core.routing import Way
from hub.core.speeds import Demand
from protocol.choice import SECONDS_PER_USD

WAIT_RISK: Final = 1.3
"""What a second of waiting counts: it is a guess about somebody else's answer, which may take longer."""
LEAST_SHOWN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Rates:
    """What other things than time count in seconds.

    Attributes:
        s_per_usd: how long one would wait to save a dollar.
        risk: seconds to add for a task done one way whose terms are known so far: what its failures are expected to
            cost on the way to a verified result, beyond the seconds and the money of this attempt.
    """

    s_per_usd: float = SECONDS_PER_USD
    risk: "Callable[[Demand, Way, Terms], float]" = lambda _demand, _way, _terms: 0.0


class Terms(Struct, frozen=True):
    """What a way costs, in seconds."""

    wait_s: float
    evict_s: float
    load_s: float
    prefill_s: float
    decode_s: float
    crowd_s: float = 0.0
    """What the load costs those who wait meanwhile."""
    workspace_s: float = 0.0
    """Until the repository is there."""
    verify_s: float = 0.0
    """Tools and checks: what the kind of task took beside its model."""
    price_s: float = 0.0
    """The money, as seconds."""
    risk_s: float = 0.0
    """What its failures are expected to cost."""
    cached_s: float = 0.0
    """Reading that is saved, and left out of ``prefill_s``: the server knows how the prompt begins."""

    @property
    def work_s(self) -> float:
        """Reading and writing, once the model is there."""
        return self.prefill_s + self.decode_s

    @property
    def service_s(self) -> float:
        """How long the server is taken."""
        return self.load_s + self.work_s

    @property
    def attempt_s(self) -> float:
        """How long a slot of the agent is taken."""
        return self.workspace_s + self.service_s + self.verify_s

    @property
    def in_words(self) -> str:
        """The sum and its parts, as a person reads them."""
        named = (
            ("wait", self.wait_s),
            ("workspace", self.workspace_s),
            ("load", self.load_s),
            ("reading", self.prefill_s),
            ("writing", self.decode_s),
            ("checks", self.verify_s),
        )
        parts = [f"{name} {seconds:.1f}" for name, seconds in named if seconds >= LEAST_SHOWN_S]
        if self.cached_s >= LEAST_SHOWN_S:
            parts.append(f"not reading {self.cached_s:.1f} again")
        whole_s = self.wait_s + self.attempt_s
        return f"after {whole_s:.1f} s" + (f" ({', '.join(parts)})" if parts else "")

    @property
    def shown(self) -> dict[str, float]:
        """The terms that are not nothing, for people, and their sum."""
        terms = {name: round(value, 3) for name, value in asdict(self).items() if value}
        return {**terms, "total_s": round(self.total_s, 3)}

    @property
    def total_s(self) -> float:
        """What is compared."""
        return WAIT_RISK * self.wait_s + self.evict_s + self.crowd_s + self.attempt_s + self.price_s + self.risk_s


@dataclass(slots=True)
class Weighed:
    """A way with its terms, and the models that it pushes out of memory."""

    way: Way
    terms: Terms
    evicted: tuple[str, ...] = ()
    size_bytes: float = 0.0
    """Memory that the model will take, if it has to be loaded."""
    context: int = 0
    """Tokens that it will be loaded with, if that is known."""
    tokens: float = 0.0
    """Tokens that it is expected to read and write."""
    quota: str = ""
    """What of its endpoint's quota it waits for."""
    turns: int = 1
    """Requests that the server answers at a time, as far as is known."""
    input_tokens: float = 0.0
    """Tokens that it is expected to read."""
    known_tokens: int = 0
    """Of its prompt, that the server has read before."""
