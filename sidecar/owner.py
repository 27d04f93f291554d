"""The owner of the machine takes the GPU back, and gives it again: a file in the state directory says which.

The file is written by ``agentcom sidecar reclaim`` on the machine itself, or here when the hub passes the wish on; it
stays over restarts. While it is there, work of models on this host stops at the end of its turn (or soon after, behind
the last one) and goes on elsewhere, and so does at once what was placed here because it needs a GPU; none of either is
taken, and the models that this sidecar has had loaded leave memory.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import structlog

from protocol.errors import WorkFailed
from protocol.messages import Assign, Reclaim
from protocol.model import TaskSpec
from protocol.progress import GPU
from sidecar.folders import write_lasting
from sidecar.llm.endpoints import Endpoints

log = structlog.get_logger(__name__)
FILE: Final = "reclaimed"
LOOK_S: Final = 1.0
GRACE_S: Final = 10.0
"""How long a turn may go on; what it would have done is done elsewhere."""
CLEAR_S: Final = 0.2
_WHY: Final = "the owner of the machine wants its GPU back"


class Work(Protocol):
    """The attempts of this sidecar (``sidecar/runner.py``)."""

    def clear(self, is_local: Callable[[str], bool], reason: str, grace_s: float) -> None:
        """Stop all work of models on this host."""
        ...

    def go_on(self) -> None:
        """What has not stopped yet need not stop."""
        ...

    def uses(self, is_local: Callable[[str], bool]) -> bool:
        """Whether there is such work."""
        ...


def is_reclaimed(folder: Path) -> bool:
    """Whether the owner has taken the GPU back, as the state directory ``folder`` says."""
    return (folder / FILE).exists()


def reclaim(folder: Path, by: str) -> None:
    """Take it back."""
    write_lasting(folder / FILE, f"{by}\n")


def give_back(folder: Path) -> None:
    """Give it again."""
    (folder / FILE).unlink(missing_ok=True)


class Owner:
    """Sees to it that what the file says is so."""

    def __init__(self, folder: Path, work: Work, endpoints: Endpoints, on_change: Callable[[], None]) -> None:
        self._folder, self._work, self._endpoints, self._on_change = folder, work, endpoints, on_change
        self._was = False
        self._wake = asyncio.Event()

    def hear(self, message: Reclaim) -> None:
        """The hub passes on what somebody wants; where that cannot be written down, it is not done, and all goes on."""
        try:
            if message.on:
                reclaim(self._folder, message.by)
            else:
                give_back(self._folder)
        except OSError as exc:
            log.warning("reclaim_not_kept", on=message.on, by=message.by, why=exc.strerror or str(exc))
        self._wake.set()

    def refuses(self, message: Assign, spec: TaskSpec) -> tuple[str, str] | None:
        """Why an attempt is not taken, as a code and a reason."""
        takes_gpu = GPU in spec.needs or self._endpoints.is_here(message.routing.endpoint)
        if takes_gpu and is_reclaimed(self._folder):
            self._on_change()  # before the refusal: the hub may have another task for the same model
            return "reclaimed", _WHY
        return None

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            is_back = is_reclaimed(self._folder)
            if is_back is not self._was:
                self._was = is_back
                log.info("gpu_reclaimed" if is_back else "gpu_given_back")
                self._on_change()
                if is_back and not await self._clear():
                    self._work.go_on()
                    continue
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _clear(self) -> bool:
        """Stop the work and have the models leave; ``False``: the GPU was given back meanwhile."""
        self._work.clear(self._endpoints.is_here, _WHY, GRACE_S)
        while self._work.uses(self._endpoints.is_here):
            await asyncio.sleep(CLEAR_S)
            if not is_reclaimed(self._folder):
                return False
        try:
            await self._endpoints.unload_ours()
        except WorkFailed as exc:
            log.warning("models_not_unloaded", why=str(exc))
        return True
