import itertools
from pathlib import Path

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


def test_a_session_outlives_the_hub_and_what_is_on_disk_opens_nothing(tmp_path: Path) -> None:
    path, clock = tmp_path / "sessions.json", HandClock()
    before = Sessions(clock, path=path)
    kept, closed, ticket = before.open("t1"), before.open("t2"), before.issue_ticket("t3")
    before.close(closed)
    after = Sessions(clock, path=path)

    assert after.token(kept) == "t1"
    assert after.token(closed) is None
    assert after.redeem(ticket) is None
    assert kept not in path.read_text("utf-8")
    assert path.stat().st_mode & 0o777 == 0o600
    clock.now += SESSION_S
    assert Sessions(clock, path=path).token(kept) is None


def test_a_file_that_is_broken_logs_browsers_out_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "sessions.json"
    path.write_text('{"x": ["t1"', "utf-8")
    sessions = Sessions(HandClock(), path=path)

    assert sessions.token("x") is None
    assert sessions.token(sessions.open("t1")) == "t1"


def test_where_nothing_can_be_kept_a_closed_session_stays_closed(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "sessions.json"
    path.parent.mkdir()
    sessions = Sessions(HandClock(), path=path)
    session = sessions.open("t1")
    path.unlink()
    path.parent.rmdir()  # nobody can write there, not even root
    sessions.close(session)

    assert sessions.token(session) is None
    assert Sessions(HandClock(), path=path).token(session) is None
