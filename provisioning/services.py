"""Who keeps the sidecar of a machine running: systemd (the system's, or the user's), launchd, or this command itself.

Each can be asked whether it runs, installs and starts it in one go, and takes everything back. Doing either again
changes nothing.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

import psutil

from protocol.errors import WorkFailed
from provisioning import environments, unit_texts
from provisioning.places import Note, Places, write_private

RUN_S: Final = 60.0
_LOOK_S: Final = 0.5
STOP_S: Final = 340.0
"""Longer than a sidecar waits for its work."""


def program() -> tuple[str, ...]:
    """The words that are the command ``agentcom``: where a hub has installed it, that of whichever release counts."""
    base = environments.base_of(sys.prefix)
    return (sys.executable, "-m", "agentcom") if base is None else (str(environments.program(base)),)


class Manager(ABC):
    """One way to keep it running."""

    name: str

    def __init__(self, places: Places) -> None:
        self._places = places

    @abstractmethod
    def install(self, note: Note) -> str:
        """Install and start it; what was done, in a few words."""

    @abstractmethod
    def restart(self, note: Note) -> str:
        """End it in order, once its work has ended, and start it again, as :func:`program` is now."""

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
        self._watch = places.units / unit_texts.UPGRADE_PATH

    def install(self, note: Note) -> str:
        """Write the unit, enable it and start it."""
        self._write(note)
        self._watch_for_upgrades(note)
        self._ctl("enable", "--now", unit_texts.UNIT)
        if self._is_user and shutil.which("loginctl"):  # else it would end when the user logs out
            subprocess.run(["loginctl", "enable-linger"], check=False, capture_output=True, timeout=RUN_S)
        return f"{self.name} runs {unit_texts.UNIT}"

    def restart(self, note: Note) -> str:
        """Write the unit as it is now, and have systemd restart it."""
        self._write(note)
        # One that has failed too often is not started again, whoever asks, until this is forgotten.
        subprocess.run([*self._base, "reset-failed", unit_texts.UNIT], check=False, capture_output=True, timeout=RUN_S)
        self._ctl("restart", unit_texts.UNIT)
        return f"{self.name} has restarted {unit_texts.UNIT}"

    def _watch_for_upgrades(self, note: Note) -> None:
        """Have systemd upgrade this machine when the hub wants that, if a hub has installed it."""
        if environments.base_of(sys.prefix) is None:
            return
        places, wanted = self._places, str(self._places.wanted)
        does = unit_texts.upgrade(program(), str(places.config), str(places.state), wanted)
        for unit, text in (
            (self._watch.with_name(unit_texts.UPGRADE_UNIT), does),
            (self._watch, unit_texts.upgrade_path(wanted, is_user=self._is_user)),
        ):
            write_private(unit, text, note)
            unit.chmod(0o644)
        self._ctl("daemon-reload")
        self._ctl("enable", "--now", unit_texts.UPGRADE_PATH)
        write_private(places.watched, "", note)

    def _write(self, note: Note) -> None:
        places = self._places
        text = unit_texts.systemd(program(), str(places.config), str(places.state), is_user=self._is_user)
        write_private(self._unit, text, note)
        self._unit.chmod(0o644)
        self._ctl("daemon-reload")

    def remove(self) -> None:
        """Disable and stop it, and remove the units."""
        self._places.watched.unlink(missing_ok=True)
        if self._watch.exists():
            self._ctl("disable", "--now", unit_texts.UPGRADE_PATH)
            self._watch.with_name(unit_texts.UPGRADE_UNIT).unlink(missing_ok=True)
            self._watch.unlink(missing_ok=True)
            self._ctl("daemon-reload")
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
        text = unit_texts.launchd(program(), str(places.config), str(places.state / "sidecar.log"))
        write_private(self._file, text, note)
        if not self.is_running():
            _run(["launchctl", "bootstrap", self._domain, str(self._file)])
        return f"launchd runs {unit_texts.LABEL}"

    def restart(self, note: Note) -> str:
        """Unload it, which waits for its work, and load it again."""
        self.remove()
        return self.install(note)

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
        # Asked now: the environment of this very process is removed by the second upgrade that it sees.
        self._program, self._can_upgrade = program(), environments.base_of(sys.prefix) is not None
        self._upgrade: subprocess.Popen[bytes] | None = None

    def install(self, note: Note) -> str:
        """Start it."""
        self._places.restart.unlink(missing_ok=True)
        if self._can_upgrade:
            write_private(self._places.watched, "", note)
        log = self._places.state / "sidecar.log"
        command = [*self._program, "sidecar", "--config", str(self._places.config), "--with-parent"]
        with log.open("ab") as out:
            # Its standard input ends with this process, whatever ends it.
            self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out)
        return f"runs as long as this command; its log: {log}"

    def restart(self, note: Note) -> str:
        """Have the process that has it start it again.

        Raises:
            WorkFailed: none has it.
        """
        # Also if none runs: whoever waits for a release that did not come up takes the word.
        write_private(self._places.restart, "", note)
        told, began = 0, time.monotonic()
        while self._places.restart.exists() and time.monotonic() - began < (STOP_S if told else RUN_S):
            pid = _sidecar(self._places)
            if pid and not told:
                told = pid
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            elif pid and pid != told:  # something else looks after it
                self._places.restart.unlink(missing_ok=True)
            time.sleep(_LOOK_S)  # it is another process's to take
        if not self._places.restart.exists():
            return "it was started again"
        self._places.restart.unlink(missing_ok=True)
        raise WorkFailed("nobody has started the sidecar again; agentcom rejoin --foreground does")

    def stay(self, note: Note) -> int:
        """Wait as long as it runs, and start it again when an upgrade wants that; its exit status.

        An upgrade that was killed is taken up once: it may be what the sidecar is missing.
        """
        while True:
            status, may_take_up = self._wait(), True
            while not self._places.restart.exists():
                if not self._places.upgrade.exists():
                    return status
                if not self._is_upgrading():  # it was killed on its way
                    if not may_take_up:
                        return status
                    may_take_up = False
                    self._start_upgrade()
                time.sleep(_LOOK_S)  # it goes on in another process
            self.install(note)

    def _wait(self) -> int:
        """Wait as long as it runs, and start an upgrade when the hub wants one; its exit status."""
        assert self.child is not None, "it was installed"
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.child.wait(_LOOK_S)
            if self._places.wanted.exists() and (self._upgrade is None or self._upgrade.poll() is not None):
                self._places.wanted.unlink(missing_ok=True)
                self._start_upgrade()

    def _is_upgrading(self) -> bool:
        return (self._upgrade is not None and self._upgrade.poll() is None) or is_upgrading(self._places)

    def _start_upgrade(self) -> None:
        where = ["--config", str(self._places.config), "--state-dir", str(self._places.state)]
        with (self._places.state / "upgrade.log").open("ab") as out:
            command = [*self._program, "upgrade", "--yes", *where]
            # In a session of its own: it outlives this command, and ends what it has begun.
            self._upgrade = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def remove(self) -> None:
        """End it in order, also if another process has started it."""
        self._places.restart.unlink(missing_ok=True)
        self._places.watched.unlink(missing_ok=True)
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            self.child.wait(STOP_S)
        until, told = time.monotonic() + STOP_S, 0
        while (pid := _sidecar(self._places)) and time.monotonic() < until:
            if pid != told:
                told = pid  # told twice it would not wait for its work
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(_LOOK_S)  # nobody tells when a process of another one ends

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


def runs(name: str, places: Places) -> bool:
    """Whether the sidecar of this machine runs, whichever process looks after it."""
    manager = manager_named(name, places)
    if not isinstance(manager, Foreground):
        return manager.is_running()
    return bool(_sidecar(places))


def is_upgrading(places: Places) -> bool:
    """Whether an upgrade of this machine is under way, in any process."""
    try:
        handle = os.open(places.upgrade_lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _sidecar(places: Places) -> int:
    """The process that has the state directory, asked without taking its lock; 0: none runs."""
    try:
        pid = int((places.state / "lock").read_text("ascii"))
        return pid if "sidecar" in psutil.Process(pid).cmdline() else 0
    except (OSError, ValueError, psutil.Error):
        return 0


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
