import itertools

from hub.web.sessions import MAX_KEPT, SESSION_S, TICKET_S, Sessions


class HandClock:
    def __init__(self) -> None:
        self.now = 100.0

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now


def made() -> tuple[Sessions, HandClock]:
    clock, numbers = HandClock(), itertools.count()
    return Sessions(clock, lambda: f"secret{next(numbers)}"), clock


def test_a_session_stands_for_its_token_until_it_is_closed() -> None:
    sessions, _ = made()
    session = sessions.open("t1")

    assert sessions.token(session) == "t1"
    sessions.close(session)
    assert sessions.token(session) is None


def test_a_session_is_over_after_12_hours() -> None:
    sessions, clock = made()
    session = sessions.open("t1")
    clock.now += SESSION_S

    assert sessions.token(session) is None


def test_a_ticket_opens_one_session_only() -> None:
    sessions, _ = made()
    ticket = sessions.issue_ticket("t1")
    session = sessions.redeem(ticket)

    assert session is not None
    assert sessions.token(session) == "t1"
    assert sessions.redeem(ticket) is None


def test_a_ticket_is_worth_nothing_after_5_minutes() -> None:
    sessions, clock = made()
    ticket = sessions.issue_ticket("t1")
    clock.now += TICKET_S

    assert sessions.redeem(ticket) is None


def test_a_ticket_is_no_session_and_a_session_no_ticket() -> None:
    sessions, _ = made()

    assert sessions.token(sessions.issue_ticket("t1")) is None
    assert sessions.redeem(sessions.open("t1")) is None


def test_the_oldest_session_goes_when_there_are_too_many() -> None:
    sessions, _ = made()
    first = sessions.open("t0")
    rest = [sessions.open("t1") for _ in range(MAX_KEPT)]

    assert sessions.token(first) is None
    assert all(sessions.token(session) for session in rest)


def test_real_secrets_differ_and_are_long() -> None:
    sessions = Sessions(HandClock())

    assert len({sessions.open("t") for _ in range(10)}) == 10
    assert len(sessions.open("t")) >= 43
