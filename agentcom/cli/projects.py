"""``agentcom projects``: register repositories and directories, reach their files, use their git."""

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected
from protocol import schema
from protocol.errors import BadInput, Problem

if TYPE_CHECKING:
    from agentcom.client import Client
    from protocol.projects import ProjectView, RepositoryView


_PULLS: Final = "forgejo, gitea, github or none: pull requests for pushed work; or rules as JSON."


@click.group(name="projects", cls=NounGroup)
def command() -> None:
    """Register projects, reach their files, use their git. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List projects."""
    found = hub.projects()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            project.name,
            "default" if project.default else "",
            project.priority or "",
            project.repository or project.directory,
            project.branch,
            project.description,
        )
        for project in found.projects
    ]
    head = ("project", "default", "priority", "where", "branch", "description")
    output.table(head, rows, empty="no projects; add one with: agentcom projects add NAME WHERE")


@command.command(name="show", cls=HubCommand)
@click.argument("project")
@connected
def show(hub: "Client", as_json: bool, project: str) -> None:  # noqa: FBT001 - click calls it
    """Show a project and what its tasks inherit."""
    _tell(hub.project(project), as_json=as_json)


@command.command(name="add", cls=HubCommand)
@click.argument("name")
@click.argument("where")
@click.option("--directory", is_flag=True, help="WHERE is a directory on the hub's machine, no repository.")
@click.option("--branch", default="", metavar="B", help="Where its tasks start from.")
@click.option("--priority", metavar="P", help="urgent, high, normal or low; for tasks that do not say.")
@click.option("--defaults", default="{}", metavar="JSON", help="More that tasks inherit, as fields of a task.")
@click.option("--description", default="", metavar="TEXT", help="What it is.")
@click.option("--pulls", metavar="RULES", help=_PULLS)
@click.option("--default", is_flag=True, help="Tasks that name no project belong to it.")
@connected
def add(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    where: str,
    directory: bool,  # noqa: FBT001 - click calls it
    defaults: str,
    pulls: str | None,
    **fields: Any,
) -> None:
    """Register a repository (its address), or a directory.

    User and password in an https address are kept by the hub and shown to nobody.
    """
    from protocol.projects import ProjectBody

    given = {**fields, "directory" if directory else "repository": where, "defaults": _json(defaults)}
    given |= {} if pulls is None else {"pulls": _rules(pulls)}
    _tell(hub.add_project(schema.read(given, ProjectBody, "project")), as_json=as_json)


@command.command(name="set", cls=HubCommand)
@click.argument("project")
@click.option("--repository", metavar="URL", help="A new address; user and password in it replace the old ones.")
@click.option("--branch", metavar="B", help="Where its tasks start from.")
@click.option("--priority", metavar="P", help="urgent, high, normal or low; for tasks that do not say.")
@click.option("--defaults", metavar="JSON", help="More that tasks inherit, as fields of a task.")
@click.option("--description", metavar="TEXT", help="What it is.")
@click.option("--pulls", metavar="RULES", help=_PULLS)
@click.option("--default/--no-default", default=None, help="Whether tasks that name no project belong to it.")
@connected
def change(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    project: str,
    defaults: str | None,
    pulls: str | None,
    **fields: Any,
) -> None:
    """Change a project; what is left out stays."""
    from protocol.projects import ProjectPatch

    given = fields | ({} if defaults is None else {"defaults": _json(defaults)})
    given |= {} if pulls is None else {"pulls": _rules(pulls)}
    _tell(hub.change_project(project, schema.read(given, ProjectPatch, "project")), as_json=as_json)


@command.command(name="rm", cls=HubCommand)
@click.argument("project")
@click.option("--force", is_flag=True, help="Also if the hub's clone holds work that is nowhere else.")
@connected
def rm(hub: "Client", as_json: bool, project: str, force: bool) -> None:  # noqa: FBT001 - click calls it
    """Forget a project and remove the hub's clone."""
    hub.remove_project(project, force=force)
    if as_json:
        output.say_json({"name": project})
    else:
        click.echo(f"{project} is removed")


# --- files ------------------------------------------------------------------------------------------------------------


@command.command(name="files", cls=HubCommand)
@click.argument("project")
@click.argument("path", default="")
@connected
def files(hub: "Client", as_json: bool, project: str, path: str) -> None:  # noqa: FBT001 - click calls it
    """List a directory of a project."""
    found = hub.files(project, path)
    if as_json:
        output.say_json(found)
        return
    rows = [(entry.path, entry.kind, output.size(entry.size_bytes)) for entry in found.files]
    output.table(("path", "kind", "size"), rows, empty="nothing is there")
    if found.next_cursor:
        click.echo("and more; the API has them page by page", err=True)


@command.command(name="cat", cls=HubCommand)
@click.argument("project")
@click.argument("path")
@connected
def cat(hub: "Client", as_json: bool, project: str, path: str) -> None:  # noqa: FBT001 - click calls it
    """Print a file of a project."""
    found = hub.read_file(project, path)
    if as_json:
        output.say_json(found)
    elif sys.stdout.isatty():
        click.echo(output.harmless(found.content.decode("utf-8", "replace")), nl=False)
    else:
        sys.stdout.buffer.write(found.content)


@command.command(name="put", cls=HubCommand)
@click.argument("project")
@click.argument("path")
@click.argument("file", type=click.File("rb"), default="-")
@connected
def put(hub: "Client", as_json: bool, project: str, path: str, file: Any) -> None:  # noqa: ANN401, FBT001 - click calls it
    """Write a file of a project from FILE, or from standard input."""
    written = hub.write_file(project, path, file.read())
    if as_json:
        output.say_json(written)
    else:
        click.echo(f"{written.path}: {written.size_bytes} bytes")


@command.command(name="del", cls=HubCommand)
@click.argument("project")
@click.argument("path")
@connected
def delete(hub: "Client", as_json: bool, project: str, path: str) -> None:  # noqa: FBT001 - click calls it
    """Remove a file or an empty directory of a project."""
    hub.delete_file(project, path)
    if as_json:
        output.say_json({"path": path})
    else:
        click.echo(f"{path} is removed")


# --- git --------------------------------------------------------------------------------------------------------------


@command.command(name="clone", cls=HubCommand)
@click.argument("project")
@connected
def clone(hub: "Client", as_json: bool, project: str) -> None:  # noqa: FBT001 - click calls it
    """Make the hub's clone, or fetch what is new."""
    _tell_repository(hub.clone(project), as_json=as_json)


@command.command(name="status", cls=HubCommand)
@click.argument("project")
@connected
def status(hub: "Client", as_json: bool, project: str) -> None:  # noqa: FBT001 - click calls it
    """Show branch, changes, and what is not pushed."""
    _tell_repository(hub.repository(project), as_json=as_json)


@command.command(name="branch", cls=HubCommand)
@click.argument("project")
@click.argument("name")
@click.argument("start", default="")
@connected
def branch(hub: "Client", as_json: bool, project: str, name: str, start: str) -> None:  # noqa: FBT001 - click calls it
    """Make a branch, from START or from what is checked out."""
    _tell_repository(hub.branch(project, name, start), as_json=as_json)


@command.command(name="checkout", cls=HubCommand)
@click.argument("project")
@click.argument("branch")
@connected
def checkout(hub: "Client", as_json: bool, project: str, branch: str) -> None:  # noqa: FBT001 - click calls it
    """Check a branch out."""
    _tell_repository(hub.checkout(project, branch), as_json=as_json)


@command.command(name="stage", cls=HubCommand)
@click.argument("project")
@click.argument("paths", nargs=-1)
@connected
def stage(hub: "Client", as_json: bool, project: str, paths: tuple[str, ...]) -> None:  # noqa: FBT001 - click calls it
    """Put changes into the next commit; without PATHS all."""
    _tell_repository(hub.add_files(project, paths), as_json=as_json)


@command.command(name="commit", cls=HubCommand)
@click.argument("project")
@click.option("-m", "--message", required=True, metavar="TEXT", help="What it does, and why.")
@click.option("--author", default="", metavar="WHO", help="'Name <address>'; the hub if left out.")
@connected
def commit(hub: "Client", as_json: bool, project: str, message: str, author: str) -> None:  # noqa: FBT001 - click calls it
    """Commit what was staged."""
    made = hub.commit(project, message, author)
    if as_json:
        output.say_json(made)
    else:
        click.echo(f"{made.commit[:12]} on {made.branch}: {len(made.files)} files")


@command.command(name="push", cls=HubCommand)
@click.argument("project")
@click.argument("branch", default="")
@connected
def push(hub: "Client", as_json: bool, project: str, branch: str) -> None:  # noqa: FBT001 - click calls it
    """Push a branch to where the project comes from."""
    pushed = hub.push(project, branch)
    if as_json:
        output.say_json(pushed)
    else:
        click.echo(f"{pushed.branch} is at {pushed.commit[:12]} in {pushed.repository}")


def _tell(project: "ProjectView", *, as_json: bool) -> None:
    if as_json:
        output.say_json(project)
        return
    import msgspec

    defaults = msgspec.json.encode(project.defaults).decode()
    pulls = msgspec.json.encode(project.pulls).decode()
    output.fields(
        {
            "project": project.name,
            "default": "yes" if project.default else "",
            "repository": project.repository,
            "directory": project.directory,
            "branch": project.branch,
            "credential": "kept by this hub" if project.has_credential else "",
            "priority": project.priority or "",
            "defaults": "" if defaults == "{}" else defaults,
            "description": project.description,
            "pulls": "" if pulls == "{}" else pulls,
            "files": "here" if project.is_cloned else f"not here yet: agentcom projects clone {project.name}",
        }
    )


def _tell_repository(found: "RepositoryView", *, as_json: bool) -> None:
    if as_json:
        output.say_json(found)
        return
    changes = [f"{change.staged or ' '}{change.unstaged or ' '} {change.path}" for change in found.changes]
    output.fields(
        {
            "repository": found.repository,
            "branch": found.branch,
            "commit": found.commit[:12],
            "branches": ", ".join(found.branches),
            "at the remote": ", ".join(found.remote_branches),
            "not pushed": str(found.unpushed or ""),
            "changes": str(len(changes) or ""),
        }
    )
    for change in changes:
        click.echo(output.printable(change))


def _rules(text: str) -> object:
    return _json(text, "--pulls") if text.startswith("{") else {"forge": text}


def _json(text: str, option: str = "--defaults") -> object:
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise BadInput([Problem(option, f"not JSON: {exc}")], "command") from exc
