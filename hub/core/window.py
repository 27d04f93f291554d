"""The part of the queue that is in memory: the best queued tasks of each class, and whether the store holds more.

The store is the queue. A million queued tasks cost disk, not memory or start-up time: each class keeps at most
``limit`` tasks here, in order of priority and age, and asks for the next ones when it runs dry. One class that nobody
can serve never hides another.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from hub.core.routing import Requirements, requirements_of

Place = tuple[int, str]
"""Priority (0 is the most urgent) and task id: the order in which tasks of a class go."""
NOBODY: Final[Place] = (-1, "")
"""A place before all others."""


class ClassQueue:
    """Queued tasks of one class, best first.

    Attributes:
        kind: what is learned of these tasks is learned under this name.
        sought: what decides who could do them.
        fallback: the same for those who may do them if they would have to wait too long.
        has_more: the store may hold queued tasks of this class that are not here.
        left_out: how many tasks were left to the store so far; a refill that was asked for before one of them cannot
            know it.
        left_best: the first of those that were left to the store while a refill was on its way.
        is_filling: a refill is on its way.
    """

    __slots__ = (
        "_head",
        "_limit",
        "_places",
        "fallback",
        "has_more",
        "is_filling",
        "kind",
        "left_best",
        "left_out",
        "requirements",
        "sought",
        "text",
    )

    def __init__(self, text: str, limit: int, *, has_more: bool) -> None:
        self.text = text
        self.requirements: Requirements = requirements_of(text)
        self.kind = self.requirements.kind
        self.sought = self.requirements.place
        self.fallback = self.requirements.fallback
        self.has_more = has_more
        self.left_out = 0
        self.left_best: Place | None = None
        self.is_filling = False
        self._limit = limit
        self._places: list[Place] = []
        self._head = 0  # places before it are taken; cut off now and then, so that taking is cheap

    def __len__(self) -> int:
        return len(self._places) - self._head

    @property
    def head(self) -> Place | None:
        """The task that goes next."""
        return self._places[self._head] if self._head < len(self._places) else None

    def at(self, number: int) -> Place | None:
        """The task that goes ``number`` places behind the head; ``None`` if nobody is there."""
        place = self._head + number
        return self._places[place] if place < len(self._places) else None

    @property
    def last(self) -> Place | None:
        """The last task that is here: what the store holds beyond it comes later."""
        return self._places[-1] if len(self) else None

    def add(self, place: Place) -> None:
        """Queue a task. One that belongs behind the window of a class that has more is left to the store.

        One that is here already stays where it is: a refill may have brought it before its caller did.
        """
        places = self._places
        if len(places) == self._head or place > places[-1]:  # nobody is here, or it comes after all who are
            if self.has_more:
                self._leave(place)
                return
            places.append(place)
        else:
            at = bisect_left(places, place, lo=self._head)
            if places[at] != place:
                places.insert(at, place)
        if len(places) - self._head > self._limit:
            self.has_more = True
            self._leave(places.pop())

    def extend(self, places: Sequence[Place]) -> None:
        """As :meth:`add`, in their order."""
        last = self.last
        if self.has_more or len(self) + len(places) > self._limit or (last is not None and places[0] <= last):
            for place in places:
                self.add(place)
        else:
            self._places += places

    def _leave(self, place: Place) -> None:
        self.left_out += 1
        if self.is_filling and (self.left_best is None or place < self.left_best):
            self.left_best = place

    def take(self, number: int = 0) -> Place:
        """Remove and return the head, or the task that stands ``number`` places behind it.

        Raises:
            IndexError: there is none.
        """
        if number:
            return self._places.pop(self._head + number)
        place = self._places[self._head]
        self._head += 1
        if self._head > self._limit:
            del self._places[: self._head]
            self._head = 0
        return place

    def take_some(self, count: int) -> list[Place]:
        """Remove and return the first ones, at most so many."""
        places = self._places[self._head : self._head + count]
        self._head += len(places)
        if self._head > self._limit:
            del self._places[: self._head]
            self._head = 0
        return places

    def discard(self, task: str) -> None:
        """Forget a task, wherever it stands."""
        self._places = [place for place in self._places[self._head :] if place[1] != task]
        self._head = 0

    def position(self, place: Place) -> int | None:
        """How many tasks of this class go before ``place``; ``None`` if it is not here."""
        for number, here in enumerate(self._places[self._head :]):
            if here == place:
                return number
        return None

    def before(self, place: Place) -> tuple[int, Place | None]:
        """How many tasks that are here go before ``place``; and where those begin of which only the store knows."""
        is_all = not self.has_more or (self.last is not None and place <= self.last)
        return bisect_left(self._places, place, lo=self._head) - self._head, None if is_all else self.last or NOBODY

    def fill(self, places: Iterable[Place], *, has_more: bool, left_out: int) -> None:
        """What the store holds next, read when :attr:`left_out` was ``left_out``; ``has_more``: and beyond that.

        A task that was left to the store while it was read may belong before some of these: they wait for the next
        refill, which brings it.
        """
        known = set(self._places[self._head :]).union(places)
        first = self.left_best
        self._places, self._head = sorted(place for place in known if first is None or place < first), 0
        self.has_more = has_more or left_out != self.left_out
        self.is_filling = False
        self.left_best = None


class Window:
    """All classes that have queued tasks."""

    def __init__(self, limit: int = 1_000) -> None:
        self.limit = limit
        self.classes: dict[str, ClassQueue] = {}

    @property
    def has_tasks(self) -> bool:
        """Whether any task is here."""
        for queue in self.classes.values():  # noqa: SIM110 - asked for with every commit: a generator costs two calls
            if queue._head < len(queue._places):  # noqa: SLF001 - its own file, and a call less for each class
                return True
        return False

    @property
    def only(self) -> ClassQueue | None:
        """The class that tasks are here of, if it is one."""
        found = None
        for queue in self.classes.values():
            if queue._head < len(queue._places):  # noqa: SLF001 - as above
                if found is not None:
                    return None
                found = queue
        return found

    def open(self, text: str) -> None:
        """The store holds queued tasks of this class."""
        if text not in self.classes:
            self.classes[text] = ClassQueue(text, self.limit, has_more=True)

    def add(self, text: str, place: Place) -> None:
        """A task has become ready to run."""
        queue = self.classes.get(text)
        if queue is None:
            queue = self.classes[text] = ClassQueue(text, self.limit, has_more=False)
        queue.add(place)

    def add_all(self, text: str, places: Sequence[Place]) -> None:
        """As :meth:`add`, tasks of one class in their order."""
        queue = self.classes.get(text)
        if queue is None:
            queue = self.classes[text] = ClassQueue(text, self.limit, has_more=False)
        queue.extend(places)

    def discard(self, text: str, task: str) -> None:
        """A task is no longer queued (cancelled, expired, never stored)."""
        if queue := self.classes.get(text):
            queue.discard(task)

    def before(self, place: Place) -> tuple[dict[str, int], dict[str, Place]]:
        """How many tasks that are here go before ``place``, by class.

        And the classes of which the store may hold more such tasks, each with the place behind which these are.
        """
        counts, more = {}, {}
        for text, queue in self.classes.items():
            count, last = queue.before(place)
            if count:
                counts[text] = count
            if last is not None:
                more[text] = last
        return counts, more

    def wanted(self) -> Counter[str]:
        """How many of the tasks that are here wait for each model; under no name: those that any model will do for."""
        found: Counter[str] = Counter()
        for queue in self.classes.values():
            if queue.requirements.needs_model:
                found[queue.requirements.model] += len(queue)
        return found

    def dry(self) -> list[ClassQueue]:
        """Classes whose window is empty though the store may hold more."""
        found: list[ClassQueue] = []
        for queue in self.classes.values():
            if queue.has_more and not queue.is_filling and queue.head is None:
                found.append(queue)  # noqa: PERF401 - asked for with every commit: this is one call less
        return found

    def forget_empty(self) -> None:
        """Drop classes that have nothing here or in the store."""
        for text in [text for text, queue in self.classes.items() if not len(queue) and not queue.has_more]:
            del self.classes[text]
