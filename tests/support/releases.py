"""Releases of AgentCom that were never made: a small one of a few lines, and the whole of this tree, changed.

The whole one is a copy of the packages with another version, and with what is replaced in it; a process that finds the
copy first is that release. So a hub of tomorrow meets a sidecar of today, both as they are.
"""

import hashlib
import importlib.metadata
import io
import re
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from provisioning.environments import Offer, Wheel

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("protocol", "hub", "sidecar", "dashboard", "provisioning", "agentcom")
TAG: Final = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"


def small(version: str) -> tuple[Offer, dict[str, bytes]]:
    """An offer of two wheels, and what they hold: a command that says its version, where it is, and its words."""
    code = f"import sys\ndef main():\n    print({version!r}, sys.prefix, *sys.argv[1:], sep=chr(10))\n"
    ours = _packed({"agentcom/__init__.py": "", "agentcom/cli.py": code})
    other = _packed({"helper.py": "VALUE = 1\n"})
    names = (f"agentcom-{version}-py3-none-any.whl", "helper-1.0-py3-none-any.whl")
    files = {f"/install/{name}": raw for name, raw in zip(names, (ours, other), strict=True)}
    wheels = [
        Wheel(name=path.rpartition("/")[2], sha256=hashlib.sha256(raw).hexdigest(), size_bytes=len(raw))
        for path, raw in files.items()
    ]
    return Offer(version=version, tag=TAG, wheels=wheels), files


def elsewhere(version: str, pinned: str | None) -> tuple[Offer, dict[str, bytes]]:
    """An offer for another Python than this one: a wheel that can be installed, and what it pins."""
    info, needs = f"agentcom-{version}.dist-info", "Requires-Dist: helper\n"
    code = "import helper\ndef main():\n    print(helper.VALUE)\n"
    files = {
        "agentcom/__init__.py": "",
        "agentcom/cli.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: agentcom\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    raw = _packed(files | ({} if pinned is None else {"provisioning/requirements.txt": pinned}))
    name = f"agentcom-{version}-py3-none-any.whl"
    wheel = Wheel(name=name, sha256=hashlib.sha256(raw).hexdigest(), size_bytes=len(raw))
    return Offer(version=version, tag="cpython-27-amiga", wheels=[wheel]), {f"/install/{name}": raw}


def helper(value: int) -> bytes:
    """What a package index has under the name of the helper of :func:`elsewhere`."""
    info = "helper-1.0.dist-info"
    files = {
        "helper.py": f"VALUE = {value}\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: helper\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    return _packed(files)


def _packed(files: Mapping[str, str]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as packed:
        for name, text in files.items():
            packed.writestr(zipfile.ZipInfo(name), text)
    return raw.getvalue()


def whole(folder: Path, version: str, changes: Mapping[str, tuple[str, str]] | None = None) -> Path:
    """A copy of this tree in ``folder`` that is release ``version``; the folder.

    Args:
        folder: where; made.
        version: what it says it is.
        changes: by file, a text in it and what stands there instead.
    """
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    ours = importlib.metadata.distribution("agentcom")
    info = folder / f"agentcom-{version}.dist-info"
    info.mkdir()
    told = ours.read_text("METADATA") or ""
    (info / "METADATA").write_text(re.sub(r"^Version: .*$", f"Version: {version}", told, count=1, flags=re.MULTILINE))
    (info / "entry_points.txt").write_text(ours.read_text("entry_points.txt") or "")
    for name, (old, new) in (changes or {}).items():
        text = (folder / name).read_text("utf-8")
        assert text.count(old) == 1, f"{name} has changed: {old!r}"
        (folder / name).write_text(text.replace(old, new), "utf-8")
    return folder


def environment(release: Path) -> dict[str, str]:
    """What a process of this release has in its environment beside the rest."""
    return {"PYTHONPATH": str(release), "PYTHONSAFEPATH": "1"}
