"""``agentcom up``: a hub and agents on this machine, one command, until Ctrl-C."""

import asyncio
import errno
import signal
import socket
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from agentcom import settings
from agentcom.cli import endings, output
from agentcom.cli.agents import sandbox_of
from protocol.errors import BadInput, Problem

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agentcom.aio import AsyncClient
    from agentcom.household import Household, Plan

DEFAULT_PORT: Final = 7420
_AGENTS_S: Final = 20.0
_ABOUT: Final = {
    "none": "none, so no commands are run; apt install bubblewrap, then start again",
    "unsafe": "off: work has all your rights",
}
"""Levels of the sandbox that nobody should overlook."""


@click.command(name="up")
@click.option("--data-dir", metavar="DIR", help="Where everything is kept.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port on 127.0.0.1; 0 picks a free one.",
)
@click.option(
    "--sidecars", type=click.IntRange(0, 64), default=1, show_default=True, metavar="N", help="Agents to start."
)
@click.option("--no-open", is_flag=True, help="Do not open the dashboard in a browser.")
def command(data_dir: str | None, port: int, sidecars: int, no_open: bool) -> int:  # noqa: FBT001 - click calls it
    """Start a hub and agents on this machine and print the dashboard's link.

    Ctrl-C ends everything in order; the queue stays in the data directory.
    """
    from agentcom.household import Plan

    folder = Path(settings.load({"data_dir": data_dir}).data_dir)
    plan = Plan(folder=folder, port=port, sidecars=sidecars)
    is_opened = not no_open and sys.stdout.isatty() and settings.has_screen()
    return asyncio.run(_up(plan, is_usual=data_dir is None, is_opened=is_opened))


async def _up(plan: "Plan", *, is_usual: bool, is_opened: bool) -> int:
    from agentcom.household import Household, running_hub

    if url := await running_hub(plan.folder):
        raise BadInput([Problem("--data-dir", f"a hub runs on {plan.folder} already: {url}")], "command")
    _check_port(plan.port)
    household = Household(plan, lambda line: click.echo(output.printable(line), err=True))
    told = asyncio.Event()

    def on_signal() -> None:
        if told.is_set():
            household.hurry()
        told.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    waiting = asyncio.ensure_future(told.wait())
    try:
        if not await _before(waiting, household.start()):
            return endings.INTERRUPTED
        await _welcome(household, plan, is_usual=is_usual, is_opened=is_opened)
        ended = asyncio.ensure_future(household.until_hub_ends())
        both: set[asyncio.Future[Any]] = {waiting, ended}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            click.echo(f"error: the hub ended with status {ended.result()}; everything else is stopped", err=True)
            return endings.WORK_FAILED
        click.echo("\nStopping; running work gets 10 s. Again: at once.", err=True)
        return endings.DONE
    finally:
        waiting.cancel()
        await household.stop()


async def _before(told: "asyncio.Future[Literal[True]]", starting: "Coroutine[object, object, None]") -> bool:
    """Whether the start ended before somebody wanted the end."""
    task = asyncio.ensure_future(starting)
    both: set[asyncio.Future[Any]] = {told, task}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    task.result()
    return True


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            taken = (
                "is taken by another program" if exc.errno == errno.EADDRINUSE else f"cannot be used: {exc.strerror}"
            )
            problem = Problem("--port", f"{port} {taken}; choose another, or 0 for a free one")
            raise BadInput([problem], "command") from exc


async def _welcome(household: "Household", plan: "Plan", *, is_usual: bool, is_opened: bool) -> None:
    from agentcom.aio import AsyncClient

    async with AsyncClient(household.url, data_dir=str(plan.folder)) as client:
        ticket = await client.session_ticket()
        online = await _agents(client, len(household.agents))
    where = "" if is_usual else f" --data-dir {plan.folder}"
    link = f"{household.url}{ticket.path}"
    output.fields(
        {
            "Hub": f"{household.url}   (this machine only)   data {plan.folder}",
            "Dashboard": f"{link}   (works once, within 5 minutes)",
            "Agents": ", ".join(online) or ("none asked for" if not household.agents else "starting"),
            "Sandbox": "; ".join(sorted({_ABOUT.get(level, level) for level in online.values()})),
            "Next": f"agentcom submit --shell 'echo hello' --wait{where}   (in another terminal)",
            "Stop": "Ctrl-C; nothing that was submitted is lost",
        }
    )
    sys.stdout.flush()
    if is_opened:
        await asyncio.to_thread(webbrowser.open, link)


async def _agents(client: "AsyncClient", count: int) -> dict[str, str]:
    """The agents that joined, once all have or it took too long: name, and how it confines what its work runs."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + _AGENTS_S
    while True:
        agents = [agent for agent in (await client.agents()).agents if agent.state != "offline"]
        found = {agent.name: sandbox_of(agent.capabilities) for agent in agents}
        if len(found) >= count or loop.time() > ends_at:
            return found
        await asyncio.sleep(0.05)
