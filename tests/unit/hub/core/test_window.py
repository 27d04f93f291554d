"""The promise of the window: the store's queue in its order, with nothing lost and nothing twice, in bounded memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.core.window import ClassQueue, Place, Window

TEXT = '{"executor":"shell","strategies":["trivial"]}'
OTHER = '{"executor":"noop","strategies":["trivial"]}'


def queue(*places: Place, limit: int = 3, has_more: bool = False) -> ClassQueue:
    made = ClassQueue(TEXT, limit, has_more=False)
    for place in places:
        made.add(place)
    made.has_more = made.has_more or has_more
    return made


def drained(made: ClassQueue) -> list[Place]:
    return [made.take() for _ in range(len(made))]


def test_the_most_urgent_goes_first_then_the_oldest() -> None:
    made = queue((2, "b"), (0, "z"), (2, "a"), (1, "c"), limit=9)

    assert made.head == (0, "z")
    assert made.last == (2, "b")
    assert drained(made) == [(0, "z"), (1, "c"), (2, "a"), (2, "b")]
    assert (made.head, made.last) == (None, None)


def test_taking_from_an_empty_queue_is_an_error() -> None:
    with pytest.raises(IndexError):
        queue().take()


def test_what_is_over_the_limit_is_left_to_the_store() -> None:
    made = queue((0, "a"), (0, "b"), (0, "c"), (0, "d"))

    assert len(made) == 3
    assert (made.has_more, made.left_out) == (True, 1)


def test_a_late_but_urgent_task_pushes_the_last_one_back_to_the_store() -> None:
    made = queue((1, "a"), (1, "b"), (1, "c"), (0, "d"))

    assert (made.has_more, made.left_out) == (True, 1)
    assert drained(made) == [(0, "d"), (1, "a"), (1, "b")]


def test_behind_what_the_store_holds_nothing_is_queued_here() -> None:
    made = queue((0, "a"), has_more=True)
    made.add((0, "z"))

    assert (len(made), made.left_out) == (1, 1)


def test_a_task_that_is_here_already_is_not_queued_twice() -> None:
    made = queue((0, "a"), (0, "b"), (0, "c"))
    for place in ((0, "a"), (0, "b"), (0, "c")):
        made.add(place)

    assert drained(made) == [(0, "a"), (0, "b"), (0, "c")]
    assert made.left_out == 0


def test_a_task_behind_the_head_can_be_taken_before_it() -> None:
    made = queue((0, "a"), (0, "b"), (0, "c"), (0, "d"), limit=4)
    made.take()

    assert made.take(1) == (0, "c")
    assert drained(made) == [(0, "b"), (0, "d")]


def test_a_discarded_task_is_gone_wherever_it_stands() -> None:
    made = queue((0, "a"), (0, "b"), (0, "c"))
    made.take()
    made.discard("b")
    made.discard("nobody")

    assert drained(made) == [(0, "c")]


def test_what_goes_before_a_task_is_counted_where_all_of_it_is_in_memory() -> None:
    made = Window(limit=3)
    for number in range(3):
        made.add(TEXT, (1, f"a{number}"))
        made.add(OTHER, (number, "x"))
    here = made.before((1, "a2")), made.before((0, "a")), made.before((9, "z"))
    made.add(TEXT, (1, "a3"))  # the window is full: the store knows it

    assert here == (({TEXT: 2, OTHER: 1}, {}), ({}, {}), ({TEXT: 3, OTHER: 3}, {}))
    assert made.before((1, "a2")) == ({TEXT: 2, OTHER: 1}, {})
    assert made.before((1, "a9")) == ({TEXT: 3, OTHER: 1}, {TEXT: (1, "a2")})


def test_of_a_class_that_is_in_the_store_alone_nothing_is_counted_here() -> None:
    made = Window()
    made.open(TEXT)

    assert made.before((2, "a")) == ({}, {TEXT: (-1, "")})


def test_a_position_is_counted_from_the_head() -> None:
    made = queue((0, "a"), (0, "b"), (0, "c"))
    made.take()

    assert made.position((0, "b")) == 0
    assert made.position((0, "c")) == 1
    assert made.position((0, "a")) is None


def test_a_refill_that_could_not_know_the_last_submission_leaves_the_store_to_be_asked_again() -> None:
    made = ClassQueue(TEXT, 3, has_more=True)
    made.is_filling = True
    before = made.left_out
    made.add((0, "x"))
    made.fill([(0, "a")], has_more=False, left_out=before)

    assert made.has_more
    assert not made.is_filling


def test_an_urgent_task_that_came_during_a_refill_does_not_wait_behind_it() -> None:
    made = ClassQueue(TEXT, 9, has_more=True)
    made.is_filling = True
    before = made.left_out
    made.add((0, "urgent"))
    made.fill([(0, "before"), (2, "a"), (2, "b")], has_more=False, left_out=before)

    assert drained(made) == [(0, "before")]
    assert made.has_more


def test_a_long_queue_does_not_keep_what_was_taken() -> None:
    made = queue(limit=2)
    for number in range(100):
        made.add((0, f"{number:03}"))
        made.take()

    assert len(made._places) <= 4


class Both(RuleBasedStateMachine):
    """A class queue and its store, against one sorted list of everything that is queued."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ClassQueue(TEXT, 3, has_more=False)
        self.store: set[Place] = set()  # queued rows
        self.reading: tuple[list[Place], int] | None = None
        self.names = 0

    @rule(priority=st.integers(0, 3))
    def submit(self, priority: int) -> None:
        self.names += 1
        place = (priority, f"{self.names:05}")
        self.store.add(place)
        self.queue.add(place)

    @rule(data=st.data())
    @precondition(lambda self: self.store)
    def tell_again(self, data: st.DataObject) -> None:
        # Whoever made a task ready tells of it, though a refill may have brought it already.
        self.queue.add(data.draw(st.sampled_from(sorted(self.store))))

    @rule(data=st.data())
    @precondition(lambda self: self.store)
    def cancel(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(self.store)))
        self.store.discard(place)
        self.queue.discard(place[1])

    @rule()
    @precondition(lambda self: self.reading is None and self.queue.has_more and not len(self.queue))
    def ask_the_store(self) -> None:
        self.queue.is_filling = True
        self.reading = (sorted(self.store)[:3], self.queue.left_out)

    @rule()
    @precondition(lambda self: self.reading is not None)
    def answer(self) -> None:
        assert self.reading is not None
        places, left_out = self.reading
        self.reading = None
        self.queue.fill(places, has_more=len(places) == 3, left_out=left_out)

    @rule()
    @precondition(lambda self: len(self.queue) > 0)
    def take(self) -> None:
        best = min(self.store, default=None)
        place = self.queue.take()
        if place not in self.store:
            return  # cancelled while it was read: its claim is refused
        assert place == best, "nothing more urgent or older was passed over"
        self.store.discard(place)

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.queue) <= 3

    @invariant()
    def nothing_is_twice(self) -> None:
        here = self.queue._places[self.queue._head :]
        assert here == sorted(set(here))

    @invariant()
    def nothing_is_lost(self) -> None:
        here = set(self.queue._places[self.queue._head :])
        assert self.queue.has_more or self.store <= here

    def teardown(self) -> None:
        while self.store:
            if self.reading is not None:
                self.answer()
            elif len(self.queue):
                self.take()
            else:
                assert self.queue.has_more
                self.ask_the_store()


TestTheWindowAgainstAStore = Both.TestCase
TestTheWindowAgainstAStore.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_a_class_of_the_store_is_asked_for_before_anything_else_is_known() -> None:
    window = Window(limit=2)
    window.open(TEXT)
    window.open(TEXT)

    assert [queue.text for queue in window.dry()] == [TEXT]
    window.classes[TEXT].is_filling = True
    assert list(window.dry()) == []


def test_a_new_class_is_known_whole() -> None:
    window = Window(limit=2)
    window.add(TEXT, (0, "a"))
    window.add(TEXT, (0, "b"))

    assert list(window.dry()) == []
    assert not window.classes[TEXT].has_more


def test_opening_a_class_that_is_known_changes_nothing() -> None:
    window = Window()
    window.add(TEXT, (0, "a"))
    window.open(TEXT)

    assert not window.classes[TEXT].has_more
    assert len(window.classes[TEXT]) == 1


def test_discarding_looks_at_its_own_class_only() -> None:
    window = Window()
    window.add(TEXT, (0, "a"))
    window.add(OTHER, (0, "a"))
    window.discard(OTHER, "a")
    window.discard("unknown", "a")

    assert [len(window.classes[text]) for text in (TEXT, OTHER)] == [1, 0]


def test_only_classes_that_are_empty_here_and_in_the_store_are_forgotten() -> None:
    window = Window()
    window.open(TEXT)
    window.add(OTHER, (0, "a"))
    window.forget_empty()
    assert set(window.classes) == {TEXT, OTHER}

    window.classes[OTHER].take()
    window.forget_empty()
    assert set(window.classes) == {TEXT}


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=20, unique=True),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=20, unique=True),
    st.booleans(),
)
def test_tasks_that_come_together_stand_where_they_would_one_by_one(
    first: list[tuple[int, int]], then: list[tuple[int, int]], has_more: bool
) -> None:
    together, alone = (ClassQueue(TEXT, 25, has_more=has_more) for _ in range(2))
    for some in (first, then):
        places = sorted((priority, f"{number:02}") for priority, number in some)
        if places:
            together.extend(places)
        for place in places:
            alone.add(place)

    assert (together.has_more, together.left_out) == (alone.has_more, alone.left_out)
    took = together.take_some(7)
    assert took == [alone.take() for _ in took]
    assert together.take_some(100) == alone.take_some(100)
    assert (len(together), together.head) == (0, None)
