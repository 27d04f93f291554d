"""Wheels of what runs here: AgentCom and everything that it needs, packed again from the files that are installed.

So a hub without a way to a package index can still equip other machines. A wheel is a zip of the files of a
distribution, in one order, with one date, and not compressed: the same files give the same bytes, in a second. Caller:
``hub/web/install.py``.
"""

import base64
import hashlib
import importlib.util
import re
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from msgspec import Struct

OURS: Final = ("protocol", "hub", "sidecar", "dashboard", "provisioning", "agentcom")
_DATE: Final = (2026, 1, 1, 0, 0, 0)
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


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


def pack(folder: Path) -> Manifest:
    """Pack everything into ``folder``; takes a second or two.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    ours = distribution("agentcom")
    found = [_write(folder, _title(ours, "py3-none-any"), dict(_own_files(ours)))]
    for dist in _needs(ours):
        files = {str(file): Path(str(file.locate())) for file in dist.files or ()}
        kept = {name: path.read_bytes() for name, path in files.items() if _belongs(name) and path.is_file()}
        found.append(_write(folder, _title(dist, _tag(dist)), kept))
    tag = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    return Manifest(version=ours.version, tag=tag, wheels=tuple(found))


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
    with zipfile.ZipFile(draft, "w") as packed:
        for key in sorted(files):
            entry = zipfile.ZipInfo(key, _DATE)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, files[key])
    raw = draft.read_bytes()
    draft.replace(folder / name)
    return Wheel(name, hashlib.sha256(raw).hexdigest(), len(raw))


def _record(files: dict[str, bytes], record: str) -> str:
    lines = []
    for key in sorted(files):
        if key != record:
            digest = base64.urlsafe_b64encode(hashlib.sha256(files[key]).digest()).rstrip(b"=").decode()
            lines.append(f"{key},sha256={digest},{len(files[key])}")
    return "\n".join([*lines, f"{record},,", ""])
