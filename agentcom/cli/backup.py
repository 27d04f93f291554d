"""``agentcom backup``: copy the hub's store; asks the hub, and does it itself where no hub runs."""

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentcom import settings
from agentcom.cli import endings, output
from agentcom.cli.connection import HubCommand, open_client, where
from protocol.api import BackupView
from protocol.errors import BadInput, HubUnreachable, Problem
from protocol.log_levels import LogLevel
from protocol.logs import configure

if TYPE_CHECKING:
    from agentcom.settings import ClientSettings


@click.command(name="backup", cls=HubCommand)
@click.option("--out", metavar="FILE", help="Also put the copy here; on the hub's own machine only.")
@where
def command(
    as_json: bool,  # noqa: FBT001 - click calls it
    hub: str | None,
    token_file: str | None,
    data_dir: str | None,
    out: str | None,
) -> int:
    """Copy the hub's store while it works.

    \b
    The copy lies in DIR/backups and has been opened and looked through before this
    says so. Keep it where secrets are kept: it holds tasks and their output.
    It does not hold files that tasks have left: copy DIR/artifacts/blobs after it
    (files in a bucket stay there), and DIR/projects for clones that the hub made.
    """  # noqa: D301 - click wants the backspace character itself
    place = settings.load({"hub": hub, "token_file": token_file, "data_dir": data_dir})
    target = Path(out).expanduser().absolute() if out else None
    if target is not None and target.exists():
        raise BadInput([Problem("out", f"{target} is there already; give another name")], "backup")
    try:
        with open_client(hub, token_file, data_dir) as client:
            made = client.back_up()
    except HubUnreachable:
        if hub is not None or not (Path(place.data_dir) / "hub.sqlite").is_file():
            raise
        made = _make(place, target)
    else:
        if target is not None:
            made = _take(made, target)
    if as_json:
        output.say_json(made)
    else:
        click.echo(f"{made.path}  {output.size(made.size_bytes)}, looked through")
    return endings.DONE


def _make(place: "ClientSettings", target: Path | None) -> BackupView:
    """No hub answers: the copy is made here, under the lock that keeps hubs out."""
    from hub import recovery

    configure(json=False, stream=sys.stderr, level=LogLevel.WARNING, is_final=False)
    path, facts = recovery.back_up(Path(place.data_dir), int(time.time() * 1000), target)
    return BackupView(name=path.name, path=str(path), at=recovery.made_at(facts), size_bytes=facts.size_bytes)


def _take(made: BackupView, target: Path) -> BackupView:
    """Put another copy of a backup where the person wants it."""
    from hub import recovery

    source = Path(made.path)
    if not source.is_file():
        problem = f"the hub is on another machine and keeps it there as {made.path}; fetch it from there"
        raise BadInput([Problem("out", problem)], "backup")
    draft = target.with_name(f".{target.name}.draft")
    try:
        shutil.copyfile(source, draft)
        draft.chmod(0o600)
        facts = recovery.look_through(draft)
        draft.replace(target)
    except OSError as exc:
        raise BadInput([Problem("out", f"cannot write {target}: {exc.strerror or exc}")], "backup") from exc
    return BackupView(name=target.name, path=str(target), at=made.at, size_bytes=facts.size_bytes)
