"""An attempt as its sidecar holds it, from its assignment until the hub has its report; see ``sidecar/runner.py``."""

import asyncio
from collections.abc import Callable

from msgspec import Struct, field

from protocol import codec
from protocol.errors import MalformedFrame
from protocol.loads import Answering
from protocol.messages import Report
from protocol.model import AttemptId
from sidecar.core.attempt import Standing
from sidecar.core.outcome import Ending
from sidecar.core.telling import Telling
from sidecar.executors.base import Pauses
from sidecar.live_log import LiveLog
from sidecar.spans import Here
from sidecar.tails import Tail
from sidecar.workshop import Work

Key = tuple[str, int]


class Held(Struct, eq=False):
    """An attempt that this sidecar holds, in work or with a report that the hub does not have yet."""

    attempt: AttemptId
    standing: Standing
    report: Report | None = None
    work: asyncio.Task[Ending] | None = None
    rounds: Work | None = None
    live: LiveLog | None = None
    tail: Tail | None = None
    answering: Callable[[], Answering] | None = None
    telling: Telling | None = None
    """Which turns of its model are told; ``None``: none so far."""
    stop_event: str = ""
    stop_reason: str = ""
    is_unwanted: bool = False
    wishes: dict[str, str] = field(default_factory=dict)
    """Who wants it to stop at the end of its turn, and why."""
    grace: asyncio.TimerHandle | None = None
    """Stops it though its turn goes on, for the owner of the machine."""
    endpoint: str = ""
    """The LLM endpoint that it uses, if it uses one on this host."""
    needs_gpu: bool = False
    """It was placed here for the GPU, which it uses by itself."""
    here: Here | None = None
    """Where it stands in a trace; ``None``: nothing is told of it."""
    ended_ns: int = 0

    def takes_gpu(self, is_local: Callable[[str], bool]) -> bool:
        """Whether it works with the GPU of this host, by a model or by itself."""
        return self.needs_gpu or (bool(self.endpoint) and is_local(self.endpoint))

    def halt(self, who: str, reason: str) -> Pauses:
        """Somebody wants the work to stop at the end of its turn; when it can stop at all."""
        if self.rounds is None:
            return "never"
        self.wishes[who] = reason
        return self.rounds.pause(reason)

    def let_go(self, who: str) -> None:
        """They do not want that any more; perhaps somebody else still does."""
        self.wishes.pop(who, None)
        if self.rounds is None:
            return
        if self.wishes:
            self.rounds.pause(next(iter(self.wishes.values())))
        else:
            self.rounds.go_on()


def key(attempt: AttemptId) -> Key:
    """Task and epoch: what tells the attempts of this sidecar apart."""
    return attempt.task, attempt.epoch


def decoded(report: bytes) -> Report | None:
    """A report from the journal; ``None``: it cannot be read."""
    try:
        (message,) = codec.decode(report)
    except (MalformedFrame, ValueError):
        return None
    return message if isinstance(message, Report) else None
