"""The promise of unpacking: nothing is written outside the folder, whatever an archive says, and none grows for ever.

``./run soak`` tries 100,000 hostile archives instead of a few hundred (``AGENTCOM_ARCHIVES``: another number).
"""

import contextlib
import io
import os
import random
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.archives import Limits, extract, place
from protocol.errors import BadInput

TRIES = int(os.environ.get("AGENTCOM_ARCHIVES", "100000"))
LIMITS = Limits(files=20, ratio=20, free_bytes=64 << 10)
CLIMBS = (
    "../out.txt", "a/../../out.txt", "/tmp/out.txt", "..", "./../out.txt", "a/./../../out.txt", "C:\\out.txt",
    "C:out.txt", "..\\out.txt", "a\\..\\..\\out.txt", "//host/out.txt", "a/" * 100 + "x", "x" * 300, "a\0b",
)  # fmt: skip
GOOD = ("a.txt", "b/c.txt", "./d.txt", "e/./f", "ünï", "sp ace")


def tar_of(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as made:  # type: ignore[call-overload]  # any of the library's modes
        for entry, content in entries:
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, link, mode
    return found


def zip_of(path: Path, entries: list[tuple[str, bytes, int]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content, mode in entries:
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr, info.compress_type = name, mode << 16, zipfile.ZIP_DEFLATED
            made.writestr(info, content)
    return path


def everything(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from everything(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_unpacked(tmp_path: Path, mode: str) -> None:
    made = tar_of(
        tmp_path / "a.tar",
        [(entry("d", tarfile.DIRTYPE), b""), (entry("d/a.txt"), b"one"), (entry("run", mode=0o755), b"#!")],
        mode,
    )

    assert extract(made, tmp_path / "out") == ("d/a.txt", "run")
    assert (tmp_path / "out" / "d" / "a.txt").read_bytes() == b"one"
    assert (tmp_path / "out" / "run").stat().st_mode & stat.S_IXUSR


def test_a_zip_is_unpacked(tmp_path: Path) -> None:
    made = zip_of(tmp_path / "a.zip", [("d/", b"", 0o40755), ("d/a.txt", b"one", 0), ("run", b"#!", 0o100755)])

    assert extract(made, tmp_path / "out") == ("d/a.txt", "run")
    assert (tmp_path / "out" / "run").stat().st_mode & stat.S_IXUSR


def test_what_is_no_archive_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no archive at all")

    assert extract(tmp_path / "a.txt", tmp_path / "out") == ()


@pytest.mark.parametrize("name", CLIMBS)
def test_a_path_that_leaves_the_folder_ends_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        place(tmp_path / "out", name)


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
    entries = [(entry(f"n{number}", kind, "/etc/passwd"), b"") for number, kind in enumerate(kinds)]
    made = tar_of(tmp_path / "a.tar", [*entries, (entry("ok"), b"x")])
    zipped = zip_of(tmp_path / "a.zip", [("link", b"/etc/passwd", 0o120777), ("ok", b"x", 0)])

    assert extract(made, tmp_path / "one") == ("ok",)
    assert extract(zipped, tmp_path / "two") == ("ok",)
    assert [path.name for folder in ("one", "two") for path in everything(tmp_path / folder)] == ["ok", "ok"]


def test_a_link_that_is_there_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "d").symlink_to(outside)
    (out / "f").symlink_to(outside / "f")

    for name in ("d/x", "f"):
        with pytest.raises(BadInput):
            extract(zip_of(tmp_path / "a.zip", [(name, b"x", 0)]), out)
    assert list(outside.iterdir()) == []


def test_a_bomb_ends_at_its_limit(tmp_path: Path) -> None:
    bomb = zip_of(tmp_path / "a.zip", [("a", bytes(8 << 20), 0)])
    many = tar_of(tmp_path / "a.tar", [(entry(f"{number}"), b"") for number in range(50)])

    with pytest.raises(BadInput, match="too large"):
        extract(bomb, tmp_path / "one", Limits(ratio=10, free_bytes=1 << 20))
    with pytest.raises(BadInput, match="one too many"):
        extract(many, tmp_path / "two", Limits(files=10))
    assert sum(path.stat().st_size for path in everything(tmp_path / "one")) <= 2 << 20


def test_a_name_of_megabytes_is_not_read(tmp_path: Path) -> None:
    head = tarfile.TarInfo("././@PaxHeader")
    head.type = tarfile.XHDTYPE
    made = tar_of(tmp_path / "a.tar.gz", [(entry("ok"), b"x"), (head, bytes(4 << 20))], "w:gz")

    with pytest.raises(BadInput, match="a name of 4,194,304 bytes"):
        extract(made, tmp_path / "out")


def filling(chance: random.Random) -> bytes:
    """Some bytes; now and then a bomb."""
    return bytes(1 << 20) if chance.random() < 0.05 else b"x" * chance.randint(0, 50)


def hostile(chance: random.Random, path: Path) -> Path:
    """An archive with good and bad entries, links among them, perhaps cut off or with some bytes wrong."""
    names = [chance.choice(CLIMBS if chance.random() < 0.3 else GOOD) for _ in range(chance.randint(1, 5))]
    if chance.random() < 0.5:
        kinds = (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE,
                 tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)  # fmt: skip
        entries = []
        for name in names:
            kind = chance.choice(kinds)
            link = chance.choice(["..", "/", "../outside", "a.txt", "b"])
            entries.append((entry(name.replace("\0", "0"), kind, link), filling(chance)))
            if kind == tarfile.SYMTYPE and chance.random() < 0.7:  # a link first, then something through it
                entries.append((entry(f"{name.replace(chr(0), '0')}/through.txt"), b"x"))
        entries = [(e, c if e.type == tarfile.REGTYPE else b"") for e, c in entries]
        tar_of(path, entries, chance.choice(["w", "w:gz"]))
    else:
        modes = [0, 0o120777, 0o100644, 0o020666, 0o060666, 0o010644]
        zip_of(path, [(name, filling(chance), chance.choice(modes)) for name in names])
    raw = bytearray(path.read_bytes())
    for _ in range(chance.choice([0, 0, 1, 5])):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    path.write_bytes(raw[: chance.choice([len(raw), len(raw), chance.randint(1, len(raw))])])
    return path


def try_many(tmp_path: Path, tries: int, seed: int) -> None:
    chance, refused = random.Random(seed), 0
    room = tmp_path / "room"
    for _ in range(tries):
        out = room / "out"
        out.mkdir(parents=True)
        (room / "outside").mkdir()
        try:
            extract(hostile(chance, tmp_path / "archive"), out, LIMITS)
        except BadInput:
            refused += 1
        most = max(LIMITS.free_bytes, LIMITS.ratio * (tmp_path / "archive").stat().st_size)
        assert sum(path.stat().st_size for path in everything(out) if path.is_file()) <= most
        assert sorted(path.name for path in room.iterdir()) == ["out", "outside"]
        assert list((room / "outside").iterdir()) == []
        for path in sorted(everything(room), reverse=True):
            assert not path.is_symlink(), path
            assert path.is_dir() or path.is_file()
            path.rmdir() if path.is_dir() else path.unlink()

    print(f"\n{tries:,} hostile archives: {refused:,} refused, 0 wrote outside")
    assert 0 < refused < tries
    assert not Path("/tmp/out.txt").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_hostile_archive_writes_outside_or_makes_a_link(tmp_path: Path) -> None:
    try_many(tmp_path, 300, 7)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_soak_no_hostile_archive_writes_outside_or_makes_a_link(tmp_path: Path) -> None:
    try_many(tmp_path, TRIES, 8)


def race(tmp_path: Path, tries: int) -> None:
    """Unpack while somebody swaps a folder for a link to another one, as fast as that goes."""
    out, outside, over = tmp_path / "out", tmp_path / "outside", threading.Event()
    (out / "d").mkdir(parents=True)
    outside.mkdir()
    (tmp_path / "link").symlink_to(outside)
    made = tar_of(tmp_path / "a.tar", [(entry(f"d/{number}"), b"x") for number in range(20)])
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not over.is_set():
            with contextlib.suppress(OSError):  # it was made again meanwhile
                (out / "d").rename(tmp_path / f"was-{swaps}")
                (tmp_path / "link").rename(out / "d")
                (out / "d").rename(tmp_path / "link")
                (tmp_path / f"was-{swaps}").rename(out / "d")
            if not (tmp_path / "link").is_symlink():
                (out / "d").rename(tmp_path / "link")
            swaps += 1

    swapping = threading.Thread(target=swap)
    swapping.start()
    refused = 0
    try:
        for _ in range(tries):
            try:
                extract(made, out, force=True)
            except BadInput:
                refused += 1
    finally:
        over.set()
        swapping.join()

    escaped = len(list(outside.iterdir()))
    print(f"\n{tries:,} archives, {swaps:,} times a link for a folder: {refused:,} refused, {escaped} files outside")
    assert escaped == 0
    assert swaps > 0


def test_a_link_that_takes_the_place_of_a_folder_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    race(tmp_path, 100)


@pytest.mark.soak
def test_soak_a_link_that_takes_the_place_of_a_folder_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    race(tmp_path, TRIES // 10)
