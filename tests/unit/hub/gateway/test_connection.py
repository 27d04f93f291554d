"""The promise of a link: an acknowledgement tells only of what is safe; who writes is woken."""

import asyncio
from dataclasses import dataclass
from typing import cast

import pytest
from msgspec.structs import replace

from hub.gateway.connection import BEHIND_BYTES, FORGET_S, Link, Links, Wake
from hub.gateway.line import Line
from protocol import codec
from protocol.limits import MAX_FRAME_BYTES
from protocol.messages import Accept, Ack, Cancel, Log, Pong
from protocol.model import AttemptId
from protocol.session import Session


def accept(number: int) -> bytes:
    return codec.encode(Accept(n=number, attempt=AttemptId("a", 1, f"{number}", 1)))


def acknowledged(link: Link) -> list[int]:
    found = [message for frame in link.session.data_to_send() for message in codec.decode(frame)]
    return [message.n for message in found if isinstance(message, Ack)]


async def test_what_was_safe_before_the_peer_counted_anew_acknowledges_nothing_after_it() -> None:
    link = Link("a", 1, Session())
    link.session.connected(0, 0.0)
    for number in (1, 2):
        link.session.receive(accept(number), 0.0)
    before = link.session.count
    link.answered(1, before)
    assert acknowledged(link) == [1]

    link.session.peer_restarted()
    link.session.connected(0, 1.0)
    for number in (1, 2):
        link.session.receive(accept(number), 1.0)
    link.answered(2, before)  # of the old count: stored late, but the peer means another message by this number
    link.answered(1, link.session.count)
    assert acknowledged(link) == [1]

    link.answered(2, link.session.count)
    assert acknowledged(link) == [2]


async def test_what_is_safe_goes_with_the_next_frame_or_by_itself_soon() -> None:
    link = Link("a", 1, Session())
    link.session.connected(0, 0.0)
    for number in (1, 2):
        link.session.receive(accept(number), 0.0)
    link.answered(1, link.session.count)
    assert not link.work._is_set  # nobody is woken for it alone
    link.send(Cancel(attempt=AttemptId("a", 1, "t", 1), reason="it rides with this"))
    assert acknowledged(link) == [1]

    await link.work.wait()
    link.answered(2, link.session.count)
    await link.work.wait()
    assert acknowledged(link) == [2]


async def test_the_writer_of_an_older_socket_that_ends_leaves_the_later_one_its_wake_up() -> None:
    wake = Wake()
    older = asyncio.create_task(wake.wait())
    await asyncio.sleep(0)
    later = asyncio.create_task(wake.wait())
    await asyncio.sleep(0)
    older.cancel()
    await asyncio.wait({older})
    wake.set()

    await asyncio.wait_for(later, 60.0)


async def test_only_who_answers_what_is_asked_now_is_alive() -> None:
    link = Link("a", 1, Session())
    link.session.connected(0, 0.0)
    link.session.ping(1.0)
    asking = asyncio.create_task(link.answers(2.0, 60.0))
    await asyncio.sleep(0)
    for token in (1, 2):  # the first was on its way before
        assert not asking.done()
        link.session.receive(codec.encode(Pong(token=token)), 3.0)
        link.look()
        await asyncio.sleep(0)

    assert await asking
    assert not await link.answers(3.0, 0.0)
    asking = asyncio.create_task(link.answers(4.0, 60.0))
    await asyncio.sleep(0)
    link.session.disconnected()
    link.wake_waiting()
    assert not await asking


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now_ms(self) -> int:
        return int(self.at * 1000)

    def monotonic(self) -> float:
        return self.at


def output(size_bytes: int) -> Log:
    return Log(attempt=AttemptId("a", 1, "t", 1), offset=0, stream="stdout", text="x" * size_bytes)


def test_a_sidecar_falls_behind_when_much_is_on_its_way_and_catches_up_when_it_says_so() -> None:
    link = Link("a", 1, Session())
    told: list[bool] = []
    link.on_behind = lambda _link, is_behind: told.append(is_behind)
    link.session.connected(0, 0.0)
    link.arrived()
    while not told:
        link.send(output(BEHIND_BYTES // 4))
    assert (told, link.session.unacked) == ([True], 4)

    link.session.receive(codec.encode(Ack(n=4)), 1.0)
    link.look()
    link.look()
    assert told == [True, False]


def test_of_many_messages_one_that_fits_no_frame_keeps_no_other_back() -> None:
    links = Links(HandClock())
    link = links.open("a", 1, Session)
    link.session.connected(0, 0.0)
    fits = [Cancel(attempt=AttemptId("a", 1, f"{number}", 1), reason="") for number in (1, 2)]
    links.send_all("a", 1, [fits[0], replace(fits[0], reason="x" * MAX_FRAME_BYTES), fits[1]])

    (frame,) = link.session.data_to_send()
    assert [message.attempt for message in codec.decode(frame) if isinstance(message, Cancel)] == [
        each.attempt for each in fits
    ]


def test_who_comes_back_behind_is_still_behind() -> None:
    link = Link("a", 1, Session())
    link.send(output(BEHIND_BYTES // 2))
    link.send(output(BEHIND_BYTES // 2))
    told: list[bool] = []
    link.on_behind = lambda _link, is_behind: told.append(is_behind)
    link.arrived()

    assert told == [True]


def test_a_sidecar_that_never_comes_back_is_forgotten_and_others_are_not() -> None:
    clock = HandClock()
    links = Links(clock)
    gone, here = links.open("gone", 1, Session), links.open("here", 1, Session)
    gone.left_at = clock.at
    clock.at += FORGET_S - 1
    links.open("x", 1, Session)
    assert links.kept == 3
    clock.at += 100
    links.open("y", 1, Session)

    assert links.kept == 3
    assert links.open("here", 1, Session) is here
    assert links.open("gone", 1, Session) is not gone


async def test_a_writer_is_woken_by_a_word_before_or_while_it_waits() -> None:
    wake = Wake()
    wake.set()
    await wake.wait()  # set before: it returns at once
    waiting = asyncio.create_task(wake.wait())
    await asyncio.sleep(0)
    assert not waiting.done(), "a word counts once"
    wake.set()
    wake.set()
    await waiting


async def test_a_writer_that_is_cancelled_leaves_nothing_behind() -> None:
    wake = Wake()
    waiting = asyncio.create_task(wake.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    wake.set()
    await wake.wait()


async def test_a_line_whose_token_is_revoked_is_closed_in_the_same_breath_and_no_other() -> None:
    links = Links(HandClock())
    told: list[tuple[str, dict[str, object]]] = []

    @dataclass
    class Standing:
        name: str

        @property
        def is_welcome(self) -> bool:
            return self.name == "welcome"

        async def close(self, **why: object) -> None:
            told.append((self.name, why))

    for name in ("revoked", "welcome", "away"):
        link = links.open(name, 1, Session)
        link.line = None if name == "away" else cast("Line", Standing(name))
    links.look_again()
    revoked, welcome = links.of("revoked"), links.of("welcome")
    assert revoked is not None
    assert welcome is not None

    assert (revoked.line is None, welcome.line is None) == (True, False), "what it says counts no more"
    await asyncio.sleep(0)  # no time passes, nobody writes
    assert told == [("revoked", {"refused": True, "why": "unauthenticated"})]
