"""``agentcom budgets``: what may be used a day, and how it stands."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected
from protocol.usage import UsageBy

if TYPE_CHECKING:
    from agentcom.client import Client
    from protocol.budgets import BudgetAmount, BudgetBody, BudgetView


@click.group(name="budgets", cls=NounGroup)
def command() -> None:
    """List, set and remove budgets for a day. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List budgets: what was used today, and what is left."""
    found = hub.budgets()
    if as_json:
        output.say_json(found)
        return
    rows = [row for budget in found.budgets for row in _rows(budget)]
    head = ("budget", "of", "a day", "spent", "reserved", "left", "anew in")
    output.table(head, rows, empty="no budgets; set one with: agentcom budgets set hub --usd N")


@command.command(name="usage", cls=HubCommand)
@click.option(
    "--by",
    type=click.Choice([one.value for one in UsageBy]),
    default="model",
    show_default=True,
    help="Told apart by it.",
)
@click.option(
    "--days", type=click.FloatRange(0.01, 31), default=7.0, show_default=True, help="Of the last so many days."
)
@connected
def usage(hub: "Client", as_json: bool, by: str, days: float) -> None:  # noqa: FBT001 - click calls it
    """List what models were used for, the most expensive first."""
    found = hub.usage(by, since=f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}")
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            one.name or "none",
            f"${one.cost_usd:,.4f}",
            str(one.attempts),
            str(one.unpriced or ""),
            f"{one.input_tokens:,}",
            f"{one.cached_input_tokens:,}",
            f"{one.output_tokens:,}",
            output.duration(one.seconds),
        )
        for one in found.groups
    ]
    head = (str(found.by), "cost", "attempts", "unpriced", "tokens in", "from cache", "tokens out", "time")
    output.table(head, rows, empty="no model was used in this time")


@command.command(name="set", cls=HubCommand)
@click.argument("budget")
@click.option("--tokens", type=int, metavar="N", help="Tokens a day, in and out.")
@click.option("--usd", type=float, metavar="N", help="US dollars a day.")
@click.option("--seconds", type=float, metavar="N", help="Seconds of attempts a day.")
@connected
def put(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    budget: str,
    tokens: int | None,
    usd: float | None,
    seconds: float | None,
) -> None:
    """Set a budget; what is left out has no limit.

    BUDGET is hub, submitter:TOKEN_ID or project:NAME.
    """
    from protocol.budgets import BudgetBody

    wanted = BudgetBody(tokens=tokens, usd=usd, seconds=seconds)
    if wanted == BudgetBody():
        raise click.UsageError("nothing is bounded: give --tokens, --usd or --seconds")
    kept = hub.set_budget(budget, wanted)
    if as_json:
        output.say_json(kept)
    else:
        click.echo(f"{kept.id}: {_words(kept.limit)} a day, {_words(kept.left)} left today")


@command.command(name="rm", cls=HubCommand)
@click.argument("budget")
@connected
def rm(hub: "Client", as_json: bool, budget: str) -> None:  # noqa: FBT001 - click calls it
    """Remove a budget: what it bounded has no limit any more."""
    hub.remove_budget(budget)
    if as_json:
        output.say_json({"id": budget})
    else:
        click.echo(f"{budget} is removed")


def _rows(budget: "BudgetView") -> list[tuple[str, ...]]:
    """A line for each kind that has a limit."""
    return [
        (
            budget.id,
            kind,
            _one(kind, budget.limit),
            _one(kind, budget.spent),
            _one(kind, budget.reserved),
            _one(kind, budget.left),
            output.left(budget.resets_at),
        )
        for kind in ("tokens", "usd", "seconds")
        if getattr(budget.limit, kind) is not None
    ]


def _words(amounts: "BudgetBody") -> str:
    units = {"tokens": " tokens", "usd": "", "seconds": ""}
    given = [kind for kind in units if getattr(amounts, kind) is not None]
    return ", ".join(f"{_one(kind, amounts)}{units[kind]}" for kind in given)


def _one(kind: str, amounts: "BudgetBody | BudgetAmount") -> str:
    value = getattr(amounts, kind)
    if kind == "usd":
        return f"${value:,.4f}"
    return f"{value:,}" if kind == "tokens" else output.duration(value)
