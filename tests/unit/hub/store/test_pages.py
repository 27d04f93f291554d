"""The promises of the layer below the checksums: a page counts in its own place only, other files are left alone."""

import shutil
from pathlib import Path

import apsw
import pytest

from hub.store.pages import PAGE_BYTES
from hub.store.sqlite_file import check_whole, connect
from protocol.errors import StoreDamaged


@pytest.fixture
def raw(tmp_path: Path) -> bytes:
    """The bytes of a store whose values lie in pages of their own."""
    connection = connect(str(tmp_path / "x.sqlite"), 1.0)
    connection.execute("CREATE TABLE t (a TEXT PRIMARY KEY, b BLOB) WITHOUT ROWID")
    for number in range(20):
        connection.execute("INSERT INTO t VALUES (?, ?)", (f"{number:03}", bytes([number + 1]) * 4_500))
    connection.close()
    return (tmp_path / "x.sqlite").read_bytes()


def page(raw: bytes, number: int) -> bytes:
    return raw[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]


def read(path: Path) -> int:
    """Read every value, as a hub that has looked at nothing before."""
    connection = connect(str(path), 1.0, read_only=True)
    try:
        return len(connection.execute("SELECT * FROM t").fetchall())
    finally:
        connection.close()


@pytest.mark.parametrize("spoil", ["zeros", "another"])
def test_no_page_counts_anywhere_but_in_its_own_place(tmp_path: Path, raw: bytes, spoil: str) -> None:
    path, pages = tmp_path / "y.sqlite", len(raw) // PAGE_BYTES
    for number in range(1, pages):
        other = bytes(PAGE_BYTES) if spoil == "zeros" else page(raw, number % (pages - 1) + 1)
        path.write_bytes(raw[: number * PAGE_BYTES] + other + raw[(number + 1) * PAGE_BYTES :])

        with pytest.raises(apsw.IOError):
            read(path)


def test_a_copy_of_the_file_is_as_good_as_the_file_and_other_programs_read_it(tmp_path: Path, raw: bytes) -> None:
    shutil.copyfile(tmp_path / "x.sqlite", tmp_path / "z.sqlite")
    stranger = apsw.Connection(str(tmp_path / "z.sqlite"), vfs="unix")

    assert read(tmp_path / "z.sqlite") == 20
    assert stranger.execute("SELECT count(*) FROM t").fetchall() == [(20,)]
    stranger.close()


def test_what_another_program_has_written_is_found_out(tmp_path: Path, raw: bytes) -> None:
    stranger = apsw.Connection(str(tmp_path / "x.sqlite"), vfs="unix")
    stranger.execute("UPDATE t SET b = x'00'")
    stranger.close()
    connection = connect(str(tmp_path / "x.sqlite"), 1.0, read_only=True)

    with pytest.raises(StoreDamaged):
        check_whole(connection, "x", deep=False)
    connection.close()


def test_a_file_without_checksums_is_left_as_it_is(tmp_path: Path) -> None:
    stranger = apsw.Connection(str(tmp_path / "w.sqlite"), vfs="unix")
    stranger.execute("CREATE TABLE t (a)")
    stranger.close()
    before = (tmp_path / "w.sqlite").read_bytes()

    assert read(tmp_path / "w.sqlite") == 0
    assert (tmp_path / "w.sqlite").read_bytes() == before
