"""``agentcom doctor``: look for what is wrong on this machine and in the mesh, and say how to mend it."""

import platform
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from agentcom import settings
from agentcom.cli import endings, output
from agentcom.cli.agents import sandbox_of
from agentcom.cli.connection import HubCommand, where
from agentcom.cli.diagnosis import FAIL, OK, WARN, Diagnosis, skew
from protocol.errors import AgentComError, BadInput, Forbidden, HubUnreachable, Refused

if TYPE_CHECKING:
    from agentcom.client import Client
    from protocol.api import AgentView

_GIB: Final = 1 << 30
_OLDEST_GIT: Final = (2, 31)


@click.command(name="doctor", cls=HubCommand)
@click.option("--machine", is_flag=True, help="Only look at this machine, which has joined.")
@click.option("--config", default="", metavar="FILE", help="Settings file of the sidecar on this machine.")
@click.option("--state-dir", default="", metavar="DIR", help="Where that keeps its state.")
@where
def command(
    as_json: bool,  # noqa: FBT001 - click calls it
    machine: bool,  # noqa: FBT001 - click calls it
    config: str,
    state_dir: str,
    hub: str | None,
    token_file: str | None,
    data_dir: str | None,
) -> int:
    """Look for what is wrong, and say how to mend it. Exits 1 if something fails."""
    from agentcom.cli import doctor_machine

    found = [_python(), _git(), *doctor_machine.look(config, state_dir, is_asked=machine)]
    if not machine:
        found += _mesh(hub, token_file, data_dir, has_machine=len(found) > 2)  # noqa: PLR2004 - the two before
    return _told(found, as_json=as_json)


def _mesh(hub: str | None, token_file: str | None, data_dir: str | None, *, has_machine: bool) -> list[Diagnosis]:
    """What there is to say of a hub, unless this machine only works for one that is elsewhere."""
    try:
        place = settings.load({"hub": hub, "token_file": token_file, "data_dir": data_dir})
    except BadInput as exc:
        return [Diagnosis(name="settings", state=FAIL, detail=str(exc), fix="correct what is named")]
    folder = Path(place.data_dir)
    if has_machine and place.origins["hub"] == "default" and not folder.exists():
        return []
    return [_disk(folder), *_data_dir(folder), *_hub(place)]


def _told(found: list[Diagnosis], *, as_json: bool) -> int:
    if as_json:
        output.say_json({"checks": found, "healthy": all(each.state != FAIL for each in found)})
    else:
        rows = [(each.state, each.name, each.detail, each.fix) for each in found]
        output.table(("state", "check", "found", "fix"), rows)
    return endings.WORK_FAILED if any(each.state == FAIL for each in found) else endings.DONE


# --- this machine -----------------------------------------------------------------------------------------------------


def _python() -> Diagnosis:
    detail = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    return Diagnosis(name="python", state=OK, detail=detail)


def _git() -> Diagnosis:
    try:
        said = subprocess.run(
            ["git", "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as exc:
        return Diagnosis(name="git", state=FAIL, detail=f"does not run: {exc}", fix="install git")
    number = re.search(r"(\d+)\.(\d+)", said)
    if number is None or (int(number[1]), int(number[2])) < _OLDEST_GIT:
        return Diagnosis(name="git", state=WARN, detail=said, fix="agents need git 2.31 or newer")
    return Diagnosis(name="git", state=OK, detail=said)


def _disk(folder: Path) -> Diagnosis:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    state = FAIL if free < _GIB // 2 else WARN if free < 5 * _GIB else OK
    fix = "" if state == OK else f"free some space under {existing}; a full disk stops the queue"
    return Diagnosis(name="disk", state=state, detail=f"{output.size(free)} free at {existing}", fix=fix)


def _data_dir(folder: Path) -> Iterator[Diagnosis]:
    if not folder.exists():
        detail = f"{folder} is not there: no hub has run here"
        yield Diagnosis(name="data dir", state=OK, detail=detail)
        return
    for path in (folder, folder / "admin.token", folder / "agent.token"):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue
        except OSError as exc:
            fix = "run as the user who runs the hub"
            yield Diagnosis(name="data dir", state=FAIL, detail=f"{path}: {exc.strerror}", fix=fix)
            continue
        if mode & 0o077:
            fix = f"chmod {'700' if path.is_dir() else '600'} {path}"
            yield Diagnosis(name="data dir", state=FAIL, detail=f"{path} is open to others ({mode:04o})", fix=fix)
            return
    yield Diagnosis(name="data dir", state=OK, detail=f"{folder}, for its owner only")


# --- the mesh ---------------------------------------------------------------------------------------------------------


def _hub(place: settings.ClientSettings) -> Iterator[Diagnosis]:
    from agentcom.client import Client

    with Client(place.hub, place.token or None, data_dir=place.data_dir, patience_s=0.0) as client:
        try:
            date = client.server_date()
        except HubUnreachable as exc:
            fix = "start one with 'agentcom up', or say where it is with --hub"
            yield Diagnosis(name="hub", state=FAIL, detail=str(exc).partition(";")[0], fix=fix)
            return
        yield Diagnosis(name="hub", state=OK, detail=f"{place.hub} answers (from {place.origins['hub']})")
        yield skew(date, datetime.now(UTC))
        try:
            yield _role(client, place)
            yield from _components(client)
            yield from _fleet(client)
        except Refused as exc:
            fix = "give a good one with --token-file, AGENTCOM_TOKEN or AGENTCOM_TOKEN_FILE"
            yield Diagnosis(name="token", state=FAIL, detail=str(exc), fix=fix)
        except AgentComError as exc:
            yield Diagnosis(name="hub", state=FAIL, detail=str(exc), fix="look into the hub's log")


def _role(client: "Client", place: settings.ClientSettings) -> Diagnosis:
    """The role of the token: an admin may list tokens, others are told which role may not."""
    try:
        client.tokens()
        role = "admin"
    except Forbidden as exc:
        found = re.search(r"role '(\w+)'", str(exc))
        role = found[1] if found else "unknown"
    return Diagnosis(name="token", state=OK, detail=f"role {role} (from {place.origins['token']})")


def _components(client: "Client") -> Iterator[Diagnosis]:
    health = client.health()
    waiting = ", ".join(f"{count} {state}" for state, count in health.queue.items() if count) or "nothing waits"
    yield Diagnosis(name="queue", state=OK, detail=f"{waiting}; hub {health.version}")
    states = {"ok": OK, "degraded": WARN, "down": FAIL}
    for name, part in health.components.items():
        if part.state != "ok":
            detail, fix = part.detail or part.state, _OF_PARTS.get(name, "look into the hub's log")
            yield Diagnosis(name=name, state=states.get(part.state, WARN), detail=detail, fix=fix)


def _fleet(client: "Client") -> Iterator[Diagnosis]:
    agents = client.agents().agents
    online = [agent.name for agent in agents if agent.state != "offline"]
    fix = "" if online else "start one with: agentcom sidecar --hub URL --token-file FILE"
    detail = f"{len(online)} of {len(agents)} online"
    yield Diagnosis(name="agents", state=OK if online else WARN, detail=detail, fix=fix)
    yield from _clones(agents)
    yield from _sandboxes([agent for agent in agents if agent.state != "offline"])
    yield from _versions(client.health().version, [agent for agent in agents if agent.state != "offline"])
    endpoints = client.endpoints().endpoints
    up = [endpoint.id for endpoint in endpoints if endpoint.state == "up"]
    detail = f"{len(up)} of {len(endpoints)} up" + (f": {', '.join(up)}" if up else "; only shell tasks can run")
    fix = "" if up else "start Ollama beside an agent, or give an agent ANTHROPIC_API_KEY"
    yield Diagnosis(name="endpoints", state=OK if up else WARN, detail=detail, fix=fix)
    gpus = [f"{gpu.name} on {host.name}" for host in client.hosts().hosts for gpu in host.gpus]
    yield Diagnosis(name="gpu", state=OK, detail=", ".join(gpus) or "none seen; models run on the CPU")


def _clones(agents: "Sequence[AgentView]") -> Iterator[Diagnosis]:
    """Agents whose key is in use twice: one line for each."""
    for agent in agents:
        if agent.quarantine:
            fix = f"agentcom leave --purge on the copy; then agentcom agents release {agent.name}"
            detail = f"{agent.name} gets no work: {agent.quarantine}"
            yield Diagnosis(name="clone", state=FAIL, detail=detail, fix=fix)


def _sandboxes(agents: "Sequence[AgentView]") -> Iterator[Diagnosis]:
    """How well the agents that are there confine what work runs: one line for each level."""
    levels = sorted({sandbox_of(agent.capabilities) for agent in agents})
    for level in levels:
        names = ", ".join(agent.name for agent in agents if sandbox_of(agent.capabilities) == level)
        state, fix = _OF_SANDBOXES.get(level, (OK, ""))
        yield Diagnosis(name="sandbox", state=state, detail=f"{level}: {names}", fix=fix)


def _versions(hub: str, agents: "Sequence[AgentView]") -> Iterator[Diagnosis]:
    """Agents of another release than the hub: they work together, and may lack what the hub offers."""
    others = sorted(f"{agent.name} ({agent.version})" for agent in agents if agent.version != hub)
    if others:
        fix = "agentcom machines upgrade; or on such a machine: agentcom upgrade"
        yield Diagnosis(name="versions", state=WARN, detail=f"not {hub}: {', '.join(others[:5])}", fix=fix)


_OF_PARTS: Final = {
    "store": "look at its disk or database; for a damaged store: agentcom restore",
    "agents": "agentcom agents ls shows who is away; start its sidecar, or forget it: agentcom agents rm",
    "backups": "make room in DATA_DIR/backups, then try one: agentcom backup",
    "audit": "agentcom audit verify says what is wrong; compare with an export",
    "sweeper": "restart the hub, and report it: this is a bug",
    "disk": "free some space on the hub's disk; a full one stops the queue",
    "memory": "give the hub's machine more memory, or ask less often and in smaller pages",
}
"""What to do about a part of the hub that is not well."""
_OF_SANDBOXES: Final = {
    "none": (
        FAIL,
        "they run no commands: apt install bubblewrap there; without it, only Linux 6.12 or newer can confine them",
    ),
    "unsafe": (WARN, "their work has all rights of the user who runs them; sandbox = 'auto' there confines it"),
    "unknown": (WARN, "bring these agents up to date"),
}
"""Levels that ask for something, and what."""
