"""Wheels of what runs here: AgentCom and everything that it needs, packed again from the files that are installed.

So a hub without a way to a package index can still equip other machines. A wheel is a zip of the files of a
distribution, in one order and with one date: the same files give the same bytes. They are pressed a little, which takes
seconds once: what is packed already is known by the list of its files, and only looked through. Caller:
``hub/web/install.py``.
"""

import base64
import contextlib
import hashlib
import importlib.util
import re
import sys
import sysconfig
import zipfile
from collections.abc import Collection, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

OURS: Final = ("protocol", "hub", "sidecar", "dashboard", "provisioning", "agentcom")
_DATE: Final = (2026, 1, 1, 0, 0, 0)
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_KEPT: Final = "packed.json"
_LEVEL: Final = 1
"""Of zlib: the next ones take twice the time and save a twentieth."""


class Wheel(Struct, frozen=True):
    """A file that is served, and what it must hash to."""

    name: str
    sha256: str
    size_bytes: int


class Manifest(Struct, frozen=True, kw_only=True):
    """All that is needed, ours first; ``tag`` says for which Python and system."""

    version: str
    tag: str
    wheels: tuple[Wheel, ...]


class _Packed(Struct, frozen=True):
    """A wheel that was packed, and the hash of the list of files that it was made of."""

    wheel: Wheel
    files: str


def pack(folder: Path) -> Manifest:
    """Pack into ``folder`` what is not packed there yet, and remove what belongs to nothing that is installed.

    Takes some seconds the first time, less than one later.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    known, ours = _known(folder), distribution("agentcom")
    found = [_Packed(_write(folder, _title(ours, "py3-none-any"), dict(_own_files(ours))), "")]
    for dist in _needs(ours):
        name, listed = _title(dist, _tag(dist)), dist.read_text("RECORD") or ""
        digest = hashlib.sha256(listed.encode()).hexdigest()
        packed = known.get(name)
        if not listed or packed is None or packed.files != digest or not _is_there(folder, packed.wheel):
            packed = _Packed(_write(folder, name, _files_of(dist)), digest)
        found.append(packed)
    (folder / _KEPT).write_bytes(msgspec.json.encode(found))
    _remove_others(folder, {packed.wheel.name for packed in found})
    tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    return Manifest(version=ours.version, tag=tag, wheels=tuple(packed.wheel for packed in found))


def _known(folder: Path) -> dict[str, _Packed]:
    try:
        kept = msgspec.json.decode((folder / _KEPT).read_bytes(), type=list[_Packed])
    except (OSError, msgspec.DecodeError):
        return {}
    return {packed.wheel.name: packed for packed in kept}


def _is_there(folder: Path, wheel: Wheel) -> bool:
    try:
        with (folder / wheel.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == wheel.sha256
    except OSError:
        return False


def _remove_others(folder: Path, names: Collection[str]) -> None:
    """Wheels of releases that do not run here any more, and what an earlier run has not ended."""
    for path in folder.iterdir():
        if path.suffix == ".whl" and path.name not in names:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def _files_of(dist: Distribution) -> dict[str, bytes]:
    files = {str(file): Path(str(file.locate())) for file in dist.files or ()}
    return {name: path.read_bytes() for name, path in files.items() if _belongs(name) and path.is_file()}


def _belongs(name: str) -> bool:
    return not name.startswith("..") and "__pycache__" not in name


def _own_files(ours: Distribution) -> Iterator[tuple[str, bytes]]:
    for package in OURS:
        spec = importlib.util.find_spec(package)
        assert spec is not None, "this package is installed"
        assert spec.submodule_search_locations, "it is a folder"
        root = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(root.parent)), path.read_bytes()
    info = f"agentcom-{ours.version}.dist-info"
    yield f"{info}/METADATA", (ours.read_text("METADATA") or "").encode()
    yield f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: agentcom\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    yield f"{info}/entry_points.txt", (ours.read_text("entry_points.txt") or "").encode()


def _needs(ours: Distribution) -> list[Distribution]:
    """What it needs here, and what that needs, by name."""
    known: dict[str, Distribution] = {}
    todo = list(ours.requires or ())
    while todo:
        wanted = todo.pop()
        match = _NAME.match(wanted)
        if match is None or "extra ==" in wanted:
            continue
        key = re.sub(r"[-_.]+", "-", match[0]).lower()
        if key in known:
            continue
        try:
            known[key] = distribution(match[0])
        except PackageNotFoundError:
            continue  # for another system
        todo += known[key].requires or ()
    return [known[key] for key in sorted(known)]


def _tag(dist: Distribution) -> str:
    tags = re.findall(r"^Tag: (\S+)", dist.read_text("WHEEL") or "", re.MULTILINE)
    return tags[0] if tags else "py3-none-any"


def _title(dist: Distribution, tag: str) -> str:
    return f"{re.sub(r'[-_.]+', '_', dist.metadata['Name'])}-{dist.version}-{tag}.whl"


def _write(folder: Path, name: str, files: dict[str, bytes]) -> Wheel:
    record = next((key for key in files if key.endswith(".dist-info/RECORD")), "")
    record = record or next(key for key in files if key.endswith("/METADATA")).replace("METADATA", "RECORD")
    files[record] = _record(files, record).encode()
    draft = folder / f".{name}"
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as packed:
        for key in sorted(files):
            entry = zipfile.ZipInfo(key, _DATE)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, files[key], zipfile.ZIP_DEFLATED, _LEVEL)
    with draft.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    draft.replace(folder / name)
    return Wheel(name, digest, (folder / name).stat().st_size)


def _record(files: dict[str, bytes], record: str) -> str:
    lines = []
    for key in sorted(files):
        if key != record:
            digest = base64.urlsafe_b64encode(hashlib.sha256(files[key]).digest()).rstrip(b"=").decode()
            lines.append(f"{key},sha256={digest},{len(files[key])}")
    return "\n".join([*lines, f"{record},,", ""])
