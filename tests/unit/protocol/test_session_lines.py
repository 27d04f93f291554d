"""The session over a line that loses what is on it: whatever is done in whatever order, all arrives once, in order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.messages import Ordered
from protocol.session import Session
from tests.support.sessions import joined, note, said


class Line:
    """Two peers, a line between them that loses what is on it when it breaks, and what each has acted on."""

    def __init__(self) -> None:
        self.ends = [Session(), Session()]
        self.frames: list[list[bytes]] = [[], []]  # on the way to each end
        self.taken: list[list[int]] = [[], []]
        self.unsafe: list[list[int]] = [[], []]
        self.sent = [0, 0]
        joined(self.ends[0], self.ends[1])

    def send(self, end: int) -> None:
        self.sent[end] += 1
        self.ends[end].send(note(self.sent[end]))

    def write(self, end: int) -> None:
        self.frames[1 - end] += self.ends[end].data_to_send()

    def read(self, end: int) -> None:
        if self.frames[end]:
            for message in self.ends[end].receive(self.frames[end].pop(0), 0):
                if isinstance(message, Ordered):
                    self.taken[end].append(said(message))
                    self.unsafe[end].append(message.n)

    def make_safe(self, end: int, newest_first: bool) -> None:
        if self.unsafe[end]:
            self.ends[end].acknowledge(self.unsafe[end].pop(-1 if newest_first else 0))

    def cut(self) -> None:
        self.frames = [[], []]
        for session in self.ends:
            session.disconnected()
        joined(self.ends[0], self.ends[1])

    def finish(self) -> None:
        for _ in range(4):
            for end in (0, 1):
                while self.unsafe[end]:
                    self.make_safe(end, newest_first=False)
                self.write(end)
            for end in (0, 1):
                while self.frames[end]:
                    self.read(end)


DEEDS = st.lists(st.tuples(st.sampled_from(["send", "write", "read", "safe", "unsafe", "cut"]), st.integers(0, 1)))


@settings(max_examples=300)
@given(DEEDS)
def test_whatever_the_line_does_everything_arrives_once_and_in_order(deeds: list[tuple[str, int]]) -> None:
    line = Line()
    for deed, end in deeds:
        match deed:
            case "send":
                line.send(end)
            case "write":
                line.write(end)
            case "read":
                line.read(end)
            case "safe" | "unsafe":
                line.make_safe(end, newest_first=deed == "unsafe")
            case _:
                line.cut()
        for side in (0, 1):
            assert line.taken[side] == list(range(1, len(line.taken[side]) + 1))
    line.finish()

    assert line.taken == [list(range(1, line.sent[1] + 1)), list(range(1, line.sent[0] + 1))]
    assert [session.unacked for session in line.ends] == [0, 0]


@settings(max_examples=200)
@given(DEEDS, st.integers(0, 3))
def test_a_peer_that_restarts_gets_all_that_no_boot_of_it_has_made_safe(
    deeds: list[tuple[str, int]], restarts: int
) -> None:
    line = Line()
    safe: set[int] = set()
    for round_ in range(restarts + 1):
        for deed, end in deeds:
            match deed:
                case "send":
                    line.send(0)
                case "write":
                    line.write(end)
                case "read":
                    line.read(end)
                case "safe" | "unsafe":
                    line.make_safe(1, newest_first=False)
                case _:
                    line.cut()
        if round_ < restarts:
            told = line.ends[0].acknowledged
            safe |= set(line.taken[1])
            line.ends[0].disconnected()
            line.ends[1] = Session()
            line.ends[0].peer_restarted()
            line.frames, line.unsafe = [[], []], [[], []]
            joined(line.ends[0], line.ends[1])

            assert told >= 0
    line.finish()

    last = line.taken[1]
    assert set(last) | safe == set(range(1, line.sent[0] + 1))
    assert line.ends[0].unacked == 0
