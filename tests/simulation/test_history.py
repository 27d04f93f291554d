"""The promises of the judge: a sound history passes, and each broken promise is found by its own rule.

The histories are written by hand: one task that ran once (``sound``), and one thing wrong with it at a time.
"""

from collections.abc import Callable

import pytest

from hub.store import changes as c
from protocol.events import Event, EventKind
from protocol.model import AttemptId, AttemptState, TaskState
from tests.simulation.history import Accepted, Asked, Excuse, Grant, History, Push, Rest, Span
from tests.simulation.judging import judge, walk

T = "01m3250vfnfmqyvjt1zam98jxn"


def event(seq: int, kind: EventKind, epoch: int | None = None, **facts: object) -> Event:
    return Event(kind=kind, at_ms=seq, seq=seq, task=T, agent="s0" if epoch else None, epoch=epoch, facts=facts)


EVENTS = (
    event(1, EventKind.TASK_QUEUED),
    event(2, EventKind.TASK_ASSIGNED, 1),
    event(3, EventKind.TASK_STARTED, 1),
    event(4, EventKind.TASK_COMPLETED, 1),
)


def sound() -> History:
    """Submitted at 1, claimed at 2, done at 5, read to the end."""
    history = History()
    history.asked = [Asked("a", "submit", "k", 1.0, "ok", 1.5, (T,), 1)]
    history.stored, history.keys = [T], {"k": [(T,)]}
    history.grants = [Grant(T, 1, "s0", 2.0)]
    history.spans = [Span(T, 1, "s0", "s0/1", 2.1, 4.0)]
    history.pushes = [Push(T, 1, "s0", "s0/1", 3.9)]
    history.accepted = [Accepted(T, 1, 1, 5.0)]
    history.events = {e.seq: (float(e.seq), e) for e in EVENTS}
    history.pages = {"reader": [(0, [1, 2]), (2, [3, 4])]}
    history.rest = Rest(
        states={T: TaskState.COMPLETED},
        retries={T: 0},
        max_retries={T: 0},
        accepted={T: (1,)},
        epochs={T: (1,)},
        counts={TaskState.COMPLETED: 1},
        events=EVENTS,
        journals={"s0": 0},
        unsent={"s0": 0},
        inventories={"s0": 0},
    )
    return history


def rest(history: History) -> Rest:
    assert history.rest is not None
    return history.rest


def test_a_sound_history_passes() -> None:
    assert judge(sound()) == []


def second_run(history: History, began: float = 4.5, granted: float = 4.2) -> None:
    history.grants.append(Grant(T, 2, "s1", granted))
    history.spans.append(Span(T, 2, "s1", "s1/1", began, 4.9))


def of(change: Callable[[History], object]) -> list[str]:
    history = sound()
    change(history)
    return judge(history)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda h: h.stored.clear(), "was never stored"),
        (lambda h: h.stored.append(T), "was stored 2 times"),
        (lambda h: h.asked.append(Asked("a", "submit", "k", 3.0, "ok", 4.0, ("other",), 1)), "key k gave"),
        (lambda h: h.keys["k"].append(("other",)), "made 2 sets of tasks"),
        (
            lambda h: h.keys.update(j=[("x",)]) or h.asked.append(Asked("a", "submit", "j", 1.0, "fail", 2.0, (), 1)),
            "was refused and made",
        ),
        (
            lambda h: h.keys.update(j=[("x",)]) or h.asked.append(Asked("a", "submit", "j", 1.0, count=2)),
            "made 1 tasks of {2}",
        ),
        (lambda h: setattr(h.asked[0], "count", 2), "2 tasks asked for, 1 answered"),
        (lambda h: h.asked.append(Asked("a", "cancel", T, 3.0, "ok", 4.0)), "was cancelled and is"),
    ],
)
def test_what_clients_were_told_has_to_be_true(change: Callable[[History], object], says: str) -> None:
    assert any(says in problem for problem in of(change))


def test_what_nobody_knows_may_have_been_done_or_not() -> None:
    assert of(lambda h: h.asked.append(Asked("a", "submit", "j", 1.0, count=2))) == []
    assert of(lambda h: h.keys.update(j=[]) or h.asked.append(Asked("a", "submit", "j", 1.0, count=2))) == []


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda h: h.grants.append(Grant(T, 1, "s1", 4.2)), "epoch 1 granted after 1"),
        (lambda h: h.grants.clear(), "e1 began at 2.100, granted None"),
        (lambda h: setattr(h.spans[0], "began", 1.9), "e1 began at 1.900, granted 2.0"),
        (lambda h: h.spans.append(h.spans[0]), "e1 was begun 2 times"),
        (lambda h: h.accepted.append(Accepted(T, 1, 1, 6.0)), "a second result taken"),
        (second_run, "result of e1 taken at 5.000, e2 had been granted"),
        (lambda h: h.accepted.insert(0, Accepted(T, 1, 2, 4.0)), "what e2 did was taken as the result of e1"),
        (lambda h: second_run(h, began=3.5, granted=3.4), "went on until 4.000"),
        (lambda h: second_run(h, granted=3.5), "e1 pushed at 3.900"),
        (lambda h: h.bypassed.update({T: 9}), "9 that come after it went first"),
    ],
)
def test_one_epoch_works_at_a_time_and_only_the_last_one_counts(change: Callable[[History], object], says: str) -> None:
    assert any(says in problem for problem in of(change))


def test_work_that_goes_on_where_nobody_could_end_it_is_excused_but_its_result_is_not() -> None:
    def late(history: History) -> None:
        second_run(history, began=3.5, granted=3.4)
        history.excuses.append(Excuse("s0/", 2.5, 4.5, "asleep", is_push_excused=True))

    problems = of(late)
    assert not [problem for problem in problems if "went on" in problem or "pushed" in problem]
    assert [problem for problem in problems if "result of e1 taken" in problem]


@pytest.mark.parametrize(
    "pages, says",
    [
        ([(0, [1, 3])], "got [1, 3]"),
        ([(0, [1, 2]), (1, [2, 3])], "asked behind 1 and had read 2"),
        ([(0, [1, 2]), (2, [4])], "got [4]"),
    ],
)
def test_readers_get_every_event_once_and_in_order(pages: list[tuple[int, list[int]]], says: str) -> None:
    assert any(says in problem for problem in of(lambda h: h.pages.update(reader=pages)))


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda h: rest(h).states.clear(), "is gone"),
        (lambda h: rest(h).states.update({T: TaskState.RUNNING}), "has not ended: running"),
        (lambda h: rest(h).counts.update({TaskState.DEAD: 1}), "1 tasks are counted as dead"),
        (lambda h: setattr(rest(h), "held", (T,)), "the hub still holds"),
        (lambda h: rest(h).journals.update(s0=1), "the journal of s0 keeps 1"),
        (lambda h: rest(h).unsent.update(s0=2), "s0 has 2 reports"),
        (lambda h: rest(h).inventories.update(s0=1), "s0 still holds 1"),
        (lambda h: setattr(rest(h), "events", EVENTS[:2] + EVENTS[3:]), "has a gap"),
        (lambda h: setattr(rest(h), "events", EVENTS[:3]), "is not there any more"),
        (lambda h: rest(h).epochs.update({T: tuple(range(1, 40))}), "was given out 39 times"),
        (lambda h: rest(h).accepted.update({T: (1, 2)}), "are all marked as accepted"),
        (lambda h: rest(h).accepted.clear(), "accepted None of (1,)"),
        (lambda h: h.stuck.append("it hangs"), "it hangs"),
    ],
)
def test_when_all_is_quiet_every_memory_agrees(change: Callable[[History], object], says: str) -> None:
    assert any(says in problem for problem in of(change))


def test_a_dead_letter_that_was_put_back_may_have_another_result() -> None:
    assert walk(
        [
            *EVENTS[:3],
            event(4, EventKind.TASK_DEAD, 1),
            event(5, EventKind.TASK_QUEUED, retried=True),
            event(6, EventKind.TASK_ASSIGNED, 2),
            event(7, EventKind.TASK_COMPLETED, 2),
        ]
    ) == (TaskState.COMPLETED, [])


def test_nothing_happens_to_a_task_that_has_ended() -> None:
    state, problems = walk([*EVENTS, event(5, EventKind.TASK_REQUEUED, 1)])

    assert state is TaskState.COMPLETED
    assert problems == ["task_requeued (event 5) in state completed"]


def test_events_begin_with_a_submission_and_epochs_rise() -> None:
    assert walk([event(1, EventKind.TASK_STARTED, 1)])[1] == ["its first event is task_started"]
    assert "assigned under epoch 1 after 1" in walk([*EVENTS[:2], event(3, EventKind.TASK_ASSIGNED, 1)])[1]


def test_what_commits_did_is_written_down_as_it_was() -> None:
    history = History()
    history.began(AttemptId("s0", 1, T, 1), "s0/1", 1.0)
    claim = c.Claim(at_ms=1, task=T, agent="s0", host="s0", boot=1, placement=b"")
    claimed = c.Claimed(epoch=4, spec=b"", tier=b"", retries=0, infra_failures=0, max_retries=0)
    finish = c.Finish(
        at_ms=2,
        task=T,
        epoch=4,
        attempt=AttemptState.LOST,
        next=TaskState.QUEUED,
        retries=0,
        infra_failures=0,
        reason="draining: it leaves",
    )
    history.applied(3.0, [claim, finish], [claimed, c.Finished()], [EVENTS[0]])

    assert history.grants == [Grant(T, 4, "s0", 3.0)]
    assert history.uncounted == {T: 1}
    assert history.events == {1: (3.0, EVENTS[0])}
    assert [span.task for span in history.spans] == [T]


def test_who_is_passed_over_by_later_ones_is_counted() -> None:
    def stored(number: int) -> c.NewTask:
        return c.NewTask(
            id=f"{number:026}",
            state=TaskState.QUEUED,
            class_text="x",
            priority=2,
            title="",
            labels={},
            spec=b"",
            tier=b"",
            max_retries=0,
        )

    def queued(number: int) -> Event:
        return Event(kind=EventKind.TASK_QUEUED, at_ms=1, seq=number, task=f"{number:026}")

    history, tasks = History(), (stored(1), stored(2), stored(3))
    added = c.Added(ids=tuple(task.id for task in tasks), states=(TaskState.QUEUED,) * 3)
    claimed = c.Claimed(epoch=1, spec=b"", tier=b"", retries=0, infra_failures=0, max_retries=0)
    history.applied(1.0, [c.AddTasks(at_ms=1, tasks=tasks, by="a")], [added], [queued(1), queued(2), queued(3)])
    for number in (3, 2, 1):
        claim = c.Claim(at_ms=1, task=f"{number:026}", agent="s0", host="s0", boot=1, placement=b"")
        history.applied(2.0, [claim], [claimed], [])

    # Of the first claim nobody could know better: what was queued was committed just before it.
    assert history.bypassed == {f"{1:026}": 1}
