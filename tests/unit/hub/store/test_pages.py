"""The promises of the layer below the checksums: a page counts in its own place only, other files are left alone."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from hub.store.pages import AHEAD_BYTES, PAGE_BYTES, _Handle
from hub.store.sqlite_file import check_whole, connect
from protocol.errors import StoreDamaged
from tests.support.bad_disk import BadDisk, Call


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


def test_a_transaction_that_is_longer_than_memory_finds_what_it_has_written_itself(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / "x.sqlite"), 1.0)
    other = connect(str(tmp_path / "x.sqlite"), 1.0)
    connection.execute("PRAGMA cache_size = 5")
    connection.execute("CREATE TABLE t (a)")
    with connection:
        connection.executemany("INSERT INTO t VALUES (?)", [(bytes([number % 256]) * 3_000,) for number in range(900)])
        connection.execute("UPDATE t SET a = zeroblob(3001) WHERE rowid % 2 = 0")
        inside = connection.execute("SELECT count(*), sum(length(a)) FROM t").fetchall()
        outside = other.execute("SELECT count(*) FROM t").fetchall()

    assert inside == [(900, 900 * 3_000 + 450)]
    assert outside == [(0,)]
    assert other.execute("SELECT count(*), sum(length(a)) FROM t").fetchall() == inside
    connection.close()
    other.close()
    assert read_whole(tmp_path / "x.sqlite") == inside


def read_whole(path: Path) -> list[tuple[Any, ...]]:
    connection = connect(str(path), 1.0)
    try:
        check_whole(connection, str(path), deep=True)
        return connection.execute("SELECT count(*), sum(length(a)) FROM t").fetchall()
    finally:
        connection.close()


def test_a_connection_that_closes_takes_no_lock_of_another_one_along(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    stays, goes = connect(str(path), 1.0), connect(str(path), 1.0)
    stays.execute("CREATE TABLE t (a)")
    goes.execute("INSERT INTO t VALUES (1), (2), (3)")
    goes.close()
    takes_all = f"""
import apsw
other = apsw.Connection({str(path)!r}, vfs="unix")
try:
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("PRAGMA journal_mode = DELETE")
    print("alone")
except apsw.BusyError:
    print("busy")
"""

    found = subprocess.run([sys.executable, "-c", takes_all], capture_output=True, text=True, check=True, timeout=60)

    assert found.stdout.split() == ["busy"]
    assert stays.execute("SELECT count(*) FROM t").fetchall() == [(3,)]
    stays.close()


COUNTS_DURING_A_SYNC = """
import sys, threading, time
from hub.store.sqlite_file import connect
connection = connect(sys.argv[1], 1.0)
connection.execute("CREATE TABLE t (a)")
connection.execute("INSERT INTO t VALUES (1)")
print("ready", flush=True)
sys.stdin.readline()
many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 45) "
insert = many + "INSERT INTO t SELECT randomblob(3000) FROM n"
writer = threading.Thread(target=lambda: connection.execute(insert))
writer.start()
turns = 0
while writer.is_alive():
    time.sleep(0.01)
    turns += 1
print(turns, flush=True)
connection.close()
"""


def test_a_commit_leaves_in_one_piece_and_others_go_on_while_it_waits_for_the_disk(tmp_path: Path) -> None:
    disk = BadDisk(tmp_path / "control", "x.sqlite-wal$")
    command = [sys.executable, "-c", COUNTS_DURING_A_SYNC, str(tmp_path / "x.sqlite")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | disk.env
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        disk.arm("delay", calls=["sync"], delay_ms=1_500)
        began_ns = time.time_ns()
        process.stdin.write("\n")
        process.stdin.flush()
        turns = int(process.stdout.readline())

    calls = [(call.kind, call.size_bytes > 40 * 3_000) for call in disk.seen() if call.at_ns > began_ns]
    assert calls[:2] == [("write", True), ("sync", False)], "all of a commit in one piece, and then it waits"
    assert turns > 10


def test_a_file_may_be_closed_by_the_collector_while_another_is_opened(tmp_path: Path) -> None:
    """It comes in the middle of anything, in the same thread: that thread once waited for itself for ever."""
    (tmp_path / "x").touch()
    found = (tmp_path / "x").stat()
    handle = _Handle.of(str(tmp_path / "x"))

    def collected() -> None:
        with _Handle._guard:  # as who opens a file holds it
            handle.close()

    thread = threading.Thread(target=collected, daemon=True)
    thread.start()
    thread.join(10)

    assert not thread.is_alive()
    assert (found.st_dev, found.st_ino) not in _Handle._known


def test_every_commit_reaches_the_file_before_another_connection_hears_of_it(tmp_path: Path) -> None:
    """What is written to the log is kept until it is synced, so no connection may commit without that."""
    writing, reading = (connect(str(tmp_path / "x.sqlite"), 1.0) for _ in range(2))
    assert [c.execute("PRAGMA synchronous").fetchall() for c in (writing, reading)] == [[(2,)], [(2,)]]

    writing.execute("CREATE TABLE t (a)")
    for number in range(3):
        writing.execute("INSERT INTO t VALUES (?)", (number,))
        assert reading.execute("SELECT count(*) FROM t").fetchall() == [(number + 1,)]


# --- a commit that is not synced --------------------------------------------------------------------------------------

COMMITS_UNSYNCED = """
import sys
from hub.store.pages import UNSYNCED
from hub.store.sqlite_file import connect
connection, other = connect(sys.argv[1], 1.0), connect(sys.argv[1], 1.0)
log = connection.filename_wal
def commit(number):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (?)", (number,))
    connection.execute("COMMIT")
    print("committed", other.execute("SELECT count(*) FROM t").fetchall()[0][0], flush=True)
    sys.stdin.readline()
connection.execute("CREATE TABLE t (a)")
commit(1)
UNSYNCED.add(log)
commit(2)
commit(3)
UNSYNCED.discard(log)
commit(4)
connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
UNSYNCED.add(log)
commit(5)
commit(6)
UNSYNCED.discard(log)
connection.close()
"""


def test_only_a_commit_that_is_safe_elsewhere_is_not_synced_and_others_hear_of_it_from_the_file(tmp_path: Path) -> None:
    disk = BadDisk(tmp_path / "control", "x.sqlite-wal$")
    command = [sys.executable, "-c", COMMITS_UNSYNCED, str(tmp_path / "x.sqlite")]
    calls = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | disk.env
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(1, 7):
            assert process.stdout.readline() == f"committed {number}\n"
            calls.append([call.kind for call in disk.seen()])
            disk.forget()
            process.stdin.write("\n")
            process.stdin.flush()

    assert calls[0][-2:] == ["write", "sync"]
    assert calls[1:4] == [["write"], ["write"], ["write", "sync"]]
    assert calls[4] == ["sync", "write", "sync", "write"], "the copying, and the header of the log that begins again"
    assert calls[5] == ["write"]


def test_a_log_is_only_left_unsynced_by_its_own_path(tmp_path: Path) -> None:
    seen = []
    for name in ("x", "y"):
        disk = BadDisk(tmp_path / "control", f"{name}.sqlite-wal$")
        program = COMMITS_UNSYNCED.replace("UNSYNCED.add(log)", f"UNSYNCED.add({str(tmp_path / 'x.sqlite-wal')!r})")
        command = [sys.executable, "-c", program, str(tmp_path / f"{name}.sqlite")]
        subprocess.run(command, input="\n" * 6, env=os.environ | disk.env, check=True, timeout=60, text=True)
        seen.append([call.kind for call in disk.seen()].count("sync"))
        disk.forget()

    assert seen[1] == seen[0] + 4, "of six commits four name the other log"


LONG_UNSYNCED = """
import sys
from hub.store.pages import UNSYNCED
from hub.store.sqlite_file import connect
connection = connect(sys.argv[1], 1.0)
connection.execute("CREATE TABLE t (a)")
def unsynced(count):
    UNSYNCED.add(connection.filename_wal)
    for number in range(count):
        connection.execute("INSERT INTO t VALUES (?)", (bytes(100_000),))
    UNSYNCED.clear()
unsynced(7)
connection.execute("INSERT INTO t VALUES (1)")
unsynced(3)
connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
unsynced(3)
assert connection.execute("SELECT count(*) FROM t").fetchall() == [(14,)]
"""


def test_a_long_log_that_is_not_synced_is_begun_to_be_written_part_by_part(tmp_path: Path) -> None:
    disk = BadDisk(tmp_path / "control", "x.sqlite-wal$")
    command = [sys.executable, "-c", LONG_UNSYNCED, str(tmp_path / "x.sqlite")]

    subprocess.run(command, env=os.environ | disk.env, check=True, timeout=60)

    def end(call: Call) -> int:
        return call.offset + call.size_bytes

    calls = [call for call in disk.seen() if call.kind != "truncate"]
    begun = [number for number, call in enumerate(calls) if call.kind == "flush"]
    assert len(begun) == 4, "of seven commits of 100 kB two, and one of each three that follow"
    for number in begun:
        assert calls[number].size_bytes >= AHEAD_BYTES - PAGE_BYTES
        assert end(calls[number]) == end(calls[number - 1]) // PAGE_BYTES * PAGE_BYTES, "the last page is not whole"
    first, second, third, fourth = (calls[number] for number in begun)
    synced = next(number for number, call in enumerate(calls) if call.kind == "sync" and number > begun[1])
    assert second.offset == end(first)
    assert third.offset == end(calls[synced - 1]), "what was synced needs no help"
    assert fourth.offset < PAGE_BYTES, "the log has begun again"


@pytest.mark.parametrize("fault, says", [("EIO", "apsw.IOError"), ("ENOSPC", "apsw.IOError"), ("EINVAL", "")])
def test_a_log_that_cannot_even_begin_to_be_written_is_no_log_to_rely_on(tmp_path: Path, fault: str, says: str) -> None:
    """The system may have dropped what it was to write, and say so only once; not where it does not know the call."""
    disk = BadDisk(tmp_path / "control", "x.sqlite-wal$")
    disk.arm(fault, calls=["flush"], times=0)
    command = [sys.executable, "-c", LONG_UNSYNCED, str(tmp_path / "x.sqlite")]

    done = subprocess.run(command, env=os.environ | disk.env, check=False, timeout=60, capture_output=True, text=True)

    assert next(call.errno for call in disk.seen() if call.kind == "flush") == getattr(errno, fault)
    assert (done.returncode != 0) is bool(says)
    assert says in done.stderr
