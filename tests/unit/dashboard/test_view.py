from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dashboard.view import EVENTS_KEPT, STEPS_KEPT, Board, Place, packed


def event(seq: int) -> dict[str, Any]:
    return {"seq": seq, "kind": "task_queued"}


def page_of(
    board: Board, position: str = "", page: dict[str, dict[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """What a page shows that was at ``position`` with ``page`` and has heard the rest: what ``store.js`` does."""
    change, is_whole = board.since(position)
    shown: dict[str, dict[str, Any]] = (
        {} if is_whole or page is None else {name: dict(rows) for name, rows in page.items()}
    )
    for table, rows in change.rows.items():
        mine = shown.setdefault(table, {})
        for key, fields in rows.items():
            if fields is None:
                mine.pop(key, None)
            else:
                mine[key] = {**mine.get(key, {}), **fields}
    return shown


def test_a_page_that_knows_nothing_gets_everything() -> None:
    board = Board("a")
    board.look({"agents": {"one": {"state": "idle", "busy": 0}}}, [event(1)])

    change, is_whole = board.since("")

    assert is_whole
    assert change.rows == {"agents": {"one": {"state": "idle", "busy": 0}}}
    assert change.events == [event(1)]


def test_only_fields_that_differ_are_told_again() -> None:
    board = Board("a")
    board.look({"agents": {"one": {"state": "idle", "busy": 0}, "two": {"state": "idle", "busy": 0}}})
    before = board.position
    board.look({"agents": {"one": {"state": "working", "busy": 0}, "two": {"state": "idle", "busy": 0}}})

    change, is_whole = board.since(before)

    assert not is_whole
    assert change.rows == {"agents": {"one": {"state": "working"}}}


def test_a_row_that_is_gone_is_told_to_be_gone() -> None:
    board = Board("a")
    board.look({"agents": {"one": {"state": "idle"}}})
    before = board.position
    board.look({"agents": {}})

    assert board.since(before)[0].rows == {"agents": {"one": None}}


def test_a_table_that_is_not_named_stays() -> None:
    board = Board("a")
    board.look({"agents": {"one": {"state": "idle"}}, "tasks": {"t": {"state": "queued"}}})
    board.look({"agents": {"one": {"state": "idle"}}})

    assert page_of(board)["tasks"] == {"t": {"state": "queued"}}


def test_a_look_at_the_same_is_no_news() -> None:
    board = Board("a")
    board.look({"agents": {"one": {"state": "idle"}}}, [event(1)])
    before = board.position

    assert not board.look({"agents": {"one": {"state": "idle"}}}, [event(1)])
    assert board.position == before
    assert not board.since(before)[0]


def test_an_event_that_is_there_already_is_passed_over_and_none_is_kept_for_ever() -> None:
    board = Board("a")
    board.look({}, [event(1), event(2)])
    before = board.position
    board.look({}, [event(2), event(3)])

    assert board.since(before)[0].events == [event(3)]
    board.look({}, [event(seq) for seq in range(4, 4 + 2 * EVENTS_KEPT)])
    assert [one["seq"] for one in board.since("")[0].events] == list(range(4 + EVENTS_KEPT, 4 + 2 * EVENTS_KEPT))


def test_a_page_of_another_hub_or_of_long_ago_begins_anew() -> None:
    board = Board("b")
    board.look({"agents": {"one": {"busy": 0}}})
    old = board.position
    for busy in range(1, STEPS_KEPT + 2):
        board.look({"agents": {"one": {"busy": busy}}})

    assert board.since("a-1")[1]
    assert board.since("b-999999")[1]
    assert board.since("nonsense")[1]
    assert not any(map(board.remembers, ("a-1", "nonsense", "b-", "b--1", f"b-{'9' * 5000}", "b-\u0663", old)))
    assert board.since(old)[1]
    assert not board.since(f"b-{STEPS_KEPT}")[1]


ROWS = st.dictionaries(
    st.sampled_from(["one", "two", "three"]), st.fixed_dictionaries({"a": st.integers(0, 2), "b": st.booleans()})
)


@given(st.lists(st.fixed_dictionaries({}, optional={"agents": ROWS, "tasks": ROWS}), min_size=1), st.data())
def test_whatever_a_page_has_missed_it_shows_what_the_board_has(
    looks: list[dict[str, Any]], data: st.DataObject
) -> None:
    board = Board("a")
    position, page = "", dict[str, dict[str, Any]]()
    now: dict[str, dict[str, Any]] = {}
    for look in looks:
        board.look(look)
        now.update(look)
        if data.draw(st.booleans()):
            page, position = page_of(board, position, page), board.position
    page = page_of(board, position, page)

    assert {table: rows for table, rows in page.items() if rows} == {table: rows for table, rows in now.items() if rows}


def unpacked(
    rows: dict[str, dict[str, dict[str, Any] | None]], columns: dict[str, list[dict[str, Any]]]
) -> dict[str, dict[str, dict[str, Any] | None]]:
    """What ``store.js`` makes of it."""
    found = {table: dict(changed) for table, changed in rows.items()}
    for table, groups in columns.items():
        for group in groups:
            for key, values in group["rows"].items():
                found.setdefault(table, {})[key] = dict(zip(group["fields"], values, strict=True))
    return found


fields = st.none() | st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3)


@given(st.dictionaries(st.sampled_from(["a", "b"]), st.dictionaries(st.text(max_size=3), fields, min_size=1)))
def test_what_is_packed_says_the_same(rows: dict[str, dict[str, dict[str, Any] | None]]) -> None:
    assert unpacked(*packed(rows)) == rows


def test_rows_that_differ_in_the_same_fields_name_them_once() -> None:
    left, columns = packed(
        {"gpus": {**{f"g{n}": {"used": n, "heat": 40} for n in range(3)}, "new": {"used": 1}, "old": None}}
    )

    assert left == {"gpus": {"new": {"used": 1}, "old": None}}
    assert columns == {"gpus": [{"fields": ("used", "heat"), "rows": {"g0": [0, 40], "g1": [1, 40], "g2": [2, 40]}}]}


@given(st.sampled_from(["", "a-0", "0123abcd-17"]), st.none() | st.integers(0, 2**63 - 1))
def test_a_place_is_read_as_it_was_told(board: str, log: int | None) -> None:
    assert Place.read(str(Place(board, log))) == Place(board, log)


def test_an_id_of_the_board_alone_is_a_place() -> None:
    board = Board("0123abcd")
    board.look({"agents": {"one": {}}})

    assert Place.read(board.position) == Place(board.position)
    assert Place.read(f"{board.position}.7") == Place(board.position, 7)
    assert Place.read(".7") == Place("", 7)


def test_what_nobody_ever_told_is_no_place() -> None:
    for text in ("of-another-hub-7", "a-1.", "a-1.x", "a-1.-1", "a-1\ndata: x", "a-1.\u0663", "a", "a-1.2.3", "x" * 99):
        assert Place.read(text) == Place()
    assert Place.read(f"a-1.{2**63}") == Place("a-1")


@given(st.text(max_size=30))
def test_a_place_is_one_line_whatever_is_read(text: str) -> None:
    assert str(Place.read(text)).isprintable()
