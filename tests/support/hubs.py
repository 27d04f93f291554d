"""Several hubs on one PostgreSQL, as processes, with sidecars that know all of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.mesh import Mesh


class Hubs:
    """Hubs by name, each with a folder of its own; sidecars start with the first one unless told otherwise."""

    def __init__(self, folder: Path, store: str, *, lease_s: float, hub_lease_s: float) -> None:
        self._folder, self._store, self._lease_s, self._hub_lease_s = folder, store, lease_s, hub_lease_s
        self.all: dict[str, Mesh] = {}

    def start(self, name: str, store: str = "") -> Mesh:
        """Start a hub; ``store``: how it reaches the database, if not directly."""
        flags = ("--store", store or self._store, "--hub-lease-s", str(self._hub_lease_s))
        hub = self.all[name] = Mesh(self._folder / name, lease_s=self._lease_s, hub_flags=flags)
        hub.start_hub()
        return hub

    def sidecar(self, name: str, first: Mesh, *flags: str) -> None:
        """Start a sidecar that knows all hubs, ``first`` before the others."""
        others = [hub.url for hub in self.all.values() if hub is not first]
        first.start_sidecar(name, *flags, hub=",".join([first.url, *others]))

    def logs(self) -> str:
        """What all of them have written."""
        return "\n".join(f"=== {name}\n{hub.logs()}" for name, hub in self.all.items())


@contextlib.contextmanager
def hubs(folder: Path, store: str, **timing: Any) -> Iterator[Hubs]:
    """Hubs on this database; all of it ends with the block."""
    made = Hubs(folder, store, **timing)
    try:
        yield made
    finally:
        for hub in made.all.values():
            hub.stop()
