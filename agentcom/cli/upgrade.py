"""``agentcom upgrade``: give this machine, or every machine, the release that the hub runs."""

import contextlib
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from agentcom.cli import endings
from agentcom.cli.join import told
from protocol.errors import AgentComError, BadInput, Problem

if TYPE_CHECKING:
    from provisioning.door import Door
    from provisioning.join import Tell
    from provisioning.places import Note, Places
    from provisioning.upgrade import Upgrade

_MOST = 300
"""Characters of a reason that the hub is told."""


@click.command(name="upgrade")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--yes", "says_yes", is_flag=True, help="Ask nothing.")
@click.option("--config", default="", metavar="FILE", help="Settings file of the sidecar.")
@click.option("--state-dir", default="", metavar="DIR", help="Where the sidecar keeps its state.")
def command(dry_run: bool, says_yes: bool, config: str, state_dir: str) -> int:  # noqa: FBT001 - click calls it
    """Give this machine the release that its hub runs.

    The new release is installed beside the old one and looked through; then the sidecar ends once its work has ended,
    and starts anew. If it does not come up, the old release comes back. Run it again after an interruption.
    """
    from provisioning import settings
    from provisioning.places import read_note
    from provisioning.steps import StepFailed
    from provisioning.upgrade import alone

    places = settings.load(config=config, state_dir=state_dir)
    note = read_note(places)
    if not note.hub:
        raise BadInput([Problem("upgrade", f"this machine has not joined: there is no {places.note}")], "command")
    try:
        with alone(places):
            return _run(places, note, is_dry=dry_run, says_yes=says_yes)
    except StepFailed as exc:
        click.echo(f"next: {exc.fix}", err=True)
        return exc.status


def _run(places: "Places", note: "Note", *, is_dry: bool, says_yes: bool) -> int:
    from provisioning import environments, plan

    steps, version, tell = _steps(places, note)
    if not steps.is_due:
        click.echo(f"this machine has what its hub offers: {version}")
        return endings.DONE
    base = environments.base_of(sys.prefix)
    assert base is not None, "the steps have found it"
    click.echo(f"from {steps.before.rpartition('-')[0]} to {version}, in {base}")
    if is_dry:
        click.echo(f"would be done: {', '.join(plan.UPGRADE)}")
        return endings.DONE
    if not says_yes and sys.stdin.isatty():
        click.confirm("Running work ends first. Go on?", default=True, abort=True)
    steps.run(tell)
    click.echo(f"{note.name} works with {version}; the release before is kept")
    return endings.DONE


def _steps(places: "Places", note: "Note") -> "tuple[Upgrade, str, Tell]":
    """The upgrade of this machine to what its hub offers, which version that is, and who hears of it.

    Raises:
        BadInput: no hub has installed AgentCom here.
    """
    from protocol.joining import MachineView
    from provisioning import environments, services, upgrade

    base = environments.base_of(sys.prefix)
    if base is None:
        how = "no hub has installed AgentCom here; upgrade it as it was installed, then restart the sidecar"
        raise BadInput([Problem("upgrade", f"{how} ({sys.prefix})")], "command")
    door = upgrade.known_door(places, note)
    offer, token = upgrade.offered(door), places.token.read_text("ascii").strip()

    def seen() -> MachineView:
        return door.ask("GET", "/machine", MachineView, token=token)

    manager = services.manager_named(note.manager, places)
    runs = partial(services.runs, note.manager, places)
    world = upgrade.World(upgrade.wheel_of(door), seen, manager.restart, runs, upgrade.checked(places))
    return upgrade.Upgrade(places, note, base, offer, world), offer["version"], _telling(door, token)


def _telling(door: "Door", token: str) -> "Tell":
    """Tells the person here of each step, and the hub; a hub that does not hear it loses nothing."""
    from protocol.joining import UpgradeTold

    def tell(outcome: str, name: str, said: str, seconds: float) -> None:
        told(outcome, name, said, seconds)
        body = UpgradeTold(step=name, why=said[:_MOST] if outcome == "fail" else "")
        with contextlib.suppress(AgentComError):
            door.ask("POST", "/machine/upgrade", type(None), body=body, token=token)

    return tell
