"""The promises of the redo journal: what it has taken is there to be read, whole and in order, and nothing else is."""

import enum
import errno
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from hub.store.mark import Progress
from hub.store.pages import PAGE_BYTES
from hub.store.redo import REDO_BYTES, Record, Redo, RedoFile, Statement, _page, pending, redo_of
from protocol.errors import StoreDamaged

STORE: Final = 0xFEDCBA9876543210
OTHER: Final = 7
SECTOR_BYTES: Final = 512


class Colour(enum.StrEnum):
    RED = "red"


def insert(*values: Any) -> list[Statement]:
    return [("INSERT INTO t VALUES (?)", values)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Redo]:
    made = Redo(RedoFile(redo_of(path)), STORE)
    made.restart()
    yield made
    made.close()


def kept(path: Path, commits: int = 0, store: int = STORE) -> list[tuple[int, list[Any]]]:
    """What a store that has so many commits finds: the number of each record, and the values of its first statement."""
    return [(record.commit, list(record.statements[0][1])) for record in pending(path, Progress(store, commits))]


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_is_made_in_its_full_size_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        RedoFile(tmp_path / "x").close()
    finally:
        os.umask(before)
    found = (tmp_path / "x").stat()

    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (REDO_BYTES, 0o600)


@pytest.mark.parametrize("size", [0, 1, REDO_BYTES - 1, REDO_BYTES + PAGE_BYTES])
def test_a_file_of_another_size_is_made_anew(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(b"x" * size)
    RedoFile(tmp_path / "x").close()

    assert (tmp_path / "x").read_bytes() == bytes(REDO_BYTES)


def test_a_file_of_its_size_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * REDO_BYTES)
    RedoFile(tmp_path / "x").close()

    assert (tmp_path / "x").read_bytes() == b"x" * REDO_BYTES


def test_a_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Is a directory"):
        RedoFile(tmp_path)


# --- what it takes ----------------------------------------------------------------------------------------------------


def test_what_was_added_is_found_as_it_was(path: Path, journal: Redo) -> None:
    values = [None, True, False, 0, -1, (1 << 63) - 1, 1 - (1 << 63), 1.5, "", "a\0ü🚀", b"", b"\0\xff" * 9, Colour.RED]
    statements = [("UPDATE t SET a = ?", values), ("DELETE FROM t", ()), ("-- ü", [b"x"])]

    assert journal.add(4, statements)
    assert pending(path, Progress(STORE, 3)) == [
        Record(4, [("UPDATE t SET a = ?", [*values[:-1], "red"]), ("DELETE FROM t", []), ("-- ü", [b"x"])])
    ]


@pytest.mark.parametrize("size", [1, PAGE_BYTES - 70, *range(PAGE_BYTES - 68, PAGE_BYTES - 60), 40_000])
def test_records_of_any_length_lie_one_behind_the_other(path: Path, journal: Redo, size: int) -> None:
    for commit in (1, 2, 3):
        assert journal.add(commit, insert(bytes([commit]) * size))

    assert kept(path) == [(commit, [bytes([commit]) * size]) for commit in (1, 2, 3)]


def test_no_record_shares_a_page_with_another(path: Path, journal: Redo) -> None:
    journal.add(1, insert(b"x" * 5_000))
    before = redo_of(path).read_bytes()
    journal.add(2, insert("y"))
    after = redo_of(path).read_bytes()

    assert after[: 2 * PAGE_BYTES] == before[: 2 * PAGE_BYTES]
    assert not any(before[2 * PAGE_BYTES :])


def test_what_the_store_has_is_not_found_any_more(path: Path, journal: Redo) -> None:
    for commit in (5, 6, 7, 8):
        journal.add(commit, insert(commit))

    assert kept(path, 4) == [(5, [5]), (6, [6]), (7, [7]), (8, [8])]
    assert kept(path, 6) == [(7, [7]), (8, [8])]
    assert kept(path, 8) == []
    assert kept(path, 100) == []


def test_a_journal_that_is_not_there_holds_nothing(path: Path) -> None:
    assert kept(path) == []


def test_a_full_journal_takes_no_more_and_keeps_what_it_has(path: Path, journal: Redo) -> None:
    commit = 0
    while journal.add(commit + 1, insert(bytes([commit % 256]) * 10_000)):
        commit += 1

    assert commit == REDO_BYTES // (3 * PAGE_BYTES)
    assert redo_of(path).stat().st_size == REDO_BYTES
    assert kept(path) == [(number + 1, [bytes([number % 256]) * 10_000]) for number in range(commit)]


def test_a_record_that_fills_the_journal_to_its_end_is_taken_and_one_byte_more_is_not(
    path: Path, journal: Redo
) -> None:
    size = next(size for size in range(REDO_BYTES - 200, REDO_BYTES) if not journal.add(1, insert(b"x" * size)))
    journal.restart()
    assert journal.add(2, insert(b"x" * (size - 1)))
    assert not journal.add(3, insert("y"))

    assert redo_of(path).stat().st_size == REDO_BYTES
    assert kept(path, 1) == [(2, [b"x" * (size - 1)])]


@pytest.mark.parametrize("odd", [1 << 64, 1 << 200, "\ud800", object()])
def test_what_cannot_be_written_down_is_not_taken_and_leaves_nothing(path: Path, journal: Redo, odd: object) -> None:
    journal.add(1, insert("a"))

    assert not journal.add(2, insert("b", odd))
    assert kept(path) == [(1, ["a"])]


def test_nothing_is_taken_before_the_store_has_synced_what_may_be_in_it(path: Path) -> None:
    journal = Redo(RedoFile(redo_of(path)), STORE)
    was_taken = journal.add(1, insert("a"))
    had_room = journal.has_room
    journal.restart()

    assert not was_taken
    assert not had_room
    assert journal.has_room
    assert journal.add(1, insert("a"))
    journal.close()


def test_a_page_that_the_disk_does_not_return_holds_nothing(path: Path, journal: Redo) -> None:
    journal.add(1, insert("a"))
    with redo_of(path).open("rb") as file:
        number = file.fileno()
        whole = _page(number, 0)

    assert whole.startswith(b"\xff\0redo01")
    assert _page(number, 0) == bytes(PAGE_BYTES), "as of a file that cannot be read any more"


# --- from the start again ---------------------------------------------------------------------------------------------


def test_after_a_restart_older_records_behind_the_new_ones_count_no_more(path: Path, journal: Redo) -> None:
    for commit in (1, 2, 3, 4):
        journal.add(commit, insert(commit))
    journal.restart()  # the store has synced number 5
    journal.add(6, insert(6))

    assert kept(path, 5) == [(6, [6])]
    assert kept(path, 6) == []


def test_after_a_restart_the_rest_of_a_long_record_that_was_written_over_is_no_record(
    path: Path, journal: Redo
) -> None:
    journal.add(1, insert(b"".join(record_of(STORE, 7, insert("in it")) for _ in range(3)), b"x" * 9_000))
    journal.add(2, insert(2))
    journal.restart()
    journal.add(4, insert(4))

    assert kept(path, 3) == [(4, [4])]


def test_a_store_that_is_opened_again_begins_at_the_start(path: Path, journal: Redo) -> None:
    journal.add(1, insert(1))
    again = Redo(RedoFile(redo_of(path)), STORE)
    again.restart()
    again.add(2, insert(2))
    again.close()

    assert kept(path, 1) == [(2, [2])]
    assert kept(path, 2) == []


# --- what is not whole ------------------------------------------------------------------------------------------------


def record_of(store: int, commit: int, statements: Sequence[Statement]) -> bytes:
    """The bytes of a record as the file has to hold them, made by hand: the form is a promise to older files."""
    body = b"\x91\x92" + _text(statements[0][0]) + b"\x91" + _text(str(statements[0][1][0]))
    head = struct.pack("<8sQQI", b"\xff\0redo01", store, commit, len(body))
    raw = head + struct.pack("<I", zlib.crc32(body, zlib.crc32(head + bytes(4)))) + body
    return raw + bytes(-len(raw) % PAGE_BYTES)


def _text(text: str) -> bytes:
    raw = text.encode()
    return bytes([0xA0 + len(raw)] if len(raw) < 32 else [0xD9, len(raw)]) + raw


def test_the_form_of_a_record_is_the_one_that_older_files_have(path: Path, journal: Redo) -> None:
    journal.add(9, insert("a"))

    assert redo_of(path).read_bytes()[:PAGE_BYTES] == record_of(STORE, 9, insert("a"))


def put(path: Path, offset: int, data: bytes) -> None:
    with redo_of(path).open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_record_that_lacks_a_sector_is_as_if_it_was_never_there(path: Path, journal: Redo) -> None:
    journal.add(1, insert("a"))
    journal.add(2, insert(b"x" * 9_000))
    whole = redo_of(path).read_bytes()
    length = struct.unpack_from("<I", whole, PAGE_BYTES + 24)[0] + 32
    sectors = range(PAGE_BYTES, PAGE_BYTES + length, SECTOR_BYTES)
    assert kept(path) == [(1, ["a"]), (2, [b"x" * 9_000])]

    for place in sectors:
        put(path, place, bytes(SECTOR_BYTES))
        assert kept(path) == [(1, ["a"])], f"without the sector at {place}"
        put(path, 0, whole)
    assert len(sectors) > 16


def test_a_record_with_any_bit_of_its_head_turned_is_as_if_it_was_never_there(path: Path, journal: Redo) -> None:
    journal.add(1, insert("a"))
    journal.add(2, insert("b"))
    whole = redo_of(path).read_bytes()
    for bit in range(8 * 40):
        byte = whole[PAGE_BYTES + bit // 8] ^ (1 << bit % 8)
        put(path, PAGE_BYTES + bit // 8, bytes([byte]))
        assert kept(path) == [(1, ["a"])], f"bit {bit}"
        put(path, 0, whole)


def test_half_a_record_over_an_older_one_is_neither(path: Path, journal: Redo) -> None:
    journal.add(1, insert(b"x" * 9_000))
    journal.restart()
    old = redo_of(path).read_bytes()
    journal.add(2, insert(b"y" * 9_000))
    new = redo_of(path).read_bytes()
    for cut in range(SECTOR_BYTES, 9_000, SECTOR_BYTES):
        for image in (new[:cut] + old[cut:], old[:cut] + new[cut:]):
            redo_of(path).write_bytes(image)
            assert kept(path, 1) == []


def test_a_file_that_was_cut_off_holds_the_records_that_are_whole(path: Path, journal: Redo) -> None:
    for commit in (1, 2):
        journal.add(commit, insert(b"x" * 5_000))
    os.truncate(redo_of(path), 3 * PAGE_BYTES)

    assert kept(path) == [(1, [b"x" * 5_000])]


def test_a_record_of_another_store_is_none(path: Path, journal: Redo) -> None:
    journal.add(1, insert("a"))
    put(path, PAGE_BYTES, record_of(OTHER, 2, insert("b")))

    assert kept(path) == [(1, ["a"])]
    assert kept(path, 1, OTHER) == [(2, ["b"])]


def test_a_journal_that_does_not_go_on_where_the_store_ends_is_damage(path: Path, journal: Redo) -> None:
    journal.add(5, insert(5))
    journal.add(6, insert(6))

    with pytest.raises(StoreDamaged, match=r"ends with commit 3, and hub\.sqlite-redo does not go on from there"):
        pending(path, Progress(STORE, 3))


def test_a_damaged_record_with_a_whole_one_behind_it_is_damage(path: Path, journal: Redo) -> None:
    for commit in (1, 2, 3):
        journal.add(commit, insert(commit))
    put(path, PAGE_BYTES + 40, b"\xff")

    with pytest.raises(StoreDamaged, match="does not go on from there"):
        pending(path, Progress(STORE, 0))
    assert kept(path, 2) == [(3, [3])], "a store that has the damaged one does not need it"


def test_a_commit_that_is_there_twice_is_damage(path: Path, journal: Redo) -> None:
    journal.add(1, insert(1))
    put(path, PAGE_BYTES, record_of(STORE, 1, insert("b")))

    with pytest.raises(StoreDamaged, match="does not go on"):
        pending(path, Progress(STORE, 0))


# --- a disk that does not do as it should -----------------------------------------------------------------------------


class BadFile(RedoFile):
    """Says what the system says of a bad disk, to the next call that ``fails``; half of what is written arrives."""

    fails = ""
    number = errno.EIO

    def write(self, data: bytes, offset: int) -> None:
        if self.fails != "write":
            super().write(data, offset)
            return
        super().write(data[: len(data) // 2], offset)
        raise OSError(self.number, os.strerror(self.number))

    def sync(self) -> None:
        if self.fails == "sync":
            raise OSError(self.number, os.strerror(self.number))
        super().sync()


@pytest.fixture
def bad(path: Path) -> Iterator[BadFile]:
    made = BadFile(redo_of(path))
    yield made
    made.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_record_that_finds_no_room_is_not_taken_and_the_next_one_takes_its_place(
    path: Path, bad: BadFile, number: int
) -> None:
    journal = Redo(bad, STORE)
    journal.restart()
    journal.add(1, insert("a"))
    bad.fails, bad.number = "write", number
    assert not journal.add(2, insert(b"x" * 9_000))
    assert kept(path) == [(1, ["a"])]
    bad.fails = ""
    journal.add(2, insert("b"))

    assert kept(path) == [(1, ["a"]), (2, ["b"])]


@pytest.mark.parametrize("fails, number", [("write", errno.EIO), ("sync", errno.EIO), ("sync", errno.ENOSPC)])
def test_any_other_error_is_for_whoever_asked(bad: BadFile, fails: str, number: int) -> None:
    journal = Redo(bad, STORE)
    journal.restart()
    bad.fails, bad.number = fails, number

    with pytest.raises(OSError, match=os.strerror(number)):
        journal.add(1, insert("a"))


def test_nothing_is_taken_before_it_is_synced(path: Path) -> None:
    synced: list[bytes] = []

    class Watched(RedoFile):
        def sync(self) -> None:
            super().sync()
            synced.append(self.path.read_bytes())

    journal = Redo(Watched(redo_of(path)), STORE)
    journal.restart()
    assert journal.add(1, insert("a"))
    journal.close()

    assert synced == [redo_of(path).read_bytes()]
    assert kept(path) == [(1, ["a"])]
