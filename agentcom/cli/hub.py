"""``agentcom hub``: run a hub in the foreground; it ends in order on Ctrl-C and SIGTERM."""

from typing import Any

import click

from agentcom.cli.connection import show_config
from agentcom.cli.parent import with_parent
from agentcom.starting import log_without_rich


@click.command(name="hub")
@click.option("--data-dir", metavar="DIR", help="Where the store and the first tokens lie.")
@click.option("--listen", metavar="HOST:PORT", help="Address to listen on; port 0 picks a free one.")
@click.option("--url", metavar="URL", help="How others reach this hub, if not by the address it listens on.")
@click.option("--store", metavar="URL", help="postgresql://...: a database instead of SQLite in the data directory.")
@click.option("--tls-cert", metavar="FILE", help="Certificate chain (PEM); the hub then speaks https.")
@click.option("--tls-key", metavar="FILE", help="Key of the certificate (PEM).")
@click.option("--tls", is_flag=True, default=None, help="Speak https on a loopback address, too.")
@click.option("--tls-name", "tls_names", multiple=True, metavar="NAME", help="A name for its certificate, repeatable.")
@click.option("--plaintext", is_flag=True, default=None, help="No TLS, for the proxies before it.")
@click.option(
    "--trusted-proxy", "trusted_proxies", multiple=True, metavar="NET", help="A proxy to believe, repeatable."
)
@click.option("--hub-lease-s", metavar="S", help="How long other hubs of one PostgreSQL wait before they take over.")
@click.option("--heartbeat-s", metavar="S", help="How often sidecars report.")
@click.option("--lease-s", metavar="S", help="How long an attempt stays its agent's without a report.")
@click.option("--window", metavar="N", help="Queued tasks of one kind that are kept in memory.")
@click.option("--disk-reserve-mb", metavar="MIB", help="Free space that is kept for results of running work.")
@click.option("--memory-limit-mb", metavar="MIB", help="Above this no new tasks are taken in; 0: half the machine.")
@click.option("--origin", "origins", multiple=True, metavar="URL", help="How browsers may name this hub, repeatable.")
@click.option("--read-only", is_flag=True, default=None, help="Show what a damaged store holds, take nothing in.")
@click.option(
    "--project-root", "project_roots", multiple=True, metavar="DIR", help="Where projects may be, repeatable."
)
@click.option("--price", "prices", multiple=True, metavar="MODEL=IN/OUT", help="Dollars for a million tokens.")
@click.option("--gpu-hour-usd", metavar="N", help="What an hour of a GPU of ours costs, for local models.")
@click.option("--kwh-usd", metavar="N", help="What energy costs, for local models.")
@click.option("--attempt-usd", metavar="N", help="What an attempt may use without a limit of its own.")
@click.option("--backup-every-s", metavar="S", help="Seconds between two backups; 0: only with agentcom backup.")
@click.option("--backup-keep", metavar="N", help="How many backups stay.")
@click.option("--keep-tasks-days", metavar="D", help="How long tasks stay after their end; 0: for ever.")
@click.option("--keep-dead-days", metavar="D", help="How long dead letters stay; 0: for ever.")
@click.option("--keep-logs-days", metavar="D", help="How long the output of finished tasks stays; 0: for ever.")
@click.option("--keep-keys-days", metavar="D", help="How long idempotency keys stay; 0: for ever.")
@click.option("--keep-events-days", metavar="D", help="How long events stay; 0: for ever.")
@click.option("--keep-events", metavar="N", help="How many events stay at most; 0: any number.")
@click.option("--keep-agents-days", metavar="D", help="How long agents stay that are gone; 0: for ever.")
@click.option("--keep-audit-days", metavar="D", help="How long entries of the audit log stay; 0: for ever.")
@click.option("--log", metavar="auto|json|pretty", help="Form of the log on stderr.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--traces", metavar="URL", help="Collector of traces (OTLP over HTTP); needs agentcom[otel].")
@click.option("--config", metavar="FILE", help="Settings file (TOML).")
@click.option("--check-config", is_flag=True, help="Show the settings that count and where each comes from, and stop.")
@click.option("--json", "as_json", is_flag=True, help="With --check-config and for errors: JSON.")
@with_parent
def command(config: str | None, check_config: bool, as_json: bool, **flags: Any) -> int:  # noqa: FBT001 - click calls it
    """Run a hub in the foreground.

    \b
    The first start writes DIR/admin.token and DIR/agent.token; DIR/hub.json tells
    commands on this machine where the hub is.
    """  # noqa: D301 - click wants the backspace character itself
    from hub import settings

    found, origins = settings.load(flags, file=config)
    if check_config:
        shown = {
            name: {"value": settings.masked(_shown(getattr(found, name))), "origin": origins.get(name, "default")}
            for name in found.__struct_fields__
        }
        return show_config(shown, as_json=as_json)
    log_without_rich()
    from hub.app import main

    return main(found)


def _shown(value: object) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
