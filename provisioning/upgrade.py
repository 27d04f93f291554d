"""A machine gets the release that its hub runs, and its old one back if that does not come up.

The new environment is built beside the old one, and has to say that all is well before it may take its place; then the
sidecar ends in order and starts anew, and the hub must see it. How far it has come is kept before and after every step,
so a run that was killed goes on, forwards or backwards, whichever way it went. Caller: ``agentcom/cli/upgrade.py``.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from protocol.errors import AgentComError, HubUnreachable, WorkFailed
from protocol.joining import MachineView
from provisioning import environments, plan
from provisioning.door import Door
from provisioning.environments import Offer
from provisioning.join import Tell
from provisioning.places import Note, Places, write_private
from provisioning.steps import StepFailed

READY_S: Final = 90.0
CHECK_S: Final = 120.0
DOWN_S: Final = 20.0
"""A sidecar that has not run for so long does not start."""
SETTLED_S: Final = 2.0
"""Who is still there after this has come up."""
LOCK_S: Final = 1.0
_LOOK_S: Final = 0.25
_MOST_BYTES: Final = 1 << 29
_BACK: Final = "back"
_GONE: Final = frozenset({"offline", "unseen"})


class Change(Struct, kw_only=True):
    """An upgrade that is under way: from the environment ``before`` to ``target``.

    ``boot``: the last start of the sidecar that the hub knew before the new one counted. ``why``: it has failed, and
    goes back.
    """

    target: str
    before: str
    boot: int = 0
    done: list[str] = field(default_factory=list)
    why: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """What an upgrade asks of others.

    Attributes:
        get: a path of the hub, fetched.
        seen: this machine, as the hub sees it.
        restart: ends the sidecar in order and starts what counts now.
        runs: whether the sidecar is there as a process.
        check: looks whether the program of a new environment is well here; what it says.
        now, wait: the time, in seconds of any clock, and how it passes.
    """

    get: Callable[[str], bytes]
    seen: Callable[[], MachineView]
    restart: Callable[[Note], str]
    runs: Callable[[], bool]
    check: Callable[[Path], str]
    now: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep


class Upgrade:
    """The steps of one upgrade.

    Args:
        places, note: of this machine.
        base: where its environments are.
        offer: what the hub offers.
        world: all else that it needs.
    """

    def __init__(self, places: Places, note: Note, base: Path, offer: Offer, world: World) -> None:
        self._places, self._note, self._base, self._offer, self._world = places, note, base, offer, world
        self._target = environments.name_of(offer)
        self._change = read_change(places)

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do."""
        return self._change is not None or environments.current(self._base) != self._target

    @property
    def before(self) -> str:
        """The environment that counts until this one does, and again if it fails."""
        return self._change.before if self._change is not None else environments.current(self._base)

    def run(self, tell: Tell) -> str:
        """Upgrade this machine; the name of the environment that counts then.

        Raises:
            StepFailed: it could not be, and the release that was here counts.
        """
        change = self._change = self._begun(tell)
        by_name = {
            "fetch": self._fetch,
            "build": self._build,
            "check": self._check,
            "switch": self._switch,
            "restart": self._restart,
            "ready": lambda: self._ready(change.boot),
            "tidy": self._tidy,
        }
        for step in plan.to_upgrade(change.done):
            if step.verb == "skip":
                tell("done", step.name, "", 0.0)
                continue
            try:
                _step(step.name, by_name[step.name], tell)
            except StepFailed as exc:
                if step.name not in plan.RISKY:
                    raise
                change.why = exc.why
                self._keep(change)
                self._go_back(change, tell)
            change.done.append(step.name)
            self._keep(change)
        self._places.upgrade.unlink(missing_ok=True)
        return change.target

    def _begun(self, tell: Tell) -> Change:
        """What is under way; an upgrade that was going back ends here."""
        known = self._change
        if known is not None and known.why:
            self._go_back(known, tell)
        if known is not None and known.target == self._target:
            return known
        # Of an upgrade that never ended only what was there before has proven itself.
        before = known.before if known is not None else environments.current(self._base)
        change = Change(target=self._target, before=before)
        self._keep(change)
        return change

    def _fetch(self) -> str:
        sent = environments.fetch(self._base, self._offer, self._world.get)
        return f"{len(environments.wanted(self._offer))} files of {self._offer['version']}, {sent >> 10} KiB sent"

    def _build(self) -> str:
        return environments.build(self._base, self._offer)

    def _check(self) -> str:
        return self._world.check(environments.program(self._base, self._target))

    def _switch(self) -> str:
        assert self._change is not None, "it has begun"
        self._change.boot = self._world.seen().boot
        self._keep(self._change)
        environments.switch(self._base, self._target)
        return f"{self._base / environments.LINK} is {self._target}"

    def _restart(self) -> str:
        return self._world.restart(self._note)

    def _ready(self, boot: int) -> str:
        """Wait until the hub sees a later start of the sidecar, and for a moment no other one."""
        began = ran_at = self._world.now()
        state, came, came_at = "unseen", 0, 0.0
        while (now := self._world.now()) < began + READY_S:
            ran_at = now if self._world.runs() else ran_at
            if now - ran_at > DOWN_S:
                raise StepFailed("the sidecar does not run", "look into its log")
            try:
                machine = self._world.seen()
            except HubUnreachable:
                state = "unknown: the hub does not answer"
            else:
                state = machine.state
                if state in _GONE or machine.boot <= boot:
                    came = 0
                elif machine.boot != came:
                    came, came_at = machine.boot, now
                elif now - came_at >= SETTLED_S:
                    return f"{machine.name} is {state}, {machine.version}"
            self._world.wait(_LOOK_S)  # the sidecar starts by itself: the hub is asked until it has seen it
        raise StepFailed(f"the hub has not seen it within {READY_S:.0f} s ({state})", "look into its log")

    def _tidy(self) -> str:
        assert self._change is not None, "it has begun"
        gone = environments.tidy(self._base, {self._change.before, self._change.target}, self._offer)
        return f"removed {', '.join(gone)}" if gone else "nothing to remove"

    def _go_back(self, change: Change, tell: Tell) -> None:
        """Let the environment count that was there before, have it started, and end with what was wrong."""

        def back() -> str:
            if not environments.is_whole(self._base, change.before):
                raise StepFailed("the release before is not here any more", "install this machine anew")
            boot = change.boot
            with contextlib.suppress(HubUnreachable):
                boot = self._world.seen().boot
            environments.switch(self._base, change.before)
            self._world.restart(self._note)
            return self._ready(boot)

        _step(_BACK, back, tell)
        self._places.upgrade.unlink(missing_ok=True)
        fix = "the release before works again; look into the sidecar's log"
        raise StepFailed(f"{change.target} did not come up ({change.why})", fix)

    def _keep(self, change: Change) -> None:
        write_private(self._places.upgrade, json.dumps(msgspec.to_builtins(change)) + "\n", self._note)


def _step(name: str, do: Callable[[], str], tell: Tell) -> None:
    """One step, told.

    Raises:
        StepFailed: it cannot be done.
    """
    started = time.monotonic()
    try:
        said = do()
    except StepFailed as exc:
        tell("fail", name, str(exc), time.monotonic() - started)
        raise
    except (AgentComError, OSError, ValueError, subprocess.SubprocessError) as exc:
        tell("fail", name, str(exc), time.monotonic() - started)
        raise StepFailed(str(exc), "run the same command again", 1) from exc
    tell("ok", name, said, time.monotonic() - started)


def read_change(places: Places) -> Change | None:
    """The upgrade that is under way; ``None``: there is none."""
    try:
        return msgspec.json.decode(places.upgrade.read_bytes(), type=Change)
    except (OSError, msgspec.DecodeError):
        return None


@contextlib.contextmanager
def alone(places: Places) -> Iterator[None]:
    """One upgrade at a time on a machine, and none while it leaves.

    Raises:
        StepFailed: another one is under way.
    """
    handle = os.open(places.upgrade_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_S
    try:
        while not _taken(handle):
            if time.monotonic() > until:
                raise StepFailed(
                    "an upgrade is under way here", "wait until the upgrade that is under way here has ended"
                )
            time.sleep(_LOOK_S)  # who only asks whether it is taken has it for a moment
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def offered(door: Door) -> Offer:
    """What the hub offers.

    Raises:
        AgentComError: it is not reached, or offers nothing.
    """
    try:
        return msgspec.json.decode(door.fetch("/install/manifest.json", 1 << 20), type=Offer)
    except msgspec.DecodeError as exc:
        raise HubUnreachable(door.url, f"its list of files cannot be read: {exc}") from exc


def wheel_of(door: Door) -> Callable[[str], bytes]:
    """Fetches a path of this hub."""
    return lambda path: door.fetch(path, _MOST_BYTES)


def known_door(places: Places, note: Note) -> Door:
    """The way to the hub of this machine: the first one that answers, known by what joining has kept.

    Raises:
        HubUnreachable: none does.
    """
    pem = places.authority.read_text("ascii") if places.authority.is_file() else ""
    last: HubUnreachable | None = None
    for url in note.hub.split(","):
        door = Door(url, pem)
        try:
            door.date()
        except HubUnreachable as exc:
            last = exc
        else:
            return door
    assert last is not None, "a machine that has joined has a hub"
    raise last


def checked(places: Places) -> Callable[[Path], str]:
    """Asks a program whether it is well on this machine, with its settings and its hub; it takes no work."""
    where = ["--config", str(places.config), "--state-dir", str(places.state)]

    def look(program: Path) -> str:
        command = [str(program), "doctor", "--machine", "--json", *where]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=CHECK_S)
        return _verdict(done.stdout, done.stderr)

    return look


def _verdict(said: str, error: str) -> str:
    """What its doctor has found.

    Raises:
        WorkFailed: it is not well.
    """
    try:
        found: dict[str, Sequence[dict[str, str]]] = json.loads(said)
        bad = [f"{each['name']}: {each['detail']}" for each in found["checks"] if each["state"] == "fail"]
    except (ValueError, KeyError, TypeError):
        last = (error.strip().splitlines() or ["it says nothing"])[-1]
        raise WorkFailed(f"the new release does not run here: {last[:200]}") from None
    if bad:
        raise WorkFailed(f"the new release is not well here: {'; '.join(bad)[:300]}")
    return f"{len(found['checks'])} checks, all well"
