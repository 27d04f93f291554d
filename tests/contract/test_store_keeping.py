"""The promises of forgetting and of a restore, kept by every store."""

import pytest

from hub.core.measures import Measure
from hub.store.changes import AppendLog, Cancel, PutAgent, Retry
from hub.store.hub_changes import ForgetProgress, KeepMeasures, MarkAgent, PutArtifact
from hub.store.keeping import EPOCH_MARGIN, EVENT_GAP
from hub.store.keeping_changes import (
    ForgetEvents,
    ForgetKeys,
    ForgetLogs,
    ForgetTasks,
    KeepSample,
    RemoveAgent,
    Restore,
    Restored,
)
from protocol.errors import Conflict, NotFound, StaleAttempt
from protocol.events import Event, EventKind
from protocol.model import FINAL_STATES, AttemptState, TaskState
from tests.support.stores import Rows, new_task, task_id

LATER_MS = 10**12


async def forget(rows: Rows, *numbers: int, before_ms: int = LATER_MS, dead: bool = False) -> int:
    states = FINAL_STATES if dead else FINAL_STATES - {TaskState.DEAD}
    change = ForgetTasks(
        at_ms=rows.tick(), tasks=tuple(task_id(n) for n in numbers), states=states, ended_before_ms=before_ms
    )
    return int(await rows.store.commit(change))


async def log_of(rows: Rows, number: int, epoch: int, pieces: int) -> None:
    for offset in range(pieces):
        await rows.store.commit(
            AppendLog(
                at_ms=rows.tick(), task=task_id(number), epoch=epoch, offset=offset, stream="stdout", text=f"{offset}"
            )
        )


def artifact(rows: Rows, number: int, epoch: int, path: str = "a.txt", size_bytes: int = 3) -> PutArtifact:
    at_ms = rows.tick()
    return PutArtifact(
        at_ms=at_ms,
        id=task_id(at_ms),
        task=task_id(number),
        epoch=epoch,
        path=path,
        size_bytes=size_bytes,
        sha256="ab" * 32,
    )


async def test_a_file_belongs_to_an_attempt_that_counts(rows: Rows) -> None:
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    first = await rows.store.commit(artifact(rows, 1, epoch, "b"))
    again = await rows.store.commit(artifact(rows, 1, epoch, "b", 7))
    await rows.store.commit(artifact(rows, 1, epoch, "a"))
    for late in (artifact(rows, 1, epoch + 1), artifact(rows, 2, 1)):
        with pytest.raises(StaleAttempt):
            await rows.store.commit(late)
    await rows.finish(1, epoch)
    with pytest.raises(StaleAttempt):
        await rows.store.commit(artifact(rows, 1, epoch, "late"))

    kept = await rows.store.artifacts(task_id(1))
    assert [(row.path, row.size_bytes, row.accepted) for row in kept] == [("a", 3, True), ("b", 7, True)]
    assert first == again == kept[1].id
    assert await rows.store.artifact(first) == kept[1]
    assert await rows.store.artifact("nothing") is None
    assert (await rows.kinds(1)).count("artifact_stored") == 3


async def test_what_is_kept_of_work_in_progress_goes_when_its_task_has_ended_for_good(rows: Rows) -> None:
    for number in (1, 2, 3, 4):
        await rows.add(new_task(number))
        epoch = (await rows.claim(number)).epoch
        for path in (".agentcom/progress.json", "wanted", ".agentcom-not/a"):
            await rows.store.commit(artifact(rows, number, epoch, path))
        if number != 1:
            await rows.finish(number, epoch, TaskState.DEAD if number == 2 else TaskState.COMPLETED)

    assert await rows.store.over_progress("", 9) == [task_id(3), task_id(4)]
    assert await rows.store.over_progress("", 1) == [task_id(3)]
    assert await rows.store.over_progress(task_id(3), 9) == [task_id(4)]
    await rows.store.commit(ForgetProgress(tasks=tuple(task_id(number) for number in (1, 2, 3))))
    assert await rows.store.over_progress("", 9) == [task_id(4)]
    left = [[row.path for row in await rows.store.artifacts(task_id(number))] for number in (1, 2, 3)]
    assert [len(paths) for paths in left] == [3, 3, 2]
    assert left[2] == [".agentcom-not/a", "wanted"]


async def test_a_task_that_has_ended_is_forgotten_with_all_that_hangs_on_it(rows: Rows) -> None:
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    await rows.accept(1, epoch)
    await log_of(rows, 1, epoch, 3)
    await rows.store.commit(artifact(rows, 1, epoch))
    await rows.finish(1, epoch)

    assert await rows.store.is_kept("ab" * 32)
    assert await forget(rows, 1) == 1
    assert await rows.store.artifacts(task_id(1)) == []
    assert not await rows.store.is_kept("ab" * 32)
    assert await rows.store.task(task_id(1)) is None
    assert await rows.store.spec(task_id(1)) is None
    assert await rows.store.attempts(task_id(1)) == []
    assert await rows.store.logs(task_id(1), 0, 10) == []
    assert await forget(rows, 1) == 0


async def test_live_tasks_stay_whoever_asks(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2), new_task(3), new_task(4, depends_on=(task_id(1),)))
    await rows.claim(2)
    await rows.accept(3, (await rows.claim(3)).epoch)

    assert await forget(rows, 1, 2, 3, 4, dead=True) == 0
    states = [TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.BLOCKED]
    assert await rows.states([1, 2, 3, 4]) == states


async def test_a_task_that_ended_later_than_asked_stays(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.completed(1)

    assert await forget(rows, 1, before_ms=rows.now_ms) == 0
    assert await forget(rows, 1, before_ms=rows.now_ms + 1) == 1


async def test_a_dead_letter_stays_unless_it_is_named(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.finish(1, (await rows.claim(1)).epoch, TaskState.DEAD)

    assert await forget(rows, 1) == 0
    await rows.store.commit(Retry(at_ms=rows.tick(), task=task_id(1), by="me"))
    assert await forget(rows, 1, dead=True) == 0  # it was put back meanwhile
    await rows.finish(1, (await rows.claim(1)).epoch, TaskState.DEAD)
    assert await forget(rows, 1, dead=True) == 1


async def test_what_a_live_task_waits_for_stays_until_that_one_has_ended(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2))
    await rows.add(new_task(3, depends_on=(task_id(1), task_id(2))))
    await rows.completed(1)

    assert await forget(rows, 1) == 0
    await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(3), reason="", by="me"))
    assert await forget(rows, 1, 3) == 2
    assert await rows.store.blockers(task_id(3)) == []


async def test_output_is_forgotten_piece_by_piece_and_only_of_what_has_ended(rows: Rows) -> None:
    await rows.add(new_task(1))
    epoch = (await rows.claim(1)).epoch
    await log_of(rows, 1, epoch, 5)

    seqs = [seq for seq, _ in await rows.store.walk_logs(0, 10)]

    def change(through: int, before_ms: int = LATER_MS) -> ForgetLogs:
        return ForgetLogs(at_ms=rows.tick(), after=0, through=through, written_before_ms=before_ms)

    assert await rows.store.commit(change(seqs[-1])) == 0
    await rows.finish(1, epoch)
    assert await rows.store.commit(change(seqs[-1], 1)) == 0
    assert await rows.store.commit(change(seqs[2])) == 3
    assert [piece.text for piece in await rows.store.logs(task_id(1), 0, 10)] == ["3", "4"]
    assert await rows.store.commit(change(seqs[-1])) == 2


async def test_keys_are_forgotten_when_they_are_old_enough(rows: Rows) -> None:
    await rows.add(new_task(1), key="old", digest=b"1")
    border = rows.now_ms + 1
    await rows.add(new_task(2), key="new", digest=b"2")
    change = ForgetKeys(at_ms=rows.tick(), keys=("me\nnew", "none", "me\nold"), used_before_ms=border)

    assert await rows.store.commit(change) == 1
    assert await rows.store.walk_keys("", 10) == [("me\nnew", border)]
    assert (await rows.add(new_task(2), key="new", digest=b"2")).replayed
    assert not (await rows.add(new_task(3), key="old", digest=b"3")).replayed


async def test_keys_and_tasks_are_walked_in_order_without_one_left_out(rows: Rows) -> None:
    for number in range(1, 8):
        await rows.add(new_task(number), key=f"k{number}", digest=b"")
    await rows.completed(3)
    keys: list[str] = []
    tasks: list[str] = []
    while page := await rows.store.walk_keys(keys[-1] if keys else "", 3):
        keys += [key for key, _ in page]
    while found := await rows.store.walk_tasks(tasks[-1] if tasks else "", 3):
        tasks += [task for task, _, _ in found]
        assert all((ended is not None) == (task == task_id(3)) for task, _, ended in found)

    assert keys == [f"me\nk{number}" for number in range(1, 8)]
    assert tasks == [task_id(number) for number in range(1, 8)]


async def test_an_agent_is_forgotten_once(rows: Rows) -> None:
    agent = PutAgent(
        at_ms=5, name="a", host="h", boot=1, slots=1, version="1", capabilities=(), draining=False, event=None
    )
    await rows.store.commit(agent)
    gone = RemoveAgent(
        at_ms=rows.tick(), name="a", event=Event(kind=EventKind.AGENT_REMOVED, at_ms=rows.tick(), agent="a")
    )
    await rows.store.commit(gone)

    assert await rows.store.agents() == ()
    with pytest.raises(NotFound):
        await rows.store.commit(gone)
    assert (await rows.kinds())[-1] == "agent_removed"


async def test_an_agent_in_quarantine_is_not_forgotten_until_a_person_has_released_it(rows: Rows) -> None:
    agent = PutAgent(
        at_ms=5, name="a", host="h", boot=1, slots=1, version="1", capabilities=(), draining=False, event=None
    )
    told = Event(kind=EventKind.AGENT_REMOVED, at_ms=rows.tick(), agent="a")
    gone = RemoveAgent(at_ms=rows.tick(), name="a", event=told)
    await rows.store.commit(agent)
    await rows.store.commit(MarkAgent("a", told, quarantine="its key is in use on one and on two"))

    with pytest.raises(Conflict, match="in quarantine, because its key is in use on one and on two; first: agentcom"):
        await rows.store.commit(gone)
    assert [row.quarantine for row in await rows.store.agents()] == ["its key is in use on one and on two"]
    await rows.store.commit(MarkAgent("a", told, quarantine=""))
    await rows.store.commit(gone)
    assert await rows.store.agents() == ()


@pytest.mark.filterwarnings("ignore::pytest.PytestWarning")
class TestTheLogOfEvents:
    """These leave a log that does not begin with 1, or has a gap: what other tests end with does not hold for them."""

    async def test_the_floor_tells_what_is_gone(self, bare: Rows) -> None:
        await bare.add(*(new_task(number) for number in range(1, 6)))

        assert await bare.store.commit(ForgetEvents(at_ms=bare.tick(), through=3)) == 3
        assert [event.seq for event in await bare.store.events(0, 10)] == [4, 5]
        assert await bare.store.oldest_events(0, 10) == [(4, 1_001), (5, 1_001)]
        for seq, is_known in ((2, False), (3, True), (4, True), (5, True), (6, False)):
            ends = await bare.store.cursor(seq)
            assert (ends.floor, ends.newest, ends.is_known) == (3, 5, is_known)

    async def test_numbers_never_come_back_even_if_all_events_are_gone(self, bare: Rows) -> None:
        await bare.add(new_task(1), new_task(2))
        await bare.store.commit(ForgetEvents(at_ms=bare.tick(), through=2))
        await bare.add(new_task(3))

        assert [event.seq for event in await bare.store.events(0, 10)] == [3]
        assert bare.store.newest_event == 3

    async def test_a_floor_never_goes_down(self, bare: Rows) -> None:
        await bare.add(new_task(1), new_task(2), new_task(3))
        await bare.store.commit(ForgetEvents(at_ms=bare.tick(), through=2))
        await bare.store.commit(ForgetEvents(at_ms=bare.tick(), through=1))

        assert (await bare.store.cursor(1)).floor == 2

    async def test_after_a_restore_nothing_that_was_given_out_can_be_given_out_again(self, bare: Rows) -> None:
        await bare.add(*(new_task(number) for number in range(1, 6)))
        await bare.completed(1)
        running = (await bare.claim(2)).epoch
        await bare.accept(2, running)
        assigned = (await bare.claim(3)).epoch
        await bare.finish(4, (await bare.claim(4)).epoch, TaskState.DEAD)
        before = await bare.store.start(0)
        newest = bare.store.newest_event
        done: Restored = await bare.store.commit(Restore(at_ms=bare.tick(), copied_ms=7))

        assert (done.requeued, done.last_event) == (2, newest)
        assert await bare.states([1, 2, 3, 4, 5]) == [
            TaskState.COMPLETED,
            TaskState.QUEUED,
            TaskState.QUEUED,
            TaskState.DEAD,
            TaskState.QUEUED,
        ]
        counts = {state: n for state, n in (await bare.store.counts()).items() if n}
        assert counts == {TaskState.COMPLETED: 1, TaskState.DEAD: 1, TaskState.QUEUED: 3}
        lost = (await bare.store.attempts(task_id(2)))[-1]
        assert (lost.state, lost.reason, lost.accepted) == (
            AttemptState.LOST,
            "the hub was restored from a backup",
            False,
        )
        for number, epoch in ((2, running), (3, assigned)):
            with pytest.raises(StaleAttempt):
                await bare.finish(number, epoch)
            assert (await bare.claim(number)).epoch == epoch + EPOCH_MARGIN + 1
        assert (await bare.claim(5)).epoch == EPOCH_MARGIN + 1
        events = await bare.store.events(newest, 10)
        assert events[0].kind is EventKind.HUB_RESTORED
        assert events[0].seq == newest + EVENT_GAP + 1
        assert not (await bare.store.cursor(newest + 1)).is_known  # what a reader saw of the lost history
        assert (await bare.store.start(0)).hub_boot > before.hub_boot + 1


async def test_figures_are_kept_by_step_and_only_as_long_as_somebody_wants(rows: Rows) -> None:
    async def keep(at_s: int, body: bytes = b"v", step_s: int = 60, before_s: int = 0) -> None:
        await rows.store.commit(KeepSample(step_s=step_s, at_s=at_s, body=body, before_s=before_s))

    for at_s in (60, 120, 180):
        await keep(at_s)
    await keep(900, b"q", step_s=900)
    await keep(180, b"again")
    assert await rows.store.samples(60, 60, 180) == [(120, b"v"), (180, b"again")]

    await keep(240, before_s=180)
    assert [at_s for at_s, _ in await rows.store.samples(60, 0, 999)] == [180, 240]
    assert await rows.store.samples(900, 0, 900) == [(900, b"q")]


async def test_what_was_learnt_is_there_again_and_of_each_kind_only_the_newest(rows: Rows) -> None:
    def keep(*names: str, about: str = "speed", value: bytes = b"v") -> KeepMeasures:
        return KeepMeasures(at_ms=rows.tick(), measures=tuple(Measure(about, name, value) for name in names), most=3)

    await rows.store.commit(keep("a", "b\x1fc"))
    await rows.store.commit(keep("x", about="price"))
    await rows.store.commit(keep("a", value=b"new"))
    assert await rows.store.measures() == (
        Measure("price", "x", b"v"),
        Measure("speed", "b\x1fc", b"v"),
        Measure("speed", "a", b"new"),
    )

    await rows.store.commit(keep("d", "e", "f"))
    assert {measure.name for measure in await rows.store.measures()} == {"x", "d", "e", "f"}
    assert (await rows.store.start(1)).measures == await rows.store.measures()
