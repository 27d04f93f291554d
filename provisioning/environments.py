"""Environments of AgentCom on one machine, side by side, and a link to the one that counts.

::

    BASE/env         the link; whatever is started goes through it
    BASE/envs/NAME   an environment; the mark in it is written last, without it the environment is not whole
    BASE/wheels      the files that the hub has sent, each looked through before it is used

A program that runs is tied to its own environment (its first line names that), so another one may take the place of the
link meanwhile. Uses only what comes with Python: the hub's script runs it out of the wheel, before anything is
installed. Callers: ``hub/web/static/install.sh``, ``provisioning/upgrade.py``.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, TypedDict

MARK: Final = "agentcom-install.json"
LINK: Final = "env"
_ENVS: Final = "envs"
_WHEELS: Final = "wheels"
_WHEEL: Final = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,200}\.whl")
_VERSION: Final = re.compile(r"[^A-Za-z0-9.+]+")
_PINNED: Final = "provisioning/requirements.txt"
_MOST_CHARS: Final = 400
_PROGRAM: Final = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
'''
from agentcom.cli import main
main()
"""
"""A first line holds no blanks and few characters; a shell takes any path."""


class Wheel(TypedDict):
    """A file that the hub offers."""

    name: str
    sha256: str
    size_bytes: int


class Offer(TypedDict):
    """What the hub offers: AgentCom first, then all that it needs for the Python and the system of ``tag``."""

    version: str
    tag: str
    wheels: list[Wheel]


Get = Callable[[str], bytes]
"""The body that a path of the hub answers; it knows that it is the right hub."""


class BadOffer(ValueError):
    """The hub has sent something else than it has promised."""


def fits(offer: Offer) -> bool:
    """Whether all that is offered is for this Python and this system; else only AgentCom itself is."""
    return offer["tag"] == f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"


def wanted(offer: Offer) -> list[Wheel]:
    """The files that this machine takes."""
    return offer["wheels"] if fits(offer) else offer["wheels"][:1]


def name_of(offer: Offer) -> str:
    """What the environment of this offer is called: the version, and what it is made of."""
    content = json.dumps([sorted(wheel.items()) for wheel in wanted(offer)]).encode()
    return f"{_VERSION.sub('_', offer['version'])[:40]}-{hashlib.sha256(content).hexdigest()[:12]}"


def base_of(prefix: str | Path) -> Path | None:
    """The base of the environment at ``prefix``; ``None``: no hub has installed it."""
    real = Path(prefix).resolve()
    is_ours = (real / MARK).is_file() and real.parent.name == _ENVS
    return real.parent.parent if is_ours else None


def program(base: Path, name: str = "") -> Path:
    """The command of an environment; without a name of the one that counts, whichever that will be."""
    return (base / _ENVS / name if name else base / LINK) / "bin" / "agentcom"


def current(base: Path) -> str:
    """The name of the environment that counts; empty: there is none that is whole."""
    name = (base / LINK).resolve().name
    return name if (base / LINK).is_symlink() and is_whole(base, name) else ""


def is_whole(base: Path, name: str) -> bool:
    """Whether an environment was built to its end."""
    return bool(name) and (base / _ENVS / name / MARK).is_file()


def fetch(base: Path, offer: Offer, get: Get) -> int:
    """Have all files of an offer here, each as promised; the bytes that had to be sent.

    Raises:
        BadOffer: the hub sends another file than it has promised.
    """
    folder = base / _WHEELS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    sent = 0
    for wheel in wanted(offer):
        if not _WHEEL.fullmatch(wheel["name"]):
            raise BadOffer(f"{wheel['name'][:100]!r} is no name of a wheel")
        path = folder / wheel["name"]
        if path.is_file() and _hash(path.read_bytes()) == wheel["sha256"]:
            continue
        raw = get("/install/" + wheel["name"])
        if _hash(raw) != wheel["sha256"]:
            raise BadOffer(f"{wheel['name']} is not what the hub has promised; nothing more is installed")
        draft = path.with_name(f".{path.name}")
        draft.write_bytes(raw)
        draft.replace(path)
        sent += len(raw)
    return sent


def build(base: Path, offer: Offer) -> str:
    """Make the environment of an offer whose files are here; its name. One that is whole stays as it is.

    Raises:
        BadOffer: a file is not what was promised any more, or the package index has something else than the hub's
            release was made with, or nothing.
    """
    name, is_fit = name_of(offer), fits(offer)
    folder = base / _ENVS / name
    if is_whole(base, name):
        return name
    pinned = "" if is_fit else _pinned(base / _WHEELS / wanted(offer)[0]["name"])
    venv.create(folder, clear=True, with_pip=not is_fit, symlinks=True)
    bin_ = folder / "bin"
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for wheel in wanted(offer):
        path = base / _WHEELS / wheel["name"]
        if _hash(path.read_bytes()) != wheel["sha256"]:
            raise BadOffer(f"{path} was changed")
        if is_fit:
            with zipfile.ZipFile(path) as packed:
                packed.extractall(site)
        else:
            _install(bin_ / "pip", path, pinned)
    command = bin_ / "agentcom"
    command.write_text(_PROGRAM.format(python=bin_ / "python"), "utf-8")
    command.chmod(0o755)
    _write_safely(folder / MARK, json.dumps(offer["wheels"]))
    return name


def _pinned(wheel: Path) -> str:
    """Which packages AgentCom needs, each with its version and what it hashes to, for every Python and system.

    It stands in the wheel, which the hub has promised: whoever answers for the package index can add nothing.
    """
    with zipfile.ZipFile(wheel) as packed:
        try:
            return packed.read(_PINNED).decode()
        except KeyError:
            raise BadOffer(f"{wheel.name} does not say what its packages hash to; install it with pip") from None


def _install(pip: Path, wheel: Path, pinned: str) -> None:
    """Install AgentCom on another Python or system than the hub's: what it needs comes from the package index."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text(pinned, "utf-8")
        for words in (("--require-hashes", "-r", listed), ("--no-index", "--no-deps", wheel)):
            done = subprocess.run([pip, "install", "--quiet", *words], check=False, capture_output=True, text=True)
            if done.returncode:
                why = " ".join(done.stderr.split())[:_MOST_CHARS]
                raise BadOffer(f"this machine is not like the hub, and its package index does not help: {why}")


def switch(base: Path, name: str) -> None:
    """Let the environment ``name`` be the one that counts, from one moment to the next.

    Raises:
        BadOffer: it is not whole.
    """
    if not is_whole(base, name):
        raise BadOffer(f"{base / _ENVS / name} is not whole")
    link, draft = base / LINK, base / f".{LINK}.new"
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)  # an environment from before there were several
    draft.unlink(missing_ok=True)
    draft.symlink_to(Path(_ENVS) / name)
    draft.replace(link)
    _sync(base)


def tidy(base: Path, keep: Collection[str], offer: Offer) -> list[str]:
    """Remove all environments but these, and files that the offer does not name; the names of what is gone."""
    gone = []
    for folder in sorted((base / _ENVS).iterdir()):
        if folder.name not in keep:
            (folder / MARK).unlink(missing_ok=True)  # from here on it is not whole
            shutil.rmtree(folder)
            gone.append(folder.name)
    named = {wheel["name"] for wheel in wanted(offer)}
    for path in (base / _WHEELS).iterdir():
        if path.name not in named:
            path.unlink()
    return gone


def remove(base: Path) -> None:
    """Remove all environments, and what they were made of."""
    if (base / LINK).is_symlink():
        (base / LINK).unlink()
    shutil.rmtree(base / _ENVS, ignore_errors=True)
    shutil.rmtree(base / _WHEELS, ignore_errors=True)


def _hash(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _write_safely(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
