"""What all commands that talk to a hub have in common: how to find it, ``--json``, and ``--check-config``."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from agentcom.cli import endings, output
from agentcom.starting import staying
from protocol.errors import BadInput, NotFound, Problem

if TYPE_CHECKING:
    from agentcom.blocking_tasks import BlockingTasks, TaskClient
    from agentcom.client import Client

PATIENCE_S: Final = 2.0
"""A person waits at the prompt: long enough for a hub that starts, short enough to say soon that there is none."""
_LEAST_SUFFIX: Final = 4
_LOOKED_AT: Final = 1_000
_WHERE: Final = ("hub", "token_file", "data_dir")


class HubCommand(click.Command):
    """A command that talks to a hub; with ``--check-config`` it tells what it would use, and does nothing."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let required arguments be missing for ``--check-config``."""
        if "--check-config" in args:
            ctx.resilient_parsing = True  # the other arguments need not be there
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - what the command returns
        """Run the command, or show the settings."""
        if not ctx.params.pop("check_config", False):
            return super().invoke(ctx)
        from agentcom import settings

        found = settings.load({name: ctx.params.get(name) for name in _WHERE})
        return show_config(found.shown, as_json=bool(ctx.params.get("as_json")))


def show_config(shown: Mapping[str, Mapping[str, str]], *, as_json: bool) -> int:
    """Print the settings that count and where each came from; the exit status."""
    if as_json:
        output.say_json(shown)
    else:
        output.table(("setting", "value", "origin"), [(name, *entry.values()) for name, entry in shown.items()])
    return endings.DONE


class NounGroup(click.Group):
    """Commands about one noun; without a verb it lists them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``ls`` where no verb is."""
        if not args or (args[0].startswith("-") and args[0] not in {"-h", "--help"}):
            args = ["ls", *args]
        return super().parse_args(ctx, args)


def connected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that find the hub; the function gets a ``Client`` as ``hub`` and ``as_json``."""
    return _connected(command, open_client)


def connected_for_tasks(command: Callable[..., Any]) -> Callable[..., Any]:
    """As :func:`connected`, for a command that asks about tasks only: it starts sooner."""
    return _connected(command, open_for_tasks)


def _connected(command: Callable[..., Any], opened: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def call(
        *,
        hub: str | None,
        token_file: str | None,
        data_dir: str | None,
        **rest: Any,
    ) -> Any:  # noqa: ANN401 - what the command returns
        with opened(hub, token_file, data_dir) as client:
            return command(hub=client, **rest)

    return where(call)


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that find the hub."""
    for option in reversed(
        (
            click.option("--json", "as_json", is_flag=True, help="Print the API's own JSON; errors too, on stderr."),
            click.option("--hub", metavar="URL", help="Address of the hub."),
            click.option("--token-file", metavar="FILE", help="File that holds the token."),
            click.option("--data-dir", metavar="DIR", help="Data directory of the hub on this machine."),
            click.option("--check-config", is_flag=True, help="Show hub and token that would be used, and stop."),
        )
    ):
        command = option(command)
    return command


@contextmanager
def open_client(hub: str | None, token_file: str | None, data_dir: str | None) -> "Iterator[Client]":
    """A client with a prompt's patience.

    Raises:
        BadInput: the settings are wrong.
    """
    with staying():
        from agentcom.client import Client

    with Client(hub, token_file=token_file, data_dir=data_dir, patience_s=PATIENCE_S, is_brief=True) as client:
        yield client


@contextmanager
def open_for_tasks(hub: str | None, token_file: str | None, data_dir: str | None) -> "Iterator[TaskClient]":
    """As :func:`open_client`, for what can be asked about tasks."""
    with staying():
        from agentcom.blocking_tasks import TaskClient

    with TaskClient(hub, token_file=token_file, data_dir=data_dir, patience_s=PATIENCE_S, is_brief=True) as client:
        yield client


def task_id(hub: "BlockingTasks", text: str) -> str:
    """The id of the task that a person named by its id, or by the beginning or the end of it.

    Raises:
        BadInput: it is no part of an id, or of several.
        NotFound: no recent task has such an id.
    """
    from protocol.ids import TASK_ID

    wanted = text.strip().lower()
    if TASK_ID.fullmatch(wanted):
        return wanted
    if len(wanted) < _LEAST_SUFFIX or not wanted.isascii() or not wanted.isalnum():
        problem = f"not a task id, nor at least {_LEAST_SUFFIX} characters from the end of one: {text[:60]!r}"
        raise BadInput([Problem("TASK", problem)], "command")
    found: list[str] = []
    for number, task in enumerate(hub.tasks()):
        if number == _LOOKED_AT:
            break
        if task.id.endswith(wanted) or task.id.startswith(wanted):
            found.append(task.id)
    if not found:
        raise NotFound(f"task among the latest {_LOOKED_AT:,} whose id ends in", text)
    if len(found) > 1:
        listed = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")  # noqa: PLR2004 - enough to see
        raise BadInput([Problem("TASK", f"{text!r} fits {len(found)} tasks: {listed}; give more of the id")], "command")
    return found[0]
