"""The steps by which a machine joins: each does what is not done yet, and says in a few words what there is now.

A step that cannot be done raises :class:`StepFailed`, which says what to do. Every step may be killed at any moment and
done again. In which order they go is ``plan.py``; who runs them is ``join.py``; how they are taken back, ``leave.py``.
"""

import os
import platform
import shutil
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from protocol.errors import (
    AgentComError,
    Conflict,
    HubUnreachable,
    Refused,
    Throttled,
    Unauthenticated,
    Unavailable,
    VersionMismatch,
)
from protocol.joining import (
    OPEN,
    WEB,
    JoinAsked,
    JoinBody,
    Joined,
    MachineFacts,
    MachineView,
    NotYetApproved,
    SmokeView,
    code_of,
    signed,
)
from protocol.keys import text
from protocol.pinning import WrongHub, ca_hash
from protocol.version import NEWEST, OLDEST, negotiate
from provisioning import keys, services
from provisioning.detect import detected
from provisioning.door import Door
from provisioning.places import Note, Places, keep_note, write_private

T = TypeVar("T")
PREFLIGHT_FAILED, SMOKE_FAILED = 5, 6
_LEAST_DISK: Final = 1 << 30
_MOST_SKEW_S: Final = 30.0
READY_S: Final = 90.0
SMOKE_S: Final = 180.0
_LOOK_S: Final = 0.25
_ASK_S: Final = 2.0
_HERE: Final = frozenset({"idle", "assigned", "working"})


class StepFailed(AgentComError):
    """A step cannot be done; ``fix`` is what to do about it, ``status`` how the command ends."""

    code = "step_failed"

    def __init__(self, why: str, fix: str, status: int = 1) -> None:
        self.why, self.fix, self.status = why, fix, status
        super().__init__(why, fix, status)

    def __str__(self) -> str:
        return f"{self.why}; {self.fix}"


class Wish(Struct, frozen=True, kw_only=True):
    """What the person has asked for: the words of the command."""

    url: str
    pin: str = ""
    secret: str = ""
    name: str = ""
    fingerprint: str = ""
    is_foreground: bool = False
    is_plaintext: bool = False
    says_yes: bool = False
    renews_key: bool = False


class Steps:
    """The steps of one machine; :attr:`by_name` runs them.

    Args:
        wish: what was asked for.
        places, note: where things lie, and how far this machine has come.
        confirm: asks a person a question; ``say`` tells something in between.
    """

    def __init__(
        self, wish: Wish, places: Places, note: Note, *, confirm: Callable[[str], bool], say: Callable[[str], None]
    ) -> None:
        self._wish, self._places, self._note, self._confirm, self._say = wish, places, note, confirm, say
        self._door = Door(wish.url)
        name = note.manager or ("foreground" if wish.is_foreground else services.found(places))
        self.manager = services.manager_named(name, places) if name else None
        self.hub_version = ""
        self.by_name: dict[str, Callable[[], str]] = {
            "preflight": self.preflight,
            "trust": self.trust,
            "key": self.key,
            "register": self.register,
            "detect": self.detect,
            "config": self.config,
            "service": self.service,
            "ready": self.ready,
            "smoke": self.smoke,
        }

    def preflight(self) -> str:
        """Whether this machine can do it at all; nothing is changed."""
        existing = next(path for path in (self._places.state, *self._places.state.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if free < _LEAST_DISK:
            raise _unfit(f"{free >> 20} MiB are free at {existing}", "free at least 1 GiB there")
        if not os.access(existing, os.W_OK):
            raise _unfit(f"{existing} cannot be written", "run as another user, or with --state-dir DIR")
        if shutil.which("git") is None:
            raise _unfit("there is no git", "install git 2.31 or newer")
        if self.manager is None:
            raise _unfit("no systemd and no launchd run here", "add --foreground, and keep the command running")
        try:
            date, protocol = self._door.look()
        except HubUnreachable as exc:
            raise StepFailed(str(exc), "is the address right, and the port open on the way?", 3) from exc
        skew_s = _skew_s(date)
        if abs(skew_s) > _MOST_SKEW_S:
            raise _unfit(f"the clock is {skew_s:+.0f} s from the hub's", "set both by NTP")
        try:
            negotiate(protocol or (OLDEST, NEWEST))  # a hub that does not say it is looked at when it has let us in
        except VersionMismatch as exc:
            raise _unfit(str(exc), "install the hub's release: the second line of 'agentcom token create'") from exc
        said = [f"Python {platform.python_version()}", f"{free >> 30} GiB free", f"clock {skew_s:+.0f} s"]
        if self._places.proxies:
            said.append(f"{self._places.proxies[0]} not used: the hub is dialled directly")
        return ", ".join(said)

    def trust(self) -> str:
        """Know the hub before anything secret leaves."""
        wish, kept = self._wish, self._places.authority
        pin = wish.pin or (ca_hash(kept.read_text("ascii")) if kept.is_file() else "")
        if not self._door.is_tls:
            if pin not in {"", OPEN}:
                raise StepFailed("the token is for a hub with TLS, the address is not", "use https://", 4)
            if not (wish.is_plaintext or _is_loopback(wish.url)):
                why = "without TLS everybody on the way can read the token and the work"
                raise StepFailed(why, "use an https:// address, or agree with --plaintext", 4)
            return "no TLS: this machine's own loopback" if _is_loopback(wish.url) else "no TLS, as agreed"
        if pin == WEB or (not pin and self._is_public()):
            return "its certificate is trusted by this system"
        pem = self._door.authority()
        found = ca_hash(pem) if pem else ""
        if pin and found != pin:
            raise WrongHub(wish.url, pin, found)
        if not pin:
            self._ask_person(found)
        write_private(kept, pem, self._note)
        self._door.pem = pem
        return f"authority {found[:16]}..., as {'the token says' if pin else 'agreed'}"

    def _is_public(self) -> bool:
        try:
            self._door.ask("GET", "/machine", type(None))
        except Unauthenticated:
            return True
        except AgentComError:
            return False
        return True

    def _ask_person(self, found: str) -> None:
        """Nobody but a person can tell whose authority this is."""
        wanted = self._wish.fingerprint.lower().replace(":", "")
        if wanted and wanted != found:
            raise WrongHub(self._wish.url, wanted, found)
        if not wanted:
            self._say(f"The hub shows the authority\n  {found}\nThe hub's own machine prints it: agentcom fingerprint")
            if self._wish.says_yes or not self._confirm("Is it the same?"):
                fix = "compare it at the hub, then use --fingerprint HASH, or a join token"
                raise StepFailed("nobody has said that this is the right hub", fix, 4)

    def key(self) -> str:
        """A key of its own."""
        places, note = self._places, self._note
        is_new = self._wish.renews_key and places.key.is_file()
        key = keys.renew(places, note) if is_new else keys.coming(places) or keys.ensure(places, note)
        return f"Ed25519, made {'anew ' if is_new else ''}here; code {code_of(keys.public(key))}"

    def register(self) -> str:
        """Be let in: by the join token, or by a person."""
        joined = self._renewed()
        if joined is None and not self._wish.secret:
            self._wait_for_person(self._ask_hub("/join-requests", JoinAsked))
        while joined is None:
            try:
                joined = self._ask_hub("/join", Joined)
            except (NotYetApproved, Throttled) as exc:  # many may wait behind one address
                # A person decides, or the hub has said how long to wait; no call lasts until then.
                time.sleep((exc.retry_after_s if isinstance(exc, Throttled) else None) or _ASK_S)
                continue
            except Conflict as exc:
                raise StepFailed(str(exc), "choose another name with --name", 4) from exc
        write_private(self._places.token, joined.token + "\n", self._note)
        keys.adopt(self._places)
        self._note.name, self._note.hub = joined.name, ",".join(joined.hubs) or self._wish.url
        ours, theirs = _release(), joined.version
        if ours.split(".")[:2] != theirs.split(".")[:2]:
            return f"joined as {joined.name}; hub {theirs}, here {ours}; to the hub's: agentcom upgrade"
        return f"joined as {joined.name}"

    def _renewed(self) -> Joined | None:
        """The machine takes part, and gives up its key for the one that is to come; ``None``: it has to be let in."""
        if keys.coming(self._places) is None:
            return None
        try:
            return self._ask_hub("/join", Joined)
        except (Refused, NotYetApproved):
            return None

    def _wait_for_person(self, asked: JoinAsked) -> None:
        if asked.state == "waiting":
            self._say(f"This machine's code is\n\n    {asked.code}\n")
            self._say("Approve it in the dashboard (Fleet), or: agentcom machines approve " + asked.code)

    def _ask_hub(self, path: str, shape: type[T]) -> T:
        """A signed request; its number is kept before it is sent, so that none is used twice."""
        self._note.attempt += 1
        keep_note(self._places, self._note)
        own, name = keys.ensure(self._places, self._note), self._wish.name
        key = keys.coming(self._places) or own
        replaces = keys.public(own) if key is not own else ""
        public, attempt = keys.public(key), self._note.attempt
        said = signed(public, attempt, self._wish.secret, name, signs=True, replaces=replaces)
        body = JoinBody(
            key=public,
            attempt=attempt,
            signature=text(key.sign(said)),
            token=self._wish.secret,
            name=name,
            facts=_facts(),
            signs=True,
            replaces=replaces,
            consent=text(own.sign(said)) if replaces else "",
        )
        return self._door.ask("POST", path, shape, body=body)

    def detect(self) -> str:
        """What this machine can do; the sidecar finds the same by itself."""
        return "; ".join(detected())

    def config(self) -> str:
        """A settings file; one that is there is never changed."""
        places = self._places
        text = _config(self._note, places)
        if places.config.exists():
            if places.config.read_text("utf-8") == text:
                return f"{places.config}"
            beside = places.config.with_name(places.config.name + ".new")
            write_private(beside, text, self._note)
            return f"{places.config} was there and stays; what would be new: {beside}"
        write_private(places.config, text, self._note)
        return f"{places.config}"

    def service(self) -> str:
        """Keep the sidecar running."""
        assert self.manager is not None, "the preflight has found one"
        self._note.manager = self.manager.name
        keep_note(self._places, self._note)
        return self.manager.install(self._note)

    def ready(self) -> str:
        """Wait until the hub sees it."""
        until = time.monotonic() + READY_S
        state = "unseen"
        while time.monotonic() < until:
            try:
                state = self.seen().state
            except Unavailable:
                state = "unknown: the hub does not answer"
            if state in _HERE:
                return f"{self._note.name} is {state}"
            if isinstance(self.manager, services.Foreground) and not self.manager.is_running():
                self.manager.install(self._note)  # the one before has held the state directory until now
            time.sleep(_LOOK_S)  # the sidecar starts by itself: the hub is asked until it has seen it
        raise StepFailed(f"the hub has not seen it within {READY_S:.0f} s ({state})", self._look_there())

    def seen(self) -> MachineView:
        """This machine, as the hub sees it."""
        return self._door.ask("GET", "/machine", MachineView, token=self._own_token())

    def smoke(self) -> str:
        """A first task: a command, and checks of what it did."""
        token, until, started = self._own_token(), time.monotonic() + SMOKE_S, time.monotonic()
        task = self._door.ask("POST", "/machine/smoke", SmokeView, token=token)
        while task.state not in {"completed", "failed", "cancelled", "dead"} and time.monotonic() < until:
            time.sleep(_LOOK_S)  # a machine's token opens no stream of events
            task = self._door.ask("GET", f"/machine/smoke/{task.task}", SmokeView, token=token)
        self._note.task = task.task
        if task.state == "completed" and task.execution_ok and task.verified:
            return f"task {task.task[-8:]} done and verified in {time.monotonic() - started:.1f} s"
        why = f"its first task is {task.state}{': ' + task.reason if task.reason else ''}"
        fix = f"why it stands there: agentcom tasks explain {task.task}"
        raise StepFailed(why, fix, SMOKE_FAILED)

    def _own_token(self) -> str:
        return self._places.token.read_text("ascii").strip()

    def _look_there(self) -> str:
        if self.manager is not None and self.manager.name.startswith("systemd"):
            return "look into its log: journalctl -u agentcom-sidecar" + (" --user" * ("user" in self.manager.name))
        return f"look into its log: {self._places.state / 'sidecar.log'}"

    def still_counts(self) -> bool:
        """Whether the hub still knows this machine by its token."""
        if self._places.authority.is_file():
            self._door.pem = self._places.authority.read_text("ascii")
        try:
            self.seen()
        except Refused:
            return False
        except (OSError, Conflict):
            return False
        return True


def _unfit(why: str, fix: str) -> StepFailed:
    return StepFailed(why, fix, PREFLIGHT_FAILED)


def _skew_s(date: str) -> float:
    try:
        off_s = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except ValueError:
        return 0.0
    return off_s if abs(off_s) > 1 else 0.0  # the header tells whole seconds


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _facts() -> MachineFacts:
    import psutil

    return MachineFacts(
        host=socket.gethostname(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        version=_release(),
        cores=psutil.cpu_count() or 0,
        ram_bytes=psutil.virtual_memory().total,
    )


def _release() -> str:
    from importlib.metadata import version

    return version("agentcom")


def _config(note: Note, places: Places) -> str:
    hubs = ", ".join(_toml(hub) for hub in note.hub.split(","))
    lines = [
        "# Written by 'agentcom join', which never changes it again; see: agentcom sidecar --help",
        f"hub = [{hubs}]",
        f"token_file = {_toml(str(places.token))}",
        f"state_dir = {_toml(str(places.state))}",
        f"name = {_toml(note.name)}",
    ]
    if places.authority.is_file():
        lines.insert(2, f"ca_file = {_toml(str(places.authority))}")
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
