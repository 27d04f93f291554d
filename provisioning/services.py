"""Who keeps the sidecar of a machine running: systemd (the system's, or the user's), launchd, or this command itself.

Each can be asked whether it runs, installs and starts it in one go, and takes everything back. Doing either again
changes nothing.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from protocol.errors import WorkFailed
from provisioning import unit_texts
from provisioning.places import Note, Places, write_private
from sidecar.journal import StateDirInUse, StateLock

RUN_S: Final = 60.0
_LOOK_S: Final = 0.5
STOP_S: Final = 340.0
"""Longer than a sidecar waits for its work."""


class Manager(ABC):
    """One way to keep it running."""

    name: str

    def __init__(self, places: Places) -> None:
        self._places = places

    @abstractmethod
    def install(self, note: Note) -> str:
        """Install and start it; what was done, in a few words."""

    @abstractmethod
    def remove(self) -> None:
        """Stop it in order, and take everything back."""

    @abstractmethod
    def is_running(self) -> bool:
        """Whether it runs."""


class Systemd(Manager):
    """systemd: ``systemd`` for all of the machine, ``systemd-user`` for one user of it."""

    def __init__(self, places: Places, *, is_user: bool) -> None:
        super().__init__(places)
        self.name = "systemd-user" if is_user else "systemd"
        self._is_user, self._unit = is_user, places.units / unit_texts.UNIT

    def install(self, note: Note) -> str:
        """Write the unit, enable it and start it."""
        places = self._places
        text = unit_texts.systemd(sys.executable, str(places.config), str(places.state), is_user=self._is_user)
        write_private(self._unit, text, note)
        self._unit.chmod(0o644)
        self._ctl("daemon-reload")
        self._ctl("enable", "--now", unit_texts.UNIT)
        if self._is_user and shutil.which("loginctl"):  # else it would end when the user logs out
            subprocess.run(["loginctl", "enable-linger"], check=False, capture_output=True, timeout=RUN_S)
        return f"{self.name} runs {unit_texts.UNIT}"

    def remove(self) -> None:
        """Disable and stop it, and remove the unit."""
        if self._unit.exists():
            self._ctl("disable", "--now", unit_texts.UNIT)
            self._unit.unlink(missing_ok=True)
            self._ctl("daemon-reload")

    def is_running(self) -> bool:
        """Whether the unit is active."""
        done = subprocess.run([*self._base, "is-active", "-q", unit_texts.UNIT], check=False, timeout=RUN_S)
        return done.returncode == 0

    @property
    def _base(self) -> list[str]:
        return ["systemctl", *(["--user"] if self._is_user else [])]

    def _ctl(self, *arguments: str) -> None:
        _run([*self._base, *arguments])


class Launchd(Manager):
    """launchd, for the user who is logged in, or for the machine."""

    name = "launchd"

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        home = Path("/Library/LaunchDaemons") if places.is_root else Path.home() / "Library" / "LaunchAgents"
        self._file = home / f"{unit_texts.LABEL}.plist"
        self._domain = "system" if places.is_root else f"gui/{os.getuid()}"

    def install(self, note: Note) -> str:
        """Write the property list and load it."""
        places = self._places
        text = unit_texts.launchd(sys.executable, str(places.config), str(places.state / "sidecar.log"))
        write_private(self._file, text, note)
        if not self.is_running():
            _run(["launchctl", "bootstrap", self._domain, str(self._file)])
        return f"launchd runs {unit_texts.LABEL}"

    def remove(self) -> None:
        """Unload it and remove the property list."""
        if self.is_running():
            _run(["launchctl", "bootout", f"{self._domain}/{unit_texts.LABEL}"])
        self._file.unlink(missing_ok=True)

    def is_running(self) -> bool:
        """Whether launchd knows it."""
        command = ["launchctl", "print", f"{self._domain}/{unit_texts.LABEL}"]
        return subprocess.run(command, check=False, capture_output=True, timeout=RUN_S).returncode == 0


class Foreground(Manager):
    """This command itself: the sidecar is its child, and ends with it, also if it is killed."""

    name = "foreground"

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self.child: subprocess.Popen[bytes] | None = None

    def install(self, note: Note) -> str:
        """Start it."""
        del note
        log = self._places.state / "sidecar.log"
        command = [sys.executable, "-m", "agentcom", "sidecar", "--config", str(self._places.config), "--with-parent"]
        with log.open("ab") as out:
            # Its standard input ends with this process, whatever ends it.
            self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out)
        return f"runs as long as this command; its log: {log}"

    def remove(self) -> None:
        """End it in order, also if another process has started it."""
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            self.child.wait(STOP_S)
        until, told = time.monotonic() + STOP_S, ""
        while time.monotonic() < until and self._places.state.is_dir():
            try:
                StateLock(self._places.state).release()
            except StateDirInUse as exc:
                if exc.owner.isdecimal() and exc.owner != told:  # whoever has the lock is this machine's sidecar
                    told = exc.owner  # told twice it would not wait for its work
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(told), signal.SIGTERM)
                time.sleep(_LOOK_S)  # nobody tells when a lock of another process becomes free
            else:
                return

    def is_running(self) -> bool:
        """Whether this process has it."""
        return self.child is not None and self.child.poll() is None


def manager_named(name: str, places: Places) -> Manager:
    """The manager with this name."""
    if name == "launchd":
        return Launchd(places)
    if name in {"systemd", "systemd-user"}:
        return Systemd(places, is_user=name == "systemd-user")
    return Foreground(places)


def found(places: Places) -> str:
    """The name of the manager that this machine has; empty if there is none."""
    if sys.platform == "darwin":
        return "launchd"
    if not shutil.which("systemctl") or not Path("/run/systemd/system").is_dir():
        return ""
    if places.is_root:
        return "systemd"
    asked = ["systemctl", "--user", "show-environment"]
    done = subprocess.run(asked, check=False, capture_output=True, timeout=RUN_S)
    return "systemd-user" if done.returncode == 0 else ""


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=STOP_S)
    except subprocess.CalledProcessError as exc:
        raise WorkFailed(f"{' '.join(command)}: {exc.stderr.strip() or exc.returncode}") from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise WorkFailed(f"{' '.join(command)}: {exc}") from exc
