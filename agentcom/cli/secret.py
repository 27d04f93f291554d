"""``agentcom secret``: set, list and remove secrets, and exchange the key that they are sealed with.

A value comes from a file, from standard input or from a prompt that does not show it, never from the command line:
others on the machine can read that, and shells write it down.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected
from protocol.errors import BadInput, Problem

if TYPE_CHECKING:
    from agentcom.client import Client


@click.group(name="secret", cls=NounGroup)
def command() -> None:
    """Set, list and remove secrets. Without a verb: ls."""


@command.command(name="set", cls=HubCommand)
@click.argument("name")
@click.option("--from-file", metavar="P", help="Take the value from this file, as it is.")
@click.option("--project", "projects", multiple=True, metavar="NAME", help="For tasks of this project; repeatable.")
@click.option("--any-project", is_flag=True, help="For tasks of any project again.")
@connected
def set_(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    name: str,
    from_file: str | None,
    projects: tuple[str, ...],
    any_project: bool,  # noqa: FBT001 - as above
) -> None:
    """Keep a secret, or its next value, read from standard input.

    One line end at the end of standard input is not part of it. Without --project it is for whom it was for before.
    """
    if projects and any_project:
        raise BadInput([Problem("--any-project", "says the opposite of --project; give one of them")], "command")
    value = _value(name, from_file)
    kept = hub.set_secret(name, value, projects or (() if any_project else None))
    if as_json:
        output.say_json(kept)
    else:
        whose = ", ".join(kept.projects) or "any project"
        click.echo(f"secret {kept.name}: value {kept.version}, for tasks of {whose}")


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List secrets, without their values."""
    found = hub.secrets()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            one.name,
            str(one.version),
            ", ".join(one.projects) or "any",
            output.age(one.changed_at),
            one.key if one.is_readable else f"{one.key} (missing)",
        )
        for one in found.secrets
    ]
    output.table(
        ("name", "value", "projects", "set", "key"), rows, empty="no secrets; set one: agentcom secret set NAME"
    )


@command.command(name="rm", cls=HubCommand)
@click.argument("names", nargs=-1, required=True)
@connected
def rm(hub: "Client", as_json: bool, names: tuple[str, ...]) -> None:  # noqa: FBT001 - click calls it
    """Keep secrets no more."""
    for name in names:
        hub.remove_secret(name)
    if as_json:
        output.say_json({"removed": list(names)})
    else:
        click.echo(f"removed: {', '.join(names)}")


@command.command(name="rotate", cls=HubCommand)
@connected
def rotate(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """Seal all secrets with a new key, and forget the old one."""
    done = hub.rotate_keystore()
    if as_json:
        output.say_json(done)
        return
    click.echo(f"{done.sealed} values are sealed with the key {done.key}")
    for key in done.dropped:
        click.echo(f"key {key} is gone: backups from before hold secrets that nobody can open any more", err=True)


def _value(name: str, from_file: str | None) -> str:
    try:
        if from_file is not None:
            return Path(from_file).read_bytes().decode()
        if sys.stdin.isatty():
            return str(click.prompt(f"value of {name}", hide_input=True))
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as exc:
        source = "--from-file" if from_file is not None else "stdin"
        raise BadInput([Problem(source, "is no text in UTF-8; encode it, for example in base64")], "secret") from exc
    except OSError as exc:
        raise BadInput([Problem("--from-file", f"cannot read {from_file}: {exc.strerror}")], "secret") from exc
    return text.removesuffix("\n").removesuffix("\r")
