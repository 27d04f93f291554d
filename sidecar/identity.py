"""Which sidecar a state directory is: the instance that it names to the hub, and whether its name was taken from it.

A copied state directory is a second sidecar with the same name and the same instance; of two such starts the hub takes
the newer one. The one that it evicts writes that down beside its journal, and no later start from the same directory
goes on until a person has decided: otherwise two supervisors would have the copies evict one another for ever. Caller:
``sidecar/app.py``.
"""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from protocol.errors import Conflict
from sidecar.folders import write_lasting

log = structlog.get_logger(__name__)

INSTANCE_FILE: Final = "instance"
EVICTED_FILE: Final = "evicted"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this sidecar is, for as long as it runs."""

    sidecar: str
    boot: int
    host: str
    slots: int
    version: str
    instance: str = ""
    """The state directory that it works from."""


class NameLost(Conflict):
    """Another sidecar has taken over the name of this state directory."""

    code = "name_lost"

    def __init__(self, name: str, note: Path) -> None:
        self.name, self.note = name, note
        super().__init__(name, note)

    def __str__(self) -> str:
        return (
            f"a newer sidecar has taken the name {self.name!r} from this state directory (was it copied?); "
            f"give one of the two another --name and its own --state-dir, or remove {self.note} to take the name back"
        )


class _Note(msgspec.Struct):
    """That the start ``boot`` from this directory was evicted as ``name``."""

    name: str
    boot: int


def instance_of(folder: Path) -> str:
    """The random name of this state directory, made at its first start."""
    file = folder / INSTANCE_FILE
    if file.is_file() and (kept := file.read_text(encoding="utf-8", errors="replace").strip()):
        return kept[:64]
    made = secrets.token_hex(8)
    write_lasting(file, made + "\n")
    return made


def note_eviction(folder: Path, name: str, boot: int) -> None:
    """Remember that the hub has evicted this start."""
    write_lasting(folder / EVICTED_FILE, json.dumps({"name": name, "boot": boot}) + "\n")


def check_not_evicted(folder: Path, name: str, last_boot: int) -> None:
    """Let the sidecar ``name`` start, whose last start from this directory was ``last_boot``.

    Raises:
        NameLost: that start was evicted under this name, and nobody has decided since.
    """
    file = folder / EVICTED_FILE
    try:
        note = msgspec.json.decode(file.read_bytes(), type=_Note)
    except FileNotFoundError:
        return
    except (OSError, msgspec.DecodeError) as exc:
        log.warning("eviction_unreadable", path=str(file), why=str(exc), next="ignored")
        return
    if note.name == name and note.boot >= last_boot:
        raise NameLost(name, file)
    file.unlink(missing_ok=True)
