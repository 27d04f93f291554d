"""What ``agentcom doctor`` looks at on a machine that has joined: its settings, its key, its hub and its release.

A release that is to take the place of another one is asked for this, too, before it does; nothing here takes work.
"""

import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agentcom.cli.diagnosis import FAIL, OK, WARN, Diagnosis, skew
from protocol.errors import AgentComError, BadInput, HubUnreachable, Refused, VersionMismatch
from protocol.version import negotiate

if TYPE_CHECKING:
    from protocol.joining import MachineView
    from provisioning.door import Door
    from provisioning.places import Note, Places

_REJOIN = "agentcom rejoin"


def look(config: str, state_dir: str, *, is_asked: bool) -> Iterator[Diagnosis]:
    """All that there is to say; nothing if this machine has not joined, unless that ``is_asked``."""
    from provisioning import settings
    from provisioning.places import read_note

    places = settings.load(config=config, state_dir=state_dir)
    note = read_note(places)
    if not note.hub:
        if is_asked:
            detail = f"it has not joined: there is no {places.note}"
            yield Diagnosis(name="machine", state=FAIL, detail=detail, fix="agentcom join URL")
        return
    yield _joined(note)
    yield _settings(places)
    yield from _private(places)
    yield _service(places, note)
    yield from _hub(places, note)


def _joined(note: "Note") -> Diagnosis:
    from provisioning.plan import JOIN

    left = [name for name in JOIN[1:] if name not in note.done]
    detail = f"{note.name or 'not named yet'}, of {note.hub}"
    if left:
        fix = "run the same 'agentcom join' again"
        return Diagnosis(name="machine", state=WARN, detail=f"{detail}; not done: {', '.join(left)}", fix=fix)
    return Diagnosis(name="machine", state=OK, detail=detail)


def _settings(places: "Places") -> Diagnosis:
    """Whether the sidecar of this release starts with the settings that are there."""
    import sidecar.app  # noqa: F401 - a release that lacks something of it is found out here
    from sidecar.settings import load

    try:
        load({}, file=str(places.config))
    except (BadInput, OSError) as exc:
        fix = f"correct {places.config}, or remove it and use: {_REJOIN}"
        return Diagnosis(name="settings", state=FAIL, detail=str(exc), fix=fix)
    return Diagnosis(name="settings", state=OK, detail=str(places.config))


def _private(places: "Places") -> Iterator[Diagnosis]:
    """Its key and its token: there, and for their owner only."""
    for name, path in (("key", places.key), ("token", places.token)):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as exc:
            yield Diagnosis(name=name, state=FAIL, detail=f"{path}: {exc.strerror}", fix=_REJOIN)
            continue
        if mode & 0o077:
            detail = f"{path} is open to others ({mode:04o})"
            yield Diagnosis(name=name, state=FAIL, detail=detail, fix=f"chmod 600 {path}")
        else:
            yield Diagnosis(name=name, state=OK, detail=f"{path}, for its owner only")


def _service(places: "Places", note: "Note") -> Diagnosis:
    from provisioning import services

    if not note.manager:
        return Diagnosis(name="service", state=WARN, detail="none is installed", fix=_REJOIN)
    if services.runs(note.manager, places):
        return Diagnosis(name="service", state=OK, detail=f"{note.manager}: the sidecar runs")
    fix = f"{_REJOIN}{' --foreground' if note.manager == 'foreground' else ''}"
    return Diagnosis(name="service", state=WARN, detail=f"{note.manager}: the sidecar does not run", fix=fix)


def _hub(places: "Places", note: "Note") -> Iterator[Diagnosis]:
    from provisioning.upgrade import known_door

    try:
        door = known_door(places, note)
    except HubUnreachable as exc:
        fix = "is the address right, and the port open on the way?"
        yield Diagnosis(name="hub", state=FAIL, detail=str(exc), fix=fix)
        return
    yield skew(door.date(), datetime.now(UTC))
    if door.pem:
        yield _pin(door)
    try:
        seen = _seen(door, places)
    except Refused as exc:
        yield Diagnosis(name="hub", state=FAIL, detail=f"{door.url} refuses its token: {exc}", fix=_REJOIN)
    except (AgentComError, OSError) as exc:
        yield Diagnosis(name="hub", state=FAIL, detail=str(exc), fix="look into the hub's log")
    else:
        yield Diagnosis(name="hub", state=OK, detail=f"{door.url} knows it as {seen.name}, {seen.state}")
        yield _release(seen, places)


def _seen(door: "Door", places: "Places") -> "MachineView":
    from protocol.joining import MachineView

    return door.ask("GET", "/machine", MachineView, token=places.token.read_text("ascii").strip())


def _pin(door: "Door") -> Diagnosis:
    from protocol.pinning import ca_hash

    shown = door.authority()
    known, found = ca_hash(door.pem), ca_hash(shown) if shown else "none"
    if found != known:
        fix = "somebody else answers there, or the hub has a new authority: compare, then leave and join again"
        return Diagnosis(name="pin", state=FAIL, detail=f"the hub shows {found[:16]}, not {known[:16]}", fix=fix)
    return Diagnosis(name="pin", state=OK, detail=f"the hub shows the authority {known[:16]}")


def _release(seen: "MachineView", places: "Places") -> Diagnosis:
    """This release beside the hub's."""
    from importlib.metadata import version

    ours = version("agentcom")
    try:
        negotiate(seen.protocol)
    except VersionMismatch as exc:
        detail = f"{ours} here, {seen.hub_version} at the hub: {exc}"
        return Diagnosis(name="release", state=FAIL, detail=detail, fix="agentcom upgrade")
    if Path(places.upgrade).exists():
        detail = "an upgrade has begun and not ended"
        return Diagnosis(name="release", state=WARN, detail=detail, fix="agentcom upgrade")
    if ours != seen.hub_version:
        detail = f"{ours} here, {seen.hub_version} at the hub"
        return Diagnosis(name="release", state=WARN, detail=detail, fix="agentcom upgrade")
    return Diagnosis(name="release", state=OK, detail=f"{ours}, as the hub")
