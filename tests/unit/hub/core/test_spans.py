"""The promises of a task's life as spans."""

from hub.core.spans import NS_PER_MS, Tried, spans_of
from protocol.events import Event, EventKind
from protocol.ids import made_ms
from protocol.model import AttemptState, Usage
from protocol.traces import Span, of_attempt, of_task

TASK = "01hzy0m5k3v8f6c2q9w4e7r1t0"
BORN = made_ms(TASK)


def event(kind: EventKind, after_ms: int, epoch: int | None = None, **facts: object) -> Event:
    return Event(kind=kind, at_ms=BORN + after_ms, task=TASK, epoch=epoch, facts=facts)


def tried(epoch: int, state: AttemptState, *times: int | None, **more: object) -> Tried:
    decided, assigned, started, ended = (None if at is None else BORN + at for at in times)
    assert decided is not None
    assert assigned is not None
    return Tried(
        epoch=epoch,
        agent="One",
        host="box",
        state=state,
        decided_ms=decided,
        assigned_ms=assigned,
        started_ms=started,
        ended_ms=ended,
        **more,  # type: ignore[arg-type]  # a table of cases
    )


EVENTS = (
    event(EventKind.TASK_QUEUED, 0),
    event(EventKind.TASK_ASSIGNED, 12, 1),
    event(EventKind.TASK_STARTED, 20, 1),
    event(EventKind.TASK_VERIFYING, 50, 1, iteration=1, detail="words"),
    event(EventKind.TASK_REQUEUED, 60, 1, reason="checks failed", ready_ms=BORN + 100),
    event(EventKind.TASK_ASSIGNED, 130, 2),
    event(EventKind.TASK_COMPLETED, 200, 2),
)
ATTEMPTS = (
    tried(1, AttemptState.FAILED, 10, 12, 20, 60, reason="checks failed"),
    tried(2, AttemptState.PASSED, 120, 130, 140, 200, model="m", verified=True, usage=Usage(model="m", input_tokens=7)),
)


def spans(given: str = "", events: tuple[Event, ...] = EVENTS, attempts: tuple[Tried, ...] = ATTEMPTS) -> list[Span]:
    return list(spans_of(TASK, *of_task(TASK, given), events, attempts))


def times(span: Span) -> tuple[int, int]:
    return span.start_ns // NS_PER_MS - BORN, span.end_ns // NS_PER_MS - BORN


def test_every_phase_of_every_attempt_is_a_span_that_begins_where_the_last_one_ends() -> None:
    found = [(span.name, *times(span)) for span in spans()]

    assert found == [
        ("queue", 0, 10),
        ("place", 10, 12),
        ("assign", 12, 20),
        ("attempt", 10, 60),
        ("queue", 100, 120),
        ("place", 120, 130),
        ("assign", 130, 140),
        ("attempt", 120, 200),
        ("task", 0, 200),
    ]


def test_they_are_one_tree_with_ids_of_their_own_beneath_whoever_has_submitted_it() -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    found = spans(given)
    ids = {span.place.span for span in found}
    root, place = found[-1], of_task(TASK, given)[0]

    assert len(ids) == len(found)
    assert {span.place.trace for span in found} == {"0af7651916cd43dd8448eb211c80319c"}
    assert (root.parent, root.place) == ("b7ad6b7169203331", place)
    assert {span.parent for span in found[:-1]} <= ids
    assert [span.place for span in found if span.name == "attempt"] == [of_attempt(place, TASK, n) for n in (1, 2)]
    assert found == spans(given), "told twice they are the same"


def test_an_attempt_tells_how_it_went_and_nothing_that_was_said() -> None:
    first, second = [span for span in spans() if span.name == "attempt"]

    assert (first.problem, second.problem) == ("checks failed", "")
    assert second.facts["gen_ai.request.model"] == "m"
    assert (second.facts["gen_ai.usage.input_tokens"], second.facts["agentcom.verified"]) == (7, True)
    assert [(note.name, note.facts) for note in first.notes] == [
        ("task_started", {}),
        ("task_verifying", {"iteration": 1}),
    ]


def test_a_task_that_was_cancelled_in_the_middle_ends_what_was_open() -> None:
    events = (*EVENTS[:3], event(EventKind.TASK_CANCELLED, 90, 1, reason="by me"))
    found = spans(events=events, attempts=(tried(1, AttemptState.RUNNING, 10, 12, 20, None),))

    assert {span.name: times(span)[1] for span in found} == {
        "queue": 10,
        "place": 12,
        "assign": 20,
        "attempt": 90,
        "task": 90,
    }
    assert found[-1].problem == "by me"
