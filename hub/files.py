"""Put together what keeps the files that attempts leave, as the settings say: where their bytes lie, and how many."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from hub.core.fleet import Fleet
from hub.services.artifacts import Allowance, Artifacts
from hub.settings import Settings, s3_keys
from hub.store.blobs import Blobs, Drafts, LocalBlobs
from hub.store.s3 import Bucket, S3Blobs
from hub.store.space import Space
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import BadInput, Problem

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
    """What keeps files; ``hub`` is the boot that answers for attempts.

    Raises:
        BadInput: the keys of an S3 store, or what speaks to it, is missing.
    """
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
        _blobs(settings, folder),
        random_bits=random_bits,
        allowance=allowance,
        space=space,
        hub=hub,
    )


def _blobs(settings: Settings, folder: Path) -> Blobs:
    url, prefix = settings.bucket
    if not url:
        return LocalBlobs(folder / "blobs")
    if find_spec("aiohttp_s3_client") is None:
        missing = f"{settings.artifact_store} needs a client: pip install 'agentcom[s3]'"
        raise BadInput([Problem("artifact_store", missing)], "settings")
    return S3Blobs(Bucket(url=url, prefix=prefix, region=settings.s3_region, **s3_keys(settings)))
