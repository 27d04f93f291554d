"""The command ``agentcom``: finds the subcommand, runs it, and turns how it ends into an exit status.

Subcommands are imported when they are asked for, so that ``agentcom --help`` starts at once; the HTTP stack comes only
with a command that talks to a hub. Exit statuses are in ``agentcom/cli/endings.py``.
"""

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from agentcom.cli import endings
from agentcom.starting import staying

if TYPE_CHECKING:
    from protocol.errors import AgentComError

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("agentcom.cli.up", "Start a hub and agents on this machine."),
    "submit": ("agentcom.cli.submit", "Give the mesh something to do."),
    "tasks": ("agentcom.cli.tasks", "List, look at, explain, cancel, review and retry tasks."),
    "artifacts": ("agentcom.cli.artifacts", "List and fetch files that tasks have left."),
    "agents": ("agentcom.cli.agents", "List agents, take them out of service and back."),
    "hosts": ("agentcom.cli.hosts", "List machines and how busy they are."),
    "endpoints": ("agentcom.cli.endpoints", "List, add and remove LLM endpoints."),
    "projects": ("agentcom.cli.projects", "Register projects, reach their files and git."),
    "git": ("agentcom.cli.git", "Start, see and submit work in your own working copy."),
    "pulls": ("agentcom.cli.pulls", "See, approve and retry pull requests of tasks."),
    "alerts": ("agentcom.cli.alerts", "See what is wrong, and who is told."),
    "budgets": ("agentcom.cli.budgets", "Bound what may be used a day."),
    "models": ("agentcom.cli.models", "List models on all endpoints."),
    "events": ("agentcom.cli.events", "Show what happened, and what happens."),
    "top": ("agentcom.cli.top", "Watch machines, GPUs and tasks in the terminal."),
    "login-link": ("agentcom.cli.login_link", "Print a link that opens the dashboard."),
    "token": ("agentcom.cli.token", "Make, list and revoke tokens."),
    "secret": ("agentcom.cli.secret", "Set, list and remove secrets that tasks name."),
    "join": ("agentcom.cli.join", "Have this machine take part in a mesh."),
    "rejoin": ("agentcom.cli.rejoin", "Have this machine take part again."),
    "leave": ("agentcom.cli.leave", "Take this machine out of its mesh."),
    "upgrade": ("agentcom.cli.upgrade", "Give machines the release that the hub runs."),
    "machines": ("agentcom.cli.machines", "Let machines in, and give them the hub's release."),
    "hub": ("agentcom.cli.hub", "Run a hub in the foreground."),
    "sidecar": ("agentcom.cli.sidecar", "Run a sidecar on this machine in the foreground."),
    "fingerprint": ("agentcom.cli.fingerprint", "Print the hash by which machines know the hub."),
    "simulate": ("agentcom.cli.simulate", "Try the scheduler on a fleet and a trace, in virtual time."),
    "log-levels": ("agentcom.cli.log_levels", "See and set who logs what, while it runs."),
    "audit": ("agentcom.cli.audit", "See who decided what, and prove that it is whole."),
    "backup": ("agentcom.cli.backup", "Copy the hub's store, while it works."),
    "restore": ("agentcom.cli.restore", "Put a backup in the place of a hub's store."),
    "doctor": ("agentcom.cli.doctor", "Look for what is wrong, and say how to mend it."),
    "bench": ("agentcom.cli.bench", "Measure the mesh on this machine."),
}
"""By name: the module that holds the command as ``command``, and its line in the help."""

_EPILOG: Final = """\b
A first minute:
  agentcom up                                 start a hub and an agent here
  agentcom submit --shell 'make test' --wait  run something, wait for the proof
  agentcom tasks ls                           see what happened

\b
Commands find the hub by --hub, AGENTCOM_HUB, or the data directory of the hub on
this machine; the token by --token-file, AGENTCOM_TOKEN, AGENTCOM_TOKEN_FILE, or there.
Exit status: 0 done, 1 the work failed, 2 usage or input error, 3 cannot reach the
hub, 4 refused.

\b
Completion (bash; zsh and fish alike): eval "$(_AGENTCOM_COMPLETE=bash_source agentcom)"
"""


class _Lazy(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        with staying():
            found = import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(found, click.Command), "every command module has its command"
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(name, possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click calls it
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"agentcom {version('agentcom')}")
        ctx.exit()


@click.group(cls=_Lazy, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def root() -> None:
    """Put every machine you own to work on one durable queue of agent tasks."""


def run(arguments: Sequence[str]) -> int:
    """Run the command that ``arguments`` name; its exit status."""
    as_json = "--json" in arguments
    try:
        ended: Any = root.main(list(arguments), prog_name="agentcom", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return endings.BAD_INPUT
    except click.ClickException as exc:
        from agentcom.cli import complaints

        return complaints.tell_usage(exc, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        return endings.INTERRUPTED
    except _ours() as exc:
        from agentcom.cli import complaints

        return complaints.tell(exc, as_json=as_json)
    except BrokenPipeError:
        endings.forget_stdout()
        return endings.DONE
    return ended if isinstance(ended, int) else endings.DONE


def _ours() -> "type[AgentComError]":
    """What our own errors are: looked for only when there is an error."""
    from protocol.errors import AgentComError

    return AgentComError


def main() -> NoReturn:
    """The entry point of the command ``agentcom``."""
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        endings.forget_stdout()
    gc.freeze()  # what is left ends with the process: nobody looks for cycles in it
    sys.exit(status)
