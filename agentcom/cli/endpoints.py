"""``agentcom endpoints``: list, add, change and remove LLM endpoints."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected
from protocol import schema

if TYPE_CHECKING:
    from agentcom.client import Client
    from protocol.endpoint_views import EndpointView


@click.group(name="endpoints", cls=NounGroup)
def command() -> None:
    """List, add, change and remove LLM endpoints. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List LLM endpoints: how they do, and what they have in memory."""
    found = hub.endpoints()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            endpoint.id,
            endpoint.state,
            health_of(endpoint),
            endpoint.kind.value,
            "local" if endpoint.local else "cloud",
            str(endpoint.turns or ""),
            endpoint.host or "",
            endpoint.url,
            quota_of(endpoint),
            ", ".join(f"{model.name} ({model.residency.value})" for model in endpoint.models),
            endpoint.detail,
        )
        for endpoint in found.endpoints
    ]
    head = ("endpoint", "state", "health", "kind", "where", "turns", "host", "url", "quota", "models", "detail")
    output.table(head, rows, empty="no endpoints; add one with: agentcom endpoints add KIND URL")


def health_of(endpoint: "EndpointView", now: datetime | None = None) -> str:
    """Its health, and for how long still if it is for a time: ``cooldown 42s``."""
    left = output.left(endpoint.until, now)
    return f"{endpoint.health} {left}" if left else endpoint.health


def quota_of(endpoint: "EndpointView") -> str:
    """What it may be asked a minute; empty: as much as one likes."""
    quotas = ((endpoint.rpm, "requests"), (endpoint.tpm, "tokens"))
    return ", ".join(f"{value:,} {what}" for value, what in quotas if value)


@command.command(name="add", cls=HubCommand)
@click.argument("words", nargs=-1, metavar="KIND URL")
@click.option("--kind", hidden=True)
@click.option("--url", hidden=True)
@click.option("--id", "id", default="", metavar="ID", help="Its name; made from the address if left out.")
@click.option("--local/--cloud", "local", default=None, help="Whether it counts as local; by its kind if left out.")
@click.option("--default-model", default="", metavar="MODEL", help="Model for tasks that name none.")
@click.option("--rpm", type=int, metavar="N", help="Requests that it may be asked a minute.")
@click.option("--tpm", type=int, metavar="N", help="Tokens that it may be asked a minute.")
@connected
def add(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    words: tuple[str, ...],
    kind: str | None,
    url: str | None,
    **given: Any,
) -> None:
    """Tell the hub of an LLM endpoint; it looks whether it answers.

    KIND is ollama, anthropic, openai or gemini.
    """
    from protocol.endpoint_views import EndpointBody

    kind, url = _kind_and_url(words, kind, url)
    given = {"url": url, "kind": kind, **given}
    added = hub.add_endpoint(schema.read(given, EndpointBody, "endpoint"))
    if as_json:
        output.say_json(added)
    else:
        _say(added)


def _say(endpoint: "EndpointView") -> None:
    click.echo(f"{endpoint.id} is {endpoint.state}{f': {endpoint.detail}' if endpoint.detail else ''}")


def _kind_and_url(words: tuple[str, ...], kind: str | None, url: str | None) -> tuple[str, str]:
    """Both, from the arguments and the options of the same name, which were there first and take the place of one."""
    wanted = {"KIND": kind, "URL": url}
    missing = [name for name, value in wanted.items() if value is None]
    if len(words) > len(missing):
        raise click.UsageError(f"Got unexpected extra argument ({' '.join(words[len(missing) :])})")
    if len(words) < len(missing):
        raise click.UsageError(f"Missing argument '{missing[len(words)]}'; wanted: agentcom endpoints add KIND URL")
    wanted.update(zip(missing, words, strict=True))
    return str(wanted["KIND"]), str(wanted["URL"])


@command.command(name="change", cls=HubCommand)
@click.argument("endpoint")
@click.option("--url", metavar="URL", help="Where it is now.")
@click.option("--local/--cloud", "local", default=None, help="Whether it counts as local.")
@click.option("--default-model", metavar="MODEL", help="Model for tasks that name none; '' for none.")
@click.option("--rpm", type=int, metavar="N", help="Requests that it may be asked a minute; 0: any number.")
@click.option("--tpm", type=int, metavar="N", help="Tokens that it may be asked a minute; 0: any number.")
@connected
def change(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    endpoint: str,
    url: str | None,
    local: bool | None,  # noqa: FBT001 - click calls it
    default_model: str | None,
    rpm: int | None,
    tpm: int | None,
) -> None:
    """Change an LLM endpoint that was added; what is left out stays."""
    from protocol.endpoint_views import EndpointPatch

    given = EndpointPatch(url=url, local=local, default_model=default_model, rpm=rpm, tpm=tpm)
    if given == EndpointPatch():
        raise click.UsageError("nothing to change: give --url, --local, --cloud, --default-model, --rpm or --tpm")
    changed = hub.change_endpoint(endpoint, given)
    if as_json:
        output.say_json(changed)
    else:
        _say(changed)


@command.command(name="rm", cls=HubCommand)
@click.argument("endpoint")
@connected
def rm(hub: "Client", as_json: bool, endpoint: str) -> None:  # noqa: FBT001 - click calls it
    """Forget an LLM endpoint."""
    hub.remove_endpoint(endpoint)
    if as_json:
        output.say_json({"id": endpoint})
    else:
        click.echo(f"{endpoint} is removed")
