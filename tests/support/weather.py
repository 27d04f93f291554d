"""The weather on a link between real processes: a fault-injecting proxy as a process of its own, driven from a test."""

import json
import socket
import subprocess
import sys
from typing import Any


class Weather:
    """A proxy in front of ``target`` (``host:port``); :attr:`url` is what its clients dial."""

    def __init__(self, target: str, *, seed: int = 0, listen: str = "127.0.0.1") -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.faulty_proxy"),
                *("--target", target, "--seed", str(seed), "--listen", listen),
            ],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline() or b'{"control": 0}')
        assert said["control"], f"the proxy ended with {self._process.wait()}"
        self.url = f"http://{listen}:{said['port']}"
        self._control = socket.create_connection(("127.0.0.1", said["control"]), timeout=10)
        self._answers = self._control.makefile("rb")

    def set(self, **faults: Any) -> None:
        """From now on these faults and no others; their names are those of ``faulty_proxy.Faults``."""
        answer = self._order(faults=faults)
        assert "error" not in answer, answer

    def fair(self) -> None:
        """No faults any more."""
        self.set()

    def drop(self) -> None:
        """From now on every byte is lost, both ways, and nobody is told."""
        self.set(up={"swallows": True}, down={"swallows": True})

    def cut(self) -> None:
        """Cut every connection that stands, now."""
        self._order(cut=True)

    @property
    def counts(self) -> dict[str, Any]:
        """What has happened so far; see ``faulty_proxy.Counts``."""
        return self._order()

    def _order(self, **order: Any) -> dict[str, Any]:
        self._control.sendall(json.dumps(order).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._answers.readline())
        return answer

    def end(self) -> None:
        """End the proxy, and with it every connection."""
        self._answers.close()
        self._control.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
