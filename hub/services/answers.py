"""Models at work: what heartbeats tell of answers that take long, for people who wait for them.

The newest word of each is kept in memory and shown with its attempt; an event tells of those that take long, now and
then. Nothing is decided here: whether an answer still moves is for the sidecar to judge (``sidecar/llm/flow.py``).
"""

from typing import Final

from hub.core.agent import Agent
from hub.store.changes import Record
from hub.store.store import Store
from protocol.clock import Clock
from protocol.events import Event, EventKind
from protocol.loads import Answering
from protocol.messages import Heartbeat

FIRST_TOLD_S: Final = 10.0
"""Answers that are quicker are told of by their end alone."""
TOLD_EVERY_S: Final = 30.0


class Answers:
    """The use case of a heartbeat that tells of answers on their way."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def heard(self, agent: Agent, heartbeat: Heartbeat) -> None:
        """A heartbeat tells how the answers come along that an agent waits for."""
        if not (heartbeat.attempts or agent.answering):
            return
        agent.answering = {
            item.attempt.task: item.answering for item in heartbeat.attempts if item.answering is not None
        }
        for item in heartbeat.attempts:
            if item.answering is None or item.answering.seconds < FIRST_TOLD_S:
                continue
            held = agent.held.get(item.attempt.task)
            now = self._clock.monotonic()
            if held is None or held.epoch != item.attempt.epoch or now - held.answer_told_at < TOLD_EVERY_S:
                continue
            held.answer_told_at = now
            self._store.post(Record(self._event(agent, held.task, held.epoch, item.answering)))

    def _event(self, agent: Agent, task: str, epoch: int, answer: Answering) -> Event:
        return Event(
            kind=EventKind.TASK_ANSWERING,
            at_ms=self._clock.now_ms(),
            task=task,
            agent=agent.name,
            epoch=epoch,
            facts={
                "phase": answer.phase.value,
                "endpoint": answer.endpoint,
                "model": answer.model,
                "tokens": answer.tokens,
                "seconds": answer.seconds,
                "silent_s": answer.silent_s,
                "detail": answer.in_words,
            },
        )
