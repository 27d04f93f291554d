"""The verbs of pull requests: keep one, change it, forget it. The end of an attempt begins one (``work.py``)."""

import msgspec

from hub.store.batches import Batches, Statements
from hub.store.pull_changes import DropPull, PullRow, PutPull, StalePull


class PullVerbs(Batches):
    """The verbs of pull requests, by the changes that ask for them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {PutPull: self._put_pull, DropPull: self._drop_pull}

    async def _put_pull(self, change: PutPull) -> int:
        pull = change.pull
        if not await self._changed("put_pull", *_values(pull), pull.version):
            found = await self._row("pull_version", pull.task)
            raise StalePull(pull.task, pull.version, None if found is None else found[0])
        if change.event is not None:
            self._note(change.event)
        return pull.version + 1

    async def _drop_pull(self, change: DropPull) -> None:
        await self._run("drop_pull", change.task, change.version)


def _values(pull: PullRow) -> tuple[object, ...]:
    body = msgspec.json.encode(pull.record)
    return (pull.task, pull.epoch, pull.project, pull.state.value, body, pull.next_ms, pull.changed_ms)
