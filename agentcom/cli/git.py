"""``agentcom git``: work in a copy of a project's repository, by its rules: begin a branch, see how it stands, submit.

What is submitted goes the way of every work: a machine of the mesh checks it, and it is offered as a pull request.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import click

from agentcom.cli import endings, output, spec
from agentcom.cli.connection import HubCommand, connected
from protocol.errors import BadInput, Problem
from protocol.pulls import OFFER, Forge

if TYPE_CHECKING:
    from agentcom.client import Client
    from agentcom.working_copy import Standing
    from protocol.projects import ProjectView
    from protocol.pulls import PullView

_LOOK_S: Final = 0.5
_PATIENCE_S: Final = 120.0
_PROJECT = click.option("--project", default="", metavar="P", help="Its project; else by the address of 'origin'.")


@click.group(name="git")
def command() -> None:
    """Work in your own copy of a project's repository, by its rules."""


@command.command(name="start", cls=HubCommand)
@click.argument("title")
@_PROJECT
@click.option("--into", default="", metavar="B", help="Branch that it is for; else the project's.")
@connected
def start(hub: "Client", as_json: bool, title: str, project: str, into: str) -> None:  # noqa: FBT001 - click calls it
    """Begin a branch for TITLE, from the newest state."""
    from agentcom.working_copy import WorkingCopy

    copy = WorkingCopy(Path.cwd())
    found = copy.project(hub.projects(), project)
    into = into or found.pulls.into or found.branch or copy.default_branch()
    branch = copy.start(title, found, into)
    if as_json:
        output.say_json({"branch": branch, "project": found.name, "into": into})
        return
    click.echo(f"{branch} begins at the newest {into} of {found.name}")
    click.echo("commit what you do, then: agentcom git submit")


@command.command(name="status", cls=HubCommand)
@connected
def status(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """Show how the branch stands, here, in the mesh and at the forge."""
    from agentcom.working_copy import WorkingCopy

    copy = WorkingCopy(Path.cwd())
    branch = copy.branch
    stands = copy.standing(copy.noted(branch, "into") or copy.default_branch())
    task = copy.noted(branch, "task")
    view = hub.task(task) if task else None
    pull = view.pull if view is not None else None
    if as_json:
        output.say_json({**stands._asdict(), "task": view, "pull": pull})
        return
    submitted = copy.noted(branch, "commit")
    output.fields(
        {
            "branch": branch,
            "project": copy.noted(branch, "project"),
            "title": copy.noted(branch, "title"),
            "into": f"{stands.into} ({stands.ahead} commits ahead, {stands.behind} behind)",
            "commit": stands.commit[:12],
            "uncommitted": f"{len(stands.changes)} files" if stands.changes else "",
            "pushed": "yes" if stands.is_pushed else "no",
            "submitted": "" if not task else "this commit" if submitted == stands.commit else f"{submitted[:12]}",
            "task": "" if view is None else f"{view.id} is {view.state.value}",
            **_of_pull(pull),
        }
    )


@command.command(name="submit", cls=HubCommand)
@click.option("--title", default="", metavar="T", help="What it is; else what it was started as.")
@_PROJECT
@click.option("--verify", multiple=True, metavar="CMD", help="A check, repeatable; else those of the project.")
@click.option("--again", is_flag=True, help="Check this commit once more, although it was submitted before.")
@click.option("--wait", is_flag=True, help="Wait until it was checked and offered; exit 0 only if it was.")
@connected
def submit(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    title: str,
    project: str,
    verify: tuple[str, ...],
    again: bool,  # noqa: FBT001 - click calls it
    wait: bool,  # noqa: FBT001 - click calls it
) -> int:
    """Push the branch, have it checked, and offered as a pull request."""
    from agentcom.working_copy import WorkingCopy, key_of

    copy = WorkingCopy(Path.cwd())
    branch = copy.branch
    found = copy.project(hub.projects(), project or copy.noted(branch, "project"))
    into = copy.noted(branch, "into") or found.pulls.into or found.branch or copy.default_branch()
    stands = copy.standing(into)
    _check_ready(stands)
    title = title or copy.noted(branch, "title") or copy.subject()
    copy.push(branch)
    task = _task(found, stands, title, verify)
    key = uuid4().hex if again else key_of([found.name, branch, stands.commit, into, title, *verify])
    made = hub.submit(task, key=key)
    copy.note(branch, "task", made.id)
    copy.note(branch, "commit", stands.commit)
    is_offered = found.pulls.forge is not Forge.NONE
    ended = _waited(hub, made.id, is_offered=is_offered) if wait else endings.DONE
    view = hub.task(made.id)
    if as_json:
        output.say_json(view)
        return ended
    at = f"{branch} at {stands.commit[:12]}"
    output.fields(
        {"branch": at, "task": f"{made.id} is {view.state.value}", "reason": view.reason, **_of_pull(view.pull)}
    )
    if not is_offered:
        click.echo(f"project {found.name} opens no pull requests: agentcom projects set {found.name} --pulls RULES")
    return ended


def _check_ready(stands: "Standing") -> None:
    problems = []
    if stands.branch == stands.into:
        problems.append(f"{stands.branch} is what work is offered for; agentcom git start begins a branch")
    elif not stands.ahead:
        problems.append(f"{stands.branch} has no commit that {stands.into} does not have")
    if stands.changes:
        problems.append(f"{len(stands.changes)} files have changes that no commit holds; commit or stash them")
    if problems:
        raise BadInput([Problem("", problem) for problem in problems], "working copy")


def _task(project: "ProjectView", stands: "Standing", title: str, verify: tuple[str, ...]) -> dict[str, Any]:
    """What checks the commit: it begins from where the work is for, so that checks see all that it changes."""
    task: dict[str, Any] = {
        "title": title,
        "executor": "shell",
        "command": f"git reset --quiet --hard {stands.commit}",
        "project": project.name,
        "complexity": "trivial",
        "context": {"repo": project.repository, "branch": stands.into},
        "labels": {OFFER: stands.branch},
        "budget": {"fix_attempts": 0},
        "max_retries": 0,
    }
    if verify:
        task["verification"] = [spec.check_of(check) for check in verify]
    return task


def _waited(hub: "Client", task: str, *, is_offered: bool) -> int:
    view = hub.wait(task)
    until = time.monotonic() + _PATIENCE_S
    is_good = view.state.value == "completed" and view.verified is not False
    while is_good and is_offered and time.monotonic() < until:
        pull = hub.task(task).pull
        if pull is not None and pull.state.value != "pending":
            return endings.WORK_FAILED if pull.state.value in {"failed", "closed"} else endings.DONE
        time.sleep(_LOOK_S)  # the hub opens it at its forge after the task has ended, and no call waits for that
    return endings.DONE if is_good and not is_offered else endings.WORK_FAILED


def _of_pull(pull: "PullView | None") -> dict[str, str]:
    if pull is None:
        return {}
    return {
        "pull request": f"{'' if pull.number is None else f'#{pull.number} '}{pull.state.value}",
        "url": pull.url,
        "risk": "" if pull.risk is None else "; ".join((pull.risk.value, *pull.reasons)),
        "problem": pull.problem,
    }
