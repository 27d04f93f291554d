"""Somebody who means harm: one random fault after the other against a mesh that works, each healed again."""

import contextlib
import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from tests.support.mesh import Mesh
from tests.support.weather import Weather

SPARED_HUB: Final = 6
"""Of so many kills that are drawn, one hits the hub: its memory can only be judged while it lives."""


class Nemesis:
    """Faults in a thread of its own, until :meth:`stop`; every fault has ended when that returns.

    The sidecar ``spared`` is stopped, cut off and slowed, but never killed, so that its memory can be judged.
    """

    def __init__(self, mesh: Mesh, weather: Weather, *, seed: int, spared: str, pause_s: tuple[float, float]) -> None:
        self.done: Counter[str] = Counter()
        self.restarts: list[float] = []
        self._mesh, self._weather, self._spared, self._pause_s = mesh, weather, spared, pause_s
        self._random = random.Random(seed)
        self._kills = 0
        self._over = threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """No more faults; raises what went wrong with one."""
        self._over.set()
        self._thread.join()
        if self._failed:
            raise self._failed[0]

    def _run(self) -> None:
        faults: list[Callable[[], str]] = [self._kill, self._stand_still, self._cut, self._slow, self._deafen]
        try:
            while not self._over.wait(self._random.uniform(*self._pause_s)):
                self.done[self._random.choice(faults)()] += 1
        except BaseException as exc:  # noqa: BLE001 - raised in the test's own thread, by stop()
            self._failed.append(exc)
        finally:
            self._weather.fair()

    def _kill(self) -> str:
        self._kills += 1
        if self._kills % SPARED_HUB == 0:
            self._mesh.kill(self._mesh.hub)
            self.restarts.append(self._mesh.start_hub())
            return "hub killed"
        name = self._random.choice([name for name in self._mesh.sidecars if name != self._spared])
        self._mesh.kill(self._mesh.sidecars[name])
        self._mesh.start_sidecar(name, "--slots", "2")
        return "sidecar killed"

    def _stand_still(self) -> str:
        name = self._random.choice(["", *self._mesh.sidecars])
        process = self._mesh.sidecars[name] if name else self._mesh.hub
        assert process is not None
        with _stopped(process):
            # Shorter and longer than a lease.
            self._over.wait(self._random.uniform(0.5, 12.0))
        return "sidecar stood still" if name else "hub stood still"

    def _cut(self) -> str:
        self._weather.cut()
        return "line cut"

    def _slow(self) -> str:
        self._weather.set(up={"jitter_s": 0.5}, down={"jitter_s": 0.5, "bytes_per_s": 50_000.0})
        self._over.wait(self._random.uniform(2.0, 10.0))
        self._weather.fair()
        return "line slow"

    def _deafen(self) -> str:
        up, down = self._random.choice([(True, True), (True, False), (False, True)])
        self._weather.set(up={"swallows": up}, down={"swallows": down})
        self._over.wait(self._random.uniform(1.0, 15.0))
        self._weather.fair()
        return "line deaf"


@contextlib.contextmanager
def _stopped(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
