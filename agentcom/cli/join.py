"""``agentcom join`` and ``agentcom rejoin``: have this machine take part in a mesh."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentcom.cli import endings
from protocol.errors import BadInput, Problem

if TYPE_CHECKING:
    from provisioning.places import Note, Places
    from provisioning.steps import Steps, Wish

_MARKS = {"ok": "ok  ", "done": "ok  ", "fail": "FAIL"}


def told(outcome: str, name: str, said: str, seconds: float) -> None:
    """A line about a step."""
    took = f"{seconds:5.1f} s" if outcome != "done" else "       "
    click.echo(f"{_MARKS[outcome]} {name:<9} {took}  {said or 'was done before'}", err=outcome == "fail")


@click.command(name="join")
@click.argument("url")
@click.option("--token", default="", metavar="TOKEN", help="A join token; without one a person approves this machine.")
@click.option(
    "--token-file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="A file that holds it."
)
@click.option("--name", default="", metavar="NAME", help="What it is called; a free ship's name if left out.")
@click.option("--fingerprint", default="", metavar="HASH", help="Of the hub's authority, if there is no join token.")
@click.option("--foreground", is_flag=True, help="Install no service; work as long as this command runs.")
@click.option("--plaintext", is_flag=True, help="Accept a hub without TLS.")
@click.option("--yes", "says_yes", is_flag=True, help="Ask nothing.")
@click.option("--dry-run", is_flag=True, help="Look whether it would work, and say what would be done.")
@click.option("--config", default="", metavar="FILE", help="Settings file of the sidecar, made if it is not there.")
@click.option("--state-dir", default="", metavar="DIR", help="Where the sidecar keeps its state.")
def command(  # noqa: PLR0913, PLR0917 - what may be asked for; click calls it by name
    url: str,
    token: str,
    token_file: str | None,
    name: str,
    fingerprint: str,
    foreground: bool,  # noqa: FBT001 - click calls it
    plaintext: bool,  # noqa: FBT001 - click calls it
    says_yes: bool,  # noqa: FBT001 - click calls it
    dry_run: bool,  # noqa: FBT001 - click calls it
    config: str,
    state_dir: str,
) -> int:
    """Have this machine take part in the mesh of the hub at URL.

    Run it again after an interruption: it goes on where it was. Exits 5 if this machine cannot take part, 6 if its
    first task fails.
    """
    from protocol.joining import read_token
    from provisioning import settings
    from provisioning.steps import Wish

    if token_file is not None:
        token = Path(token_file).read_text("utf-8").strip()
    if not url.startswith(("http://", "https://")):
        raise BadInput([Problem("URL", f"not an address like https://hub.example.org:7420: {url[:60]!r}")], "command")
    pin, secret = read_token(token) if token else ("", "")
    wish = Wish(
        url=url.rstrip("/"),
        pin=pin,
        secret=secret,
        name=name,
        fingerprint=fingerprint,
        is_foreground=foreground,
        is_plaintext=plaintext,
        says_yes=says_yes,
    )
    places = settings.load(config=config, state_dir=state_dir)
    return _dry_run(wish, places) if dry_run else run(wish, places)


@click.command(name="rejoin")
@click.option("--token", default="", metavar="TOKEN", help="A join token; without one a person approves this machine.")
@click.option("--foreground", is_flag=True, help="Install no service; work as long as this command runs.")
@click.option("--config", default="", metavar="FILE", help="Settings file of the sidecar.")
@click.option("--state-dir", default="", metavar="DIR", help="Where the sidecar keeps its state.")
def rejoin(token: str, foreground: bool, config: str, state_dir: str) -> int:  # noqa: FBT001 - click calls it
    """Have this machine take part again, under its name and with a new key.

    The key that it had counts no more. While the machine takes part, nobody has to let it in for that.
    """
    from protocol.joining import read_token
    from provisioning import settings
    from provisioning.places import read_note
    from provisioning.steps import Wish

    places = settings.load(config=config, state_dir=state_dir)
    note = read_note(places)
    if not note.hub:
        raise BadInput(
            [Problem("rejoin", f"this machine has not joined ({places.note}): agentcom join URL")], "command"
        )
    pin, secret = read_token(token) if token else ("", "")
    url = note.hub.split(",")[0]
    wish = Wish(url=url, pin=pin, secret=secret, is_foreground=foreground, is_plaintext=True, renews_key=True)
    return run(wish, places)


def run(wish: "Wish", places: "Places") -> int:
    """Join, and tell about it; the exit status."""
    from provisioning.join import join
    from provisioning.steps import StepFailed

    try:
        steps, note = join(wish, places, tell=told, confirm=_confirmed, say=click.echo)
    except StepFailed as exc:
        click.echo(f"next: {exc.fix}, then run the same command again", err=True)
        return exc.status
    click.echo(f"{note.name} takes part. Its page: {wish.url}/#/fleet")
    click.echo("agentcom leave takes it out again; agentcom doctor looks after it.")
    return _stay(steps, note)


def _stay(steps: "Steps", note: "Note") -> int:
    """In the foreground: work until somebody ends it."""
    from provisioning.services import Foreground

    manager = steps.manager
    if not isinstance(manager, Foreground) or manager.child is None:
        return endings.DONE
    click.echo(f"{note.name} works until you press Ctrl-C.")
    try:
        return manager.stay(note)
    finally:
        manager.remove()


def _confirmed(question: str) -> bool:
    return click.confirm(question, default=False)


def _dry_run(wish: "Wish", places: "Places") -> int:
    from provisioning import plan
    from provisioning.join import look

    status = look(wish, places, tell=told)
    click.echo(f"would be done: {', '.join(plan.JOIN[2:])}")
    click.echo(f"would be written: {places.config}, and in {places.state}")
    return status
