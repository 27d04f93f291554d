"""``agentcom models``: list models on all endpoints."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected

if TYPE_CHECKING:
    from agentcom.client import Client


@click.group(name="models", cls=NounGroup)
def command() -> None:
    """List models on all endpoints. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List models: where they are, in memory or not, and their health."""
    found = hub.models()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            model.name,
            model.endpoint,
            model.host or "",
            "local" if model.local else "cloud",
            model.residency,
            model.health,
            output.size(model.vram_bytes or model.size_bytes),
            "" if model.context is None else f"{model.context:,}",
            "" if model.tokens_per_s is None else f"{model.tokens_per_s:.0f}",
            output.age(model.last_used_at),
        )
        for model in found.models
    ]
    head = ("model", "endpoint", "host", "where", "residency", "health", "size", "context", "tokens/s", "used")
    output.table(head, rows, empty="no models; an agent that reaches an LLM endpoint brings them")
