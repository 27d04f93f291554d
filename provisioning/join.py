"""A machine joins, and leaves: the steps one after the other, each a line with its time, and what to do if one fails.

How far it has come is kept after every step, so a run that was killed goes on where it was; what it had begun is looked
at again. Callers: ``agentcom/cli/join.py``, ``agentcom/cli/leave.py``.
"""

import shutil
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from protocol.errors import AgentComError, Refused
from provisioning import environments, plan, services
from provisioning.door import Door
from provisioning.places import Note, Places, keep_note, read_note
from provisioning.steps import StepFailed, Steps, Wish

Tell = Callable[[str, str, str, float], None]
"""Hears of each step: what became of it (``ok``, ``done``, ``fail``), its name, a few words, and the seconds."""


def join(
    wish: Wish, places: Places, *, tell: Tell, confirm: Callable[[str], bool], say: Callable[[str], None]
) -> tuple[Steps, Note]:
    """Have this machine join; what was done already is not done again.

    Raises:
        AgentComError: a step cannot be done; a later run goes on from there.
    """
    note = read_note(places)
    if note.hub and wish.url and wish.url not in note.hub.split(","):
        note.done = []
    note.hub = note.hub or wish.url
    steps = Steps(wish, places, note, confirm=confirm, say=say)
    if wish.renews_key:
        note.done = [each for each in note.done if each not in {"key", "register"}]
    for step in plan.to_join(note.done, again=_again(steps, note)):
        if step.verb == "skip":
            tell("done", step.name, "", 0.0)
            continue
        _run(steps, step.name, places, note, tell)
    return steps, note


def look(wish: Wish, places: Places, *, tell: Tell) -> int:
    """Whether it would work: the preflight, and nothing that changes anything; the exit status."""
    started = time.monotonic()
    steps = Steps(wish, places, read_note(places), confirm=lambda _question: False, say=lambda _text: None)
    try:
        said = steps.preflight()
    except StepFailed as exc:
        tell("fail", "preflight", str(exc), time.monotonic() - started)
        return exc.status
    tell("ok", "preflight", said, time.monotonic() - started)
    return 0


def _again(steps: Steps, note: Note) -> Collection[str]:
    """What does not hold any more, though it was done."""
    if "register" in note.done and not steps.still_counts():
        return {"register"}
    if "service" in note.done and (steps.manager is None or not steps.manager.is_running()):
        return {"service"}
    return ()


def _run(steps: Steps, name: str, places: Places, note: Note, tell: Tell) -> None:
    started = time.monotonic()
    if name not in note.begun and name != "preflight":
        note.begun.append(name)
        keep_note(places, note)
    try:
        said = steps.by_name[name]()
    except AgentComError as exc:
        tell("fail", name, str(exc), time.monotonic() - started)
        raise
    if name != "preflight":
        note.done = [*(each for each in note.done if each != name), name]
        keep_note(places, note)
    tell("ok", name, said, time.monotonic() - started)


def leave(places: Places, *, purge: bool, tell: Tell) -> Note:
    """Have this machine leave: its work ends, the hub forgets its token, and with ``purge`` nothing of it is left.

    The caller sees to it that no upgrade runs meanwhile; one that was interrupted is not taken up any more.
    """
    note = read_note(places)
    places.upgrade.unlink(missing_ok=True)
    places.wanted.unlink(missing_ok=True)
    for name in plan.to_leave(note.begun, purge=purge):
        started = time.monotonic()
        said = _undo(name, places, note)
        note.done = [each for each in note.done if each != name]
        if name != "register":
            note.begun = [each for each in note.begun if each != name]
        tell("ok", name, said, time.monotonic() - started)
    if purge:
        _purge(places, note)
        tell("ok", "purge", f"nothing is left in {places.state}", 0.0)
    elif note.begun:
        note.begun = [each for each in note.begun if each != "register"]
        note.manager = ""
        keep_note(places, note)
    return note


def _undo(name: str, places: Places, note: Note) -> str:
    if name == "service" and note.manager:
        services.manager_named(note.manager, places).remove()
        return "stopped and removed"
    if name == "register":
        said = _tell_hub(places, note)
        places.token.unlink(missing_ok=True)
        return said
    if name == "config":
        return _remove_config(places)
    return "nothing to take back" if name in {"smoke", "ready"} else "removed"


def _tell_hub(places: Places, note: Note) -> str:
    if not places.token.is_file():
        return "the hub knows of nothing"
    pem = places.authority.read_text("ascii") if places.authority.is_file() else ""
    door = Door(note.hub.split(",")[0], pem)
    try:
        door.ask("DELETE", "/machine", type(None), token=places.token.read_text("ascii").strip())
    except Refused:
        return "the hub did not know it any more"
    except AgentComError as exc:
        return f"the hub was not told ({exc}); revoke its token there: agentcom token ls"
    return "the hub has ended its token"


def _remove_config(places: Places) -> str:
    beside = places.config.with_name(places.config.name + ".new")
    beside.unlink(missing_ok=True)
    if not places.config.is_file():
        return "there was none"
    if "Written by 'agentcom join'" not in places.config.read_text("utf-8"):
        return f"{places.config} stays: a person has written it"
    places.config.unlink()
    return f"{places.config} is removed"


def _purge(places: Places, note: Note) -> None:
    shutil.rmtree(places.state, ignore_errors=True)
    base = environments.base_of(sys.prefix)
    if base is not None:  # what the hub's own script has installed goes with the machine
        environments.remove(base)
        note.made += [str(folder) for folder in (base, *list(base.parents)[:2])]  # they go if nothing else is in them
    for folder in plan.parents_to_remove(note.made):
        path = Path(folder)
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
