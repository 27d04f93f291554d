"""``agentcom audit``: who decided what; whether the log of it is whole; a copy of it to keep elsewhere."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from agentcom.cli import endings, output
from agentcom.cli.connection import HubCommand, NounGroup, connected
from protocol.audit import AuditLine
from protocol.errors import BadInput, Problem

if TYPE_CHECKING:
    from agentcom.client import Client

_HASH_CHARS: Final = 64
_FORM: Final = 1


@click.group(name="audit", cls=NounGroup)
def command() -> None:
    """See who decided what, and prove that nobody changed it. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@click.option("--actor", default="", metavar="TOKEN", help="Only what this token (its id) decided.")
@click.option("--action", default="", metavar="A", help="Only this action (task.cancel), or all of a kind (task).")
@click.option("--subject", default="", metavar="S", help="Only about this task, agent, token, project or endpoint.")
@click.option("--hours", type=float, default=0.0, metavar="H", help="Only of the last so many hours.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="So many at most.")
@connected
def ls(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    actor: str,
    action: str,
    subject: str,
    hours: float,
    limit: int,
) -> None:
    """List decisions, the newest first."""
    since = datetime.fromtimestamp(datetime.now(UTC).timestamp() - 3600 * hours, UTC) if hours else None
    found = hub.audit(since=since, actor=actor, action=action, subject=subject, limit=limit)
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            str(entry.seq),
            f"{entry.at:%Y-%m-%d %H:%M:%S}",
            entry.actor_label or entry.actor or "-",
            entry.action,
            entry.subject,
            entry.verdict,
        )
        for entry in found.entries
    ]
    output.table(("seq", "at", "who", "action", "about", "verdict"), rows, empty="no decisions")


@command.command(name="verify", cls=HubCommand)
@click.option("--anchor", default="", metavar="SEQ:HASH", help="An entry that you kept: the log must still have it.")
@click.option("--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Look through an export instead, without a hub.")  # fmt: skip
@connected
def verify(hub: "Client", as_json: bool, anchor: str, file: Path | None) -> int:  # noqa: FBT001 - click calls it
    """Look through the log: whether every entry is the one written."""
    seq, hash_ = _anchor(anchor)
    if file is not None:
        return _verify_file(file, (seq, hash_), as_json=as_json)
    found = hub.verify_audit(seq=seq, digest=hash_)
    if as_json:
        output.say_json(found)
        return endings.DONE if found.ok else endings.WORK_FAILED
    for problem in found.problems:
        click.echo(f"- {output.printable(problem)}")
    click.echo(f"{found.entries} entries and {found.events} events: {'as written' if found.ok else 'TAMPERED WITH'}")
    click.echo(f"anchor {found.head}:{found.hash}")
    return endings.DONE if found.ok else endings.WORK_FAILED


@command.command(name="export", cls=HubCommand)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@connected
def export(hub: "Client", as_json: bool, file: Path) -> int:  # noqa: FBT001 - click calls it
    """Write the whole log to FILE, an entry a line."""
    count, head = 0, ""
    with file.open("wb") as out:
        for page in hub.audit_entries():
            if not count:
                out.write(msgspec.json.encode({"agentcom_audit": _FORM, "before": page.before}) + b"\n")
            for entry in page.entries:
                out.write(msgspec.json.encode(entry) + b"\n")
                count, head = count + 1, f"{entry.seq}:{entry.hash}"
    _tell({"file": str(file), "entries": str(count), "anchor": head}, as_json=as_json)
    return endings.DONE


def _tell(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.say_json(facts)
    else:
        output.fields(facts)


def _anchor(text: str) -> tuple[int, str]:
    seq, _, hash_ = text.partition(":")
    if not text:
        return 0, ""
    if not (seq.isdecimal() and len(hash_) == _HASH_CHARS and set(hash_) <= set("0123456789abcdef")):
        raise BadInput([Problem("--anchor", f"is SEQ:HASH, with a hash of {_HASH_CHARS} digits")], "anchor")
    return int(seq), hash_


def _verify_file(file: Path, anchor: tuple[int, str], *, as_json: bool) -> int:
    problems, head, count = _look(file, anchor)
    if as_json:
        output.say_json({"ok": not problems, "problems": problems, "entries": count, "anchor": head})
    else:
        for problem in problems:
            click.echo(f"- {output.printable(problem)}")
        click.echo(f"{count} entries: {'TAMPERED WITH' if problems else 'as written'}")
        click.echo(f"anchor {head}")
    return endings.WORK_FAILED if problems else endings.DONE


def _look(file: Path, anchor: tuple[int, str]) -> tuple[list[str], str, int]:
    """What is wrong with an export, its last entry, and how many it has."""
    problems: list[str] = []
    with file.open("rb") as lines:
        try:
            before = str(msgspec.json.decode(lines.readline())["before"])
            bytes.fromhex(before)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            return ["the first line is not that of an export"], "", 0
        last, count, is_anchored = 0, 0, not anchor[0]
        for number, line in enumerate(lines, 2):
            try:
                entry = msgspec.json.decode(line, type=AuditLine)
            except msgspec.DecodeError as exc:
                problems.append(f"line {number} is no entry: {exc}")
                continue
            if count and entry.seq != last + 1:
                problems.append(f"entry {entry.seq} stands behind entry {last}")
            elif entry.hash_after(before) != entry.hash:
                problems.append(f"entry {entry.seq} is not what was written, or what stood before it was another one")
            is_anchored = is_anchored or (entry.seq, entry.hash) == anchor
            last, before, count = entry.seq, entry.hash, count + 1
    if not is_anchored:
        problems.append(f"entry {anchor[0]} with the hash of the anchor is not in the file")
    return problems, f"{last}:{before}", count
