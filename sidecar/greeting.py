"""What a sidecar says of itself: as it comes in, and with every heartbeat. The caller is ``sidecar/link.py``."""

from protocol.messages import Heartbeat, Hello
from protocol.version import NEWEST, OLDEST
from sidecar.core.readings import Facts
from sidecar.identity import Identity
from sidecar.inlet import Owner


def hello(me: Identity, owner: Owner, facts: Facts, *, hub_boot: int, received: int, dial: int, key: str) -> Hello:
    """Who it is, what it can do and what it holds."""
    return Hello(
        protocol=(OLDEST, NEWEST),
        sidecar=me.sidecar,
        boot=me.boot,
        host=me.host,
        slots=me.slots,
        version=me.version,
        capabilities=facts.capabilities,
        endpoints=facts.endpoints,
        inventory=owner.inventory(),
        hub_boot=hub_boot,
        received=received,
        draining=owner.is_leaving,
        dial=dial,
        instance=me.instance,
        key=key,
    )


def heartbeat(me: Identity, owner: Owner, facts: Facts) -> Heartbeat:
    """That it lives, what it holds, and what of the machine the hub has not heard yet."""
    reading, endpoints, capabilities, troubles = facts.news()
    return Heartbeat(
        sidecar=me.sidecar,
        boot=me.boot,
        attempts=owner.inventory(),
        reading=reading,
        endpoints=endpoints,
        capabilities=capabilities,
        draining=owner.is_leaving,
        troubles=troubles,
    )
