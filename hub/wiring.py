"""Small pieces of wiring that ``hub/assembly.py`` puts a hub together with; they decide nothing."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from hub.core.agent import Held
from hub.core.charging import Allowances, Charging
from hub.core.fleet import Fleet
from hub.core.recent import Recent
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.metrics import Metrics
from hub.services.budgets import Budgets
from hub.services.counting import Counting
from hub.services.dispatch import Dispatch
from hub.services.feed import Feed
from hub.services.forgetting import Forgetting
from hub.services.health import EndpointHealth
from hub.services.learning import Learning
from hub.services.mates import Mates
from hub.services.membership import Membership
from hub.services.presence import Presence
from hub.services.prewarming import Prewarming
from hub.services.proving import Proofs
from hub.settings import Settings
from hub.store.backend import Backend
from hub.store.climbing import carry_of, spent_usd
from hub.store.proving import proof_of
from hub.store.store import Start
from protocol.choice import CleanRoom
from protocol.clock import Clock
from protocol.events import Event
from protocol.model import Usage
from protocol.prices import Prices, read_price


def budgets_of(store: Backend, start: Start, settings: Settings, fleet: Fleet, clock: Clock) -> Budgets:
    """What budgets bound, and what the last hub knew of them."""
    prices = Prices([read_price(text) for text in settings.prices], settings.gpu_hour_usd, settings.kwh_usd)
    charging = Charging(Allowances(settings.attempt_tokens, settings.attempt_usd), prices=prices)
    budgets = Budgets(store, fleet, clock, charging)
    budgets.take(start.purses)
    return budgets


def proofs_of(
    store: Backend,
    fleet: Fleet,
    window: Window,
    clock: Clock,
    default: CleanRoom,
    membership: Callable[[], Membership],
    hub: int,
    metrics: Metrics,
) -> Proofs:
    """What is proven in a clean room, by the hub that leads."""
    proofs = Proofs(store, fleet, window, clock, default=default)
    proofs.leads = lambda: membership().leader is not None
    proofs.is_elsewhere = lambda agent: agent.hub in membership().urls and agent.hub != hub
    proofs.on_ended = metrics.ended
    return proofs


def forgetting_of(store: Backend, fleet: Fleet, links: Links, clock: Clock, presence: Presence) -> Forgetting:
    """What is told to be forgotten, and to whom."""
    forgetting = Forgetting(store, fleet, links, clock)
    forgetting.is_elsewhere = presence.is_elsewhere
    return forgetting


def teller(
    counting: Counting, mates: Mates, prewarming: Prewarming, recent: Recent, feed: Feed
) -> Callable[[Sequence[Event]], None]:
    """Who hears of what was committed, in this order: first whoever waits for it, then who keeps count."""

    def committed(events: Sequence[Event]) -> None:
        recent.add(events)
        feed.committed(events)
        counting.committed(events)
        mates.committed(events)
        prewarming.committed(events)

    return committed


def users(learning: Learning, budgets: Budgets, health: EndpointHealth) -> Callable[[Held, Usage], None]:
    """Who hears what an attempt has used; of one that drew on no budget and no endpoint only what is learnt from it."""

    def used(held: Held, usage: Usage) -> None:
        learning.used(held, usage)
        if held.is_charged or held.server is not None:
            budgets.used(held, usage)
            health.used(held.server, usage)

    return used


def resender(store: Backend, dispatch: Dispatch) -> Callable[[Held], Coroutine[Any, Any, None]]:
    """What sends an assignment again, as it was."""

    async def resend(held: Held) -> None:
        stored, attempts = await store.spec(held.task), await store.attempts(held.task)
        if stored is not None and attempts:
            carry = carry_of(attempts, await store.reviews(held.task))
            proof = proof_of(attempts)
            dispatch.again(held, *stored, attempts[-1].placement, carry, spent_usd(attempts), proof)

    return resend
