"""``agentcom sidecar``: run a sidecar in the foreground; it ends in order on Ctrl-C and SIGTERM."""

import os
from pathlib import Path
from typing import Any

import click

from agentcom.cli import endings
from agentcom.cli.connection import show_config
from agentcom.cli.parent import with_parent
from agentcom.starting import log_without_rich
from protocol.errors import BadInput, Problem


@click.group(name="sidecar", invoke_without_command=True)
@click.option("--hub", multiple=True, metavar="URL", help="Address of the hub; repeat it if hubs share a database.")
@click.option("--token-file", metavar="FILE", help="File that holds a token of role agent.")
@click.option("--ca-file", metavar="FILE", help="Authority of the hub (PEM), if it is its own.")
@click.option("--ca-hash", metavar="SHA256", help="Hash of that authority instead of the file.")
@click.option("--state-dir", metavar="DIR", help="Journal, name, repositories and workspaces.")
@click.option("--name", metavar="NAME", help="What the agent is called; made up at the first start if left out.")
@click.option("--host", metavar="NAME", help="What this machine is called; its host name if left out.")
@click.option("--slots", metavar="K", help="Attempts at a time.")
@click.option("--capability", "capabilities", multiple=True, metavar="C", help="What tasks may need, repeatable.")
@click.option("--sandbox", metavar="LEVEL", help="How work is confined: auto, or unsafe for not at all.")
@click.option("--sandbox-read", multiple=True, metavar="DIR", help="A directory that work may read, repeatable.")
@click.option("--sandbox-write", multiple=True, metavar="DIR", help="A directory that work may change, repeatable.")
@click.option(
    "--sandbox-network/--no-sandbox-network", default=None, help="Let work reach the network of this machine."
)
@click.option(
    "--sandbox-domain", "sandbox_domains", multiple=True, metavar="NAME", help="A host that work may reach, repeatable."
)
@click.option(
    "--sandbox-endpoint", "sandbox_endpoints", multiple=True, metavar="ID", help="An LLM endpoint that work may ask."
)
@click.option("--sandbox-memory-mb", metavar="MIB", help="Memory of one attempt; 0: four fifths of the machine's.")
@click.option("--sandbox-processes", metavar="N", help="Processes and threads of one attempt.")
@click.option("--sandbox-disk-mb", metavar="MIB", help="Disk of one attempt; 0: a quarter of the machine's.")
@click.option("--sandbox-cpus", metavar="X", help="Processors for one attempt, such as 1.5; 0: all.")
@click.option("--judge", "judges", multiple=True, metavar="E/MODEL", help="A model that judges work, repeatable.")
@click.option("--drain-s", metavar="S", help="How long an orderly end waits for running work.")
@click.option("--log", metavar="auto|json|pretty", help="Form of the log on stderr.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--traces", metavar="URL", help="Collector of traces (OTLP over HTTP); needs agentcom[otel].")
@click.option("--config", metavar="FILE", help="Settings file (TOML); LLM endpoints as [[endpoints]] tables.")
@click.option("--check-config", is_flag=True, help="Show the settings that count and where each comes from, and stop.")
@click.option("--json", "as_json", is_flag=True, help="With --check-config and for errors: JSON.")
@with_parent
@click.pass_context
def command(ctx: click.Context, /, config: str | None, check_config: bool, as_json: bool, **flags: Any) -> int:  # noqa: FBT001 - click calls it
    """Run a sidecar on this machine in the foreground."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = flags["state_dir"]
        return endings.DONE
    from sidecar import settings

    if flags["token_file"] is not None:
        flags["token"] = ""  # a file named here counts more than a token in the environment
    found, origins = settings.load(flags, file=config)
    if check_config:
        rows = settings.effective(found, origins)
        return show_config({row.name: {"value": row.value, "origin": row.origin} for row in rows}, as_json=as_json)
    log_without_rich()
    from sidecar.app import main

    return main(found)


@command.command(name="reclaim")
@click.pass_context
def reclaim(ctx: click.Context) -> int:
    """Take this machine's GPU back from its sidecar."""
    from sidecar import owner

    folder = _folder(ctx.obj)
    owner.reclaim(folder, "the machine itself")
    click.echo("work of models here stops within seconds; to work again with: agentcom sidecar give-back")
    return endings.DONE


@command.command(name="give-back")
@click.pass_context
def give_back(ctx: click.Context) -> int:
    """Give this machine's GPU to its sidecar again."""
    from sidecar import owner

    owner.give_back(_folder(ctx.obj))
    click.echo("models here work again")
    return endings.DONE


def _folder(state_dir: str | None) -> Path:
    """The state directory of the sidecar on this machine.

    Raises:
        BadInput: there is none.
    """
    from sidecar.settings import default_state_dir

    folder = Path(state_dir or default_state_dir(os.environ)).expanduser()
    if not (folder / "journal.db").exists():
        raise BadInput([Problem("--state-dir", f"no sidecar has ever run on {folder}")], "command")
    return folder
