"""Submitters that never give up: threads that send batches under idempotency keys until each one is acknowledged."""

import http.client
import random
import threading
import time
import urllib.error
from collections.abc import Callable
from typing import Any, Final

from tests.support.mesh import Mesh, Refused

AGAIN_S: Final = 0.05
"""Pause before a request that got no answer is sent again."""
BROKEN: Final = (urllib.error.URLError, OSError, http.client.HTTPException, ValueError)
"""What a request can end in when its hub is killed half way; the last: half a body."""


class Crowd:
    """``width`` submitters; :meth:`order` gives them work, :meth:`finish` waits for the last acknowledgement.

    Attributes:
        acknowledged: ids that the hub has answered, in the order of the answers.
        retries: requests that had to be sent again.
        replayed: of those, how many the hub had already stored.
    """

    def __init__(
        self, mesh: Mesh, spec: Callable[[random.Random], dict[str, Any]], *, seed: int, width: int = 3
    ) -> None:
        self._mesh, self._spec = mesh, spec
        self.acknowledged: list[str] = []
        self.retries = self.replayed = 0
        self._wanted = 0
        self._is_over = False
        self._changed = threading.Condition()
        self._failed: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._submit, args=(f"crowd-{seed}-{number}", random.Random(seed + number)))
            for number in range(width)
        ]
        for thread in self._threads:
            thread.start()

    def order(self, count: int) -> None:
        """Submit so many more tasks, as fast as the hub takes them."""
        with self._changed:
            self._wanted += count
            self._changed.notify_all()

    def reach(self, count: int, timeout_s: float = 120.0) -> None:
        """Wait until so many are acknowledged."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self._failed or len(self.acknowledged) >= count, timeout_s)
        assert not self._failed, self._failed
        assert reached, f"{len(self.acknowledged)} acknowledged after {timeout_s:g} s, not {count}"

    def finish(self, timeout_s: float) -> list[str]:
        """Wait until all that was ordered is acknowledged; the ids."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not self._failed, self._failed
        assert not any(thread.is_alive() for thread in self._threads), "submitters still wait for their answers"
        return self.acknowledged

    def _submit(self, name: str, chance: random.Random) -> None:
        try:
            number = 0
            while size := self._take(chance):
                number += 1
                specs = [self._spec(chance) for _ in range(size)]
                self._until_acknowledged(f"{name}-{number}", {"tasks": specs})
        except BaseException as exc:  # noqa: BLE001 - raised in the test's own thread, by finish()
            with self._changed:
                self._failed.append(exc)
                self._changed.notify_all()

    def _take(self, chance: random.Random) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._is_over)
            size = min(self._wanted, chance.choice((1, 1, 2, 5, 20)))
            self._wanted -= size
            return size

    def _until_acknowledged(self, key: str, body: dict[str, Any]) -> None:
        tries = 1
        while (answer := self._try(key, body)) is None:
            tries += 1
            time.sleep(AGAIN_S)
        with self._changed:
            self.acknowledged += [task["id"] for task in answer["tasks"]]
            self.retries += tries > 1
            self.replayed += answer["replayed"]
            self._changed.notify_all()

    def _try(self, key: str, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return dict(self._mesh.call("POST", "/api/v1/tasks", body, Idempotency_Key=key))
        except Refused as exc:
            if exc.status not in {429, 503, 507}:
                raise
        except BROKEN:
            pass
        return None
