"""Where things of a machine lie: its settings file, its state, and the note of how far it has come.

For root ``/etc/agentcom`` and ``/var/lib/agentcom``, for others the XDG folders. What is written is written whole or
not at all, and folders that had to be made are remembered, so that nothing is left of a machine that goes. What of the
environment counts is read by ``settings.py``.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct, field

from protocol.keys import KEY_FILE
from sidecar.upgrading import WANTED, WATCHED

NOTE = "join.json"


class Places(Struct, frozen=True, kw_only=True):
    """Folders and files of this machine, and of its environment what the steps need."""

    config: Path
    state: Path
    units: Path
    is_root: bool
    proxies: tuple[str, ...] = ()
    """Names of variables that name a proxy."""

    @property
    def note(self) -> Path:
        """How far this machine has come."""
        return self.state / NOTE

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.state / KEY_FILE

    @property
    def next_key(self) -> Path:
        """The one that is to come in its place."""
        return self.state / f"{KEY_FILE}.next"

    @property
    def token(self) -> Path:
        """Its token (role agent)."""
        return self.state / "machine.token"

    @property
    def upgrade(self) -> Path:
        """How far an upgrade has come that is under way."""
        return self.state / "upgrade.json"

    @property
    def upgrade_lock(self) -> Path:
        """Held while an upgrade runs, or a leave."""
        return self.state / "upgrade.lock"

    @property
    def watched(self) -> Path:
        """Says that this machine gets another release when its hub wants that."""
        return self.state / WATCHED

    @property
    def wanted(self) -> Path:
        """Says that its hub wants it."""
        return self.state / WANTED

    @property
    def restart(self) -> Path:
        """Asks the process that runs the sidecar in the foreground to start it again."""
        return self.state / "restart"

    @property
    def authority(self) -> Path:
        """The authority of its hub."""
        return self.state / "hub-ca.pem"


class Note(Struct, kw_only=True):
    """How far a machine has come; kept after every step, so that the next run goes on where one was killed.

    ``attempt`` counts what was asked of the hub. ``made``: folders that were not there before.
    """

    hub: str = ""
    name: str = ""
    attempt: int = 0
    begun: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    manager: str = ""
    task: str = ""


def places_of(env: Mapping[str, str], *, is_root: bool, config: str = "", state_dir: str = "") -> Places:
    """The places of a user with this environment; ``config`` and ``state_dir`` go before."""
    home = Path(env.get("HOME") or "~").expanduser()
    usual_config = Path("/etc") if is_root else Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    usual_state = Path("/var/lib") if is_root else Path(env.get("XDG_STATE_HOME") or home / ".local" / "state")
    units = Path("/etc/systemd/system") if is_root else usual_config / "systemd" / "user"
    proxies = tuple(name for name in env if name.lower() in {"https_proxy", "http_proxy", "all_proxy"} and env[name])
    return Places(
        config=Path(config).absolute() if config else usual_config / "agentcom" / "sidecar.toml",
        state=Path(state_dir).absolute() if state_dir else usual_state / "agentcom" / "sidecar",
        units=units,
        is_root=is_root,
        proxies=proxies,
    )


def read_note(places: Places) -> Note:
    """How far this machine has come; nothing, if there is no note that can be read."""
    try:
        return msgspec.json.decode(places.note.read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError):
        return Note()


def keep_note(places: Places, note: Note) -> None:
    """Write it, so that it outlives this process."""
    write_private(places.note, msgspec.json.format(msgspec.json.encode(note)).decode() + "\n", note)


def write_private(path: Path, text: str, note: Note) -> None:
    """Write a file for its owner only, whole or not at all; folders that are made for it are noted."""
    make_folder(path.parent, note)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def make_folder(folder: Path, note: Note) -> None:
    """Make a folder and those above it."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700)
        note.made.append(str(each))
