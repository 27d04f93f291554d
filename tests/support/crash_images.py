"""What a disk could hold after a power cut, at every point of a history.

A layer below SQLite (an apsw VFS, made the default of this process, so that the production code is unchanged) records
what is written, cut off and synced; files that are not SQLite's are noted by whoever opens them. An image for a point
holds everything that was synced by then, and of the rest what chance lets through, sector by sector: that is what disks
promise, and no more.
"""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

SECTOR_BYTES: Final = 512
NOTHING, ALL, LATEST = 0, 1, 2
"""Seeds with a meaning: of what was not synced nothing arrived, or all of it (a process that was killed), or the later
half of it in each file (a disk that does the last things first)."""

Content = dict[str, tuple[tuple[Any, ...], ...]]


class Step(NamedTuple):
    """Something done to a file: ``write``, ``truncate`` (to ``offset``), ``sync`` or ``delete``."""

    kind: str
    file: str
    offset: int = 0
    data: bytes = b""


@dataclass
class Recorder:
    """All steps on the files of one folder, in order."""

    folder: Path
    steps: list[Step] = field(default_factory=list)
    lax: tuple[str, ...] = ()
    """How files end of which a sync does nothing just now."""
    before: dict[str, bytes] = field(default_factory=dict)
    """Files that were there before the first step."""

    def note(self, kind: str, path: str, offset: int = 0, data: bytes = b"") -> None:
        """Remember a step, if it is on a file of the folder."""
        if path.startswith(f"{self.folder}/") and not (kind == "sync" and path.endswith(self.lax)):
            self.steps.append(Step(kind, Path(path).name, offset, data))

    def image(self, cut: int, seed: int, into: Path) -> None:
        """Write the files as they may be when the power goes after ``cut`` steps.

        Args:
            cut: how many steps were done.
            seed: of the chance that decides about what was not synced; see :data:`NOTHING` and those beside it.
            into: an empty folder.
        """
        chance = random.Random(cut * 1_000 + seed)
        synced = {file: bytearray(content) for file, content in self.before.items()}
        pending: dict[str, list[Step]] = {}
        for step in self.steps[:cut]:
            if step.kind == "sync":
                content = synced.setdefault(step.file, bytearray())
                for earlier in pending.pop(step.file, []):
                    _apply(content, earlier)
            elif step.kind == "delete":
                synced.pop(step.file, None)
                pending.pop(step.file, None)
            else:
                pending.setdefault(step.file, []).append(step)
        for file, steps in pending.items():
            content = synced.setdefault(file, bytearray())
            parts = [part for step in steps for part in _sectors(step)]
            for place, part in enumerate(parts):
                arrives = (False, True, place >= len(parts) // 2)[seed] if seed <= LATEST else chance.random() < 0.5
                if arrives:
                    _apply(content, part)
        for file, content in synced.items():
            (into / file).write_bytes(content)


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[Recorder]:
    """Record all that SQLite does to the files of ``folder`` until the context ends."""
    recorder = Recorder(folder)
    below = _Below(recorder)
    with lies_below(below, below.name):
        yield recorder


@contextlib.contextmanager
def lies_below(layer: apsw.VFS, name: str) -> Iterator[None]:
    """What SQLite opens goes over this layer, called ``name``, until the context ends; then the layer is gone."""
    usual = apsw.vfs_names()[0]
    apsw.set_default_vfs(name)
    try:
        yield
    finally:
        apsw.set_default_vfs(usual)
        layer.unregister()


def content(path: Path) -> Content:
    """Every row of every table of a database file.

    Raises:
        apsw.Error: it is damaged.
    """
    connection = apsw.Connection(str(path), vfs="unix")
    try:
        damage = connection.execute("PRAGMA integrity_check").get
        if damage != "ok":
            raise apsw.CorruptError(str(damage))
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: tuple(connection.execute(f'SELECT * FROM "{name}" ORDER BY 1, 2')) for name in sorted(names)}  # noqa: S608 - names from the schema
    finally:
        connection.close()


def _sectors(step: Step) -> Iterator[Step]:
    if step.kind == "truncate":
        yield step
    for start in range(0, len(step.data), SECTOR_BYTES):
        yield Step("write", step.file, step.offset + start, step.data[start : start + SECTOR_BYTES])


def _apply(content: bytearray, step: Step) -> None:
    if step.kind == "truncate":
        del content[step.offset :]
        return
    if len(content) < step.offset:
        content.extend(bytes(step.offset - len(content)))
    content[step.offset : step.offset + len(step.data)] = step.data


class _Below(apsw.VFS):
    """The layer: the usual one, written down."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.name = f"recorded-{id(recorder)}"
        super().__init__(self.name, "unix")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "_File":  # noqa: N802 - SQLite's name
        return _File(self.recorder, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's shape
        super().xDelete(filename, syncdir)
        self.recorder.note("delete", filename)


class _File(apsw.VFSFile):
    """One open file of the layer."""

    def __init__(self, recorder: Recorder, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._recorder = recorder
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        self._recorder.note("write", self._path, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        super().xTruncate(newsize)
        self._recorder.note("truncate", self._path, newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        super().xSync(flags)
        self._recorder.note("sync", self._path)
