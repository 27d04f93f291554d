"""Put together what keeps the files that attempts leave, as the settings say: where their bytes lie, and how many."""

from collections.abc import Callable
from typing import Final

from hub.core.fleet import Fleet
from hub.services.artifacts import Allowance, Artifacts
from hub.settings import Settings
from hub.store.blobs import Drafts, LocalBlobs
from hub.store.space import Space
from hub.store.store import Store
from protocol.clock import Clock

FOLDER: Final = "artifacts"
_MIB: Final = 1 << 20


def keeper(
    settings: Settings,
    store: Store,
    fleet: Fleet,
    clock: Clock,
    space: Space | None,
    *,
    hub: int,
    random_bits: Callable[[int], int],
) -> Artifacts:
    """What keeps files in the data directory; ``hub`` is the boot that answers for attempts."""
    folder = settings.folder / FOLDER
    allowance = Allowance(
        file_bytes=settings.artifact_max_mb * _MIB,
        attempt_bytes=settings.artifacts_of_task_mb * _MIB,
        all_bytes=settings.artifacts_mb * _MIB,
    )
    return Artifacts(
        store,
        fleet,
        clock,
        Drafts(folder / "incoming"),
        LocalBlobs(folder / "blobs"),
        random_bits=random_bits,
        allowance=allowance,
        space=space,
        hub=hub,
    )
