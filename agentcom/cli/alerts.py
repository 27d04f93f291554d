"""``agentcom alerts``: what is wrong, when it counts as wrong, and who is told."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected

if TYPE_CHECKING:
    from agentcom.client import Client
    from protocol.alerts import RuleView


@click.group(name="alerts", cls=NounGroup)
def command() -> None:
    """List, acknowledge and silence alerts; rules; who is told."""


@command.command(name="ls", cls=HubCommand)
@click.option("--state", type=click.Choice(["firing", "acknowledged", "silenced", "resolved"]), help="Only those.")
@connected
def ls(hub: "Client", as_json: bool, state: str | None) -> None:  # noqa: FBT001 - click calls it
    """List what is wrong, and what was."""
    found = hub.alerts(state or "")
    if as_json:
        output.say_json(found)
        return
    rows = [
        (one.id, one.severity.value, one.state.value, f"{one.since:%m-%d %H:%M}", one.summary) for one in found.alerts
    ]
    output.table(("id", "severity", "state", "since", "what"), rows, empty="no alerts")
    for runbook in sorted({one.runbook for one in found.alerts if one.until is None}):
        click.echo(f"what to do: {runbook}")


@command.command(name="ack", cls=HubCommand)
@click.argument("alert")
@connected
def ack(hub: "Client", as_json: bool, alert: str) -> None:  # noqa: FBT001 - click calls it
    """Say that you are at it."""
    found = hub.acknowledge_alert(alert)
    if as_json:
        output.say_json(found)
    else:
        click.echo(f"{found.rule}: acknowledged")


@command.command(name="silence", cls=HubCommand)
@click.argument("alert")
@click.option("--hours", type=float, default=1.0, show_default=True, help="For so long.")
@connected
def silence(hub: "Client", as_json: bool, alert: str, hours: float) -> None:  # noqa: FBT001 - click calls it
    """Hear nothing of it for a while."""
    found = hub.silence_alert(alert, hours * 3_600)
    if as_json:
        output.say_json(found)
    else:
        click.echo(f"{found.rule}: silent until {found.silent_until:%Y-%m-%d %H:%M} UTC")


@command.command(name="rules", cls=HubCommand)
@click.argument("rule", required=False)
@click.option("--threshold", type=float, metavar="N", help="So much, or more, is wrong.")
@click.option("--for", "for_s", type=float, metavar="SECONDS", help="For so long before you are told.")
@click.option("--cooldown", type=float, metavar="SECONDS", help="For so long not told again.")
@click.option("--on/--off", "enabled", default=None, help="Whether it is looked at.")
@connected
def rules(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    rule: str | None,
    threshold: float | None,
    for_s: float | None,
    cooldown: float | None,
    enabled: bool | None,  # noqa: FBT001 - as above
) -> None:
    """List the rules, or change one."""
    from protocol.alerts import RulePatch

    patch = RulePatch(threshold=threshold, for_s=for_s, cooldown_s=cooldown, enabled=enabled)
    if patch != RulePatch():
        if rule is None:
            raise click.UsageError("which rule? agentcom alerts rules RULE --threshold N")
        hub.change_alert_rule(rule, patch)
    found = hub.alert_rules()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            each.name,
            each.severity.value,
            f"{each.threshold:g} {each.unit}",
            f"{each.for_s:g} s",
            _stands(each),
        )
        for each in found.rules
        if rule in {None, each.name}
    ]
    output.table(("rule", "severity", "from", "for", ""), rows, empty="there is no such rule")


def _stands(rule: "RuleView") -> str:
    return "off" if not rule.enabled else "changed" if rule.changed else ""


@command.command(name="notifiers", cls=HubCommand)
@click.option("--add", metavar="URL", help="Tell this address: https://..., or one of Apprise.")
@click.option("--secret", default="", help="Sign what is sent with it.")
@click.option("--label", default="", help="What it is, for people.")
@click.option("--rm", "gone", metavar="ID", help="Tell this one no more.")
@connected
def notifiers(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    add: str | None,
    secret: str,
    label: str,
    gone: str | None,
) -> None:
    """List who is told; --add and --rm change that."""
    from protocol.alerts import NotifierBody

    if gone:
        hub.remove_notifier(gone)
    if add:
        kind = "webhook" if add.startswith(("http://", "https://")) else "apprise"
        hub.add_notifier(NotifierBody(url=add, kind=kind, secret=secret, label=label))  # type: ignore[arg-type]  # one of the two
    found = hub.notifiers()
    if as_json:
        output.say_json(found)
        return
    rows = [(each.id, each.kind, each.url, each.label, each.problem) for each in found.notifiers]
    output.table(("id", "kind", "address", "label", "problem"), rows, empty="nobody is told; --add URL")


@command.command(name="test", cls=HubCommand)
@click.argument("notifier")
@connected
def test(hub: "Client", as_json: bool, notifier: str) -> None:  # noqa: FBT001 - click calls it
    """Send a test message to one who is told."""
    found = hub.test_notifier(notifier)
    if as_json:
        output.say_json(found)
    else:
        click.echo("delivered" if found.delivered else f"not delivered: {found.problem}")
    if not found.delivered:
        raise click.exceptions.Exit(1)
