"""``agentcom artifacts``: list and fetch the files that tasks have left."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentcom.cli import endings, output
from agentcom.cli.connection import HubCommand, NounGroup, connected_for_tasks, task_id
from protocol.errors import BadInput, NotFound, Problem

if TYPE_CHECKING:
    from agentcom.blocking_tasks import TaskClient
    from protocol.api import ArtifactView


@click.group(name="artifacts", cls=NounGroup)
def command() -> None:
    """List and fetch files that tasks have left. Without a verb: ls.

    TASK is the id of a task, or at least 4 characters from its end.
    """


@command.command(name="ls", cls=HubCommand)
@click.argument("task")
@connected_for_tasks
def ls(hub: "TaskClient", as_json: bool, task: str) -> None:  # noqa: FBT001 - click calls it
    """List the files of a task, those of all its attempts."""
    found = hub.artifacts(task_id(hub, task))
    if as_json:
        output.say_json(found)
        return
    rows = [
        (str(a.epoch), "yes" if a.accepted else "no", output.size(a.size_bytes), a.sha256[:12], a.id, a.path)
        for a in found.artifacts
    ]
    empty = "no files; name some with: agentcom submit --artifact 'dist/*' ..."
    output.table(("attempt", "accepted", "size", "sha256", "id", "path"), rows, empty=empty)


@command.command(name="get", cls=HubCommand)
@click.argument("task")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--to", "folder", type=click.Path(path_type=Path), default=".", metavar="DIR", help="Where to put them.")
@click.option("--attempt", type=int, metavar="N", help="Those of this attempt; else of the one that counts.")
@click.option("--extract", is_flag=True, help="Unpack archives (tar, zip) into DIR.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@connected_for_tasks
def get(
    hub: "TaskClient",
    as_json: bool,  # noqa: FBT001 - click calls it
    task: str,
    paths: tuple[str, ...],
    folder: Path,
    attempt: int | None,
    extract: bool,  # noqa: FBT001 - as above
    force: bool,  # noqa: FBT001 - as above
) -> int:
    """Fetch files of a task, all of them or those named."""
    from agentcom.archives import extract as unpack

    wanted = _chosen(hub.artifacts(task_id(hub, task)).artifacts, paths, attempt)
    for artifact in wanted:
        target = _target(folder, artifact.path, force=force)
        hub.download(artifact, target)
        unpacked = unpack(target, folder, force=force) if extract else ()
        if as_json:
            output.say_line_of_json({"artifact": artifact, "file": str(target), "unpacked": list(unpacked)})
        else:
            more = f", {len(unpacked)} files unpacked" if unpacked else ""
            click.echo(output.printable(f"{target}  {output.size(artifact.size_bytes)}{more}"))
    return endings.DONE


def _chosen(
    found: tuple["ArtifactView", ...], paths: tuple[str, ...], attempt: int | None
) -> "tuple[ArtifactView, ...]":
    """The files that are wanted, of one attempt: the one that counts, else the latest that has any.

    Raises:
        NotFound: there are none, or not all of them.
    """
    if attempt is None and found:
        attempt = next((a.epoch for a in found if a.accepted), max(a.epoch for a in found))
    of_attempt = {a.path: a for a in found if a.epoch == attempt}
    for path in paths:
        if path not in of_attempt:
            raise NotFound("file", path)
    if not of_attempt:
        raise NotFound("file of", "this task" if attempt is None else f"attempt {attempt}")
    return tuple(of_attempt[path] for path in paths or of_attempt)


def _target(folder: Path, path: str, *, force: bool) -> Path:
    """Where a file goes below ``folder``, whose directories are made; a link on the way is not followed.

    Raises:
        BadInput: the path leads elsewhere, or something is there.
    """
    from agentcom.archives import place

    target = place(folder, path)
    if target.is_symlink() or (target.exists() and not (force and target.is_file())):
        raise BadInput([Problem("--to", f"{target} is there already; give another DIR, or --force")], "command")
    return target
