"""Keeps an attempt's work in progress, takes up what an earlier one has left, and stops it at the end of a turn.

After every turn of a model, and between two iterations, the work tree is kept as a snapshot (``sidecar/wip.py``), and
the conversation with all that was used goes to the hub (``sidecar/shelf.py``): first the files, then the document that
names them, so that a document always has its files. What cannot be kept is told once and holds nothing up, and does
not stop: who stops it wants it to go on later. The caller is ``sidecar/rounds.py``.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from protocol.errors import WorkFailed
from protocol.messages import Carry
from protocol.model import AttemptId, Iteration, TaskSpec, Usage
from protocol.progress import DOCUMENT, FOLDER, MAX_DOCUMENT_BYTES, Left, Saved, bundle_path
from protocol.removal import remove_tree
from protocol.tree import Tree
from sidecar.core.outcome import draft_message
from sidecar.core.purse import Purse
from sidecar.core.verify import GiveUp, stuck
from sidecar.errors import LeaseOver, Paused
from sidecar.executors.transcript import Transcript, read, written
from sidecar.shelf import Shelf
from sidecar.wip import Snapshot, WipWorkspaces
from sidecar.workspace import Workspace

LOST: Final = "An earlier attempt at this task was cut off. Its files are not here: do the task, and mind what failed."

log = structlog.get_logger(__name__)
PATIENT_TRIES: Final = 30
PAUSE_S: Final = 1.0
"""How often, and how far apart, the last turn before a stop is tried to be kept."""


@dataclass(frozen=True, slots=True)
class Before:
    """What an attempt begins with.

    Attributes:
        carry: where the files are, for :meth:`sidecar.workspace.Workspaces.open`; ``None``: there are none.
        saved: how far the earlier attempt had come; ``None``: the work begins anew.
        transcript: the conversation in the middle of an iteration.
        reported: what was used then stands in a report, and is not to be told again.
        note: a word of the person who has handed the task back, as it is put to a model.
    """

    carry: Carry | None = None
    saved: Saved | None = None
    transcript: Transcript | None = None
    reported: bool = False
    note: str = ""

    @property
    def used(self) -> Usage:
        """What was used before, those parts that say how fast another machine was left out."""
        return replace(self.saved.used, timing=None) if self.saved is not None else Usage()

    @property
    def underway(self) -> Usage:
        """The same of the iteration that goes on."""
        return replace(self.saved.underway, timing=None) if self.saved is not None else Usage()

    @property
    def iterations(self) -> list[Iteration]:
        """Those that had ended."""
        if self.saved is None:
            return []
        return [replace(done, usage=replace(done.usage, timing=None)) for done in self.saved.iterations]

    @property
    def told(self) -> Usage:
        """What stands in a report already."""
        if self.saved is None or self.reported:
            return self.used
        return self.saved.told


class Progress:
    """The work in progress of one attempt.

    Attributes:
        asked: why the work is to stop at the end of its turn; empty: it is not.
    """

    def __init__(
        self, shelf: Shelf | None, workspaces: WipWorkspaces, attempt: AttemptId, spec: TaskSpec, folder: Path
    ) -> None:
        """Prepare to keep what the attempt does; ``folder`` is one of ours that no program of the work can reach."""
        self._shelf, self._workspaces, self._attempt, self._spec = shelf, workspaces, attempt, spec
        self._folder = folder
        self.asked = ""
        self.say: Callable[[str], None] = lambda _line: None
        self._snapshot: Snapshot | None = None
        self._kept: Snapshot | None = None
        self._bundles, self._bundle = 0, ""
        self._refs: dict[str, None] = {}
        self._ref = ""
        self._pushes = True
        self._is_told = self._is_too_long = False
        self._trees: list[str] = []

    # --- what was left ------------------------------------------------------------------------------------------------

    async def before(self, *, is_wanted: bool) -> Before:
        """What an earlier attempt has left; nothing if this is the first one, or it is not ``is_wanted``.

        Raises:
            LeaseOver: the attempt does not count any more.
            ProgressUnheard: the hub does not say.
        """
        attempt = self._attempt
        if self._shelf is None or attempt.epoch < 2 or not is_wanted:  # noqa: PLR2004 - the first has none before it
            return Before()
        left = await self._shelf.left(attempt)
        note = _noted(left.note)
        if left.saved is None:
            return Before(note=note)
        carry = await self._carry(left, left.saved)
        found = Before(carry, left.saved, read(left.saved.transcript), left.reported, note)
        log.info(
            "progress_found", task=attempt.task, epoch=left.epoch, turn=left.saved.turn, has_files=carry is not None
        )
        return found

    async def _carry(self, left: Left, saved: Saved) -> Carry | None:
        place = saved.ref
        if saved.ref:
            self._refs[saved.ref] = None
        elif saved.bundle and self._shelf is not None:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True, mode=0o700)
            file = self._folder / "left.bundle"
            place = str(file) if await self._shelf.fetch(self._attempt, saved.bundle, file) else ""
        if not place or not saved.commit:
            return None
        return Carry(
            attempt=AttemptId(left.sidecar, left.boot, self._attempt.task, left.epoch),
            model=saved.model,
            iterations=len(saved.iterations),
            execution_ok=False,
            branch=place,
            commit=saved.commit,
        )

    # --- keeping ------------------------------------------------------------------------------------------------------

    async def keep(self, workspace: Workspace, saved: Saved) -> None:
        """Keep the work tree and this, and stop here if somebody wants that.

        Raises:
            Paused: all of it is kept, and the work is to stop.
            LeaseOver: the attempt does not count any more.
        """
        is_kept = self._shelf is not None and await self._patiently(self._shelf, workspace, saved)
        if self.asked and is_kept:
            raise Paused(self.asked)
        if self.asked:
            self.say("[it is to stop, and goes on: what was done could not be kept]")

    async def _patiently(self, shelf: Shelf, workspace: Workspace, saved: Saved) -> bool:
        """Whether it was kept; if it is to stop here, what was done is worth waiting for a hub that comes back."""
        tries = 0
        while True:
            try:
                tree = await self._snap(workspace, saved.model)
                if not saved.turn and not tries:
                    self._trees.append(tree)
                if await self._bring(shelf, workspace, saved):
                    return True
            except (WorkFailed, OSError, UnicodeEncodeError) as exc:
                self._tell(str(exc))
            tries += 1
            if not self.asked or self._is_too_long or tries == PATIENT_TRIES:
                return False
            await asyncio.sleep(PAUSE_S)

    async def _snap(self, workspace: Workspace, model: str) -> str:
        message = draft_message(self._spec, self._attempt, model)
        self._snapshot = await self._workspaces.snapshot(workspace, message, self._snapshot)
        return f"{self._snapshot.tree} {self._snapshot.head}"

    async def _bring(self, shelf: Shelf, workspace: Workspace, saved: Saved) -> bool:
        snapshot = self._snapshot
        assert snapshot is not None, "it was just made"
        if snapshot is not self._kept:
            if not await self._place(shelf, workspace, snapshot):
                self._tell("its files could not be kept")
                return False
            self._kept = snapshot
        told = replace(saved, commit=snapshot.commit, ref=self._ref, bundle=self._bundle)
        raw = msgspec.json.encode(shelf.clean(told))  # tools read what they like, and all that they said is in it
        self._is_too_long = len(raw) > MAX_DOCUMENT_BYTES
        if self._is_too_long:
            self._tell("the conversation is too long to be kept")
            return False
        file = self._folder / DOCUMENT
        await asyncio.to_thread(_write, file, raw)
        if not await shelf.put(self._attempt, Tree(self._folder), DOCUMENT):
            self._tell("the hub did not take it")
            return False
        return True

    async def _place(self, shelf: Shelf, workspace: Workspace, snapshot: Snapshot) -> bool:
        if self._pushes and workspace.cache is not None:
            try:
                self._ref = await self._workspaces.push_wip(workspace, snapshot)
            except WorkFailed as exc:
                self._pushes = False  # once is enough: every turn would wait for it
                log.warning("progress_not_pushed", task=self._attempt.task, why=str(exc), next="kept at the hub")
            else:
                self._refs[self._ref] = None
                self._bundle = ""
                return True
        self._bundles += 1
        path = bundle_path(self._bundles)
        room = _scratch_of(self._folder) / f"wip-{token_hex(8)}"
        await asyncio.to_thread((room / FOLDER).mkdir, parents=True)
        try:
            await self._workspaces.bundle(workspace, room / path)
            if not await shelf.put(self._attempt, Tree(room), path):
                return False
        finally:
            await asyncio.to_thread(remove_tree, room)
        self._bundle, self._ref = path, ""
        return True

    def _tell(self, why: str) -> None:
        log.warning("progress_not_kept", task=self._attempt.task, epoch=self._attempt.epoch, why=why)
        if not self._is_told:
            self._is_told = True
            self.say(f"[work in progress is not kept: {why}]")

    # --- ends ---------------------------------------------------------------------------------------------------------

    def stuck(self, iterations: Sequence[Iteration]) -> GiveUp | None:
        """Why another iteration is not worth trying; ``None``: it may be."""
        return stuck(iterations, self._trees)

    async def forget(self, workspace: Workspace | None) -> None:
        """The work has ended, and was delivered or failed: nobody goes on from what was kept."""
        if not self._refs or workspace is None:
            return
        try:
            await self._workspaces.forget_wip(workspace, *self._refs)
        except (WorkFailed, LeaseOver, OSError) as exc:
            log.warning("progress_left", task=self._attempt.task, refs=list(self._refs), why=str(exc))
        self._refs.clear()

    async def close(self) -> None:
        """Remove our own files."""
        await asyncio.to_thread(remove_tree, self._folder)


def saved(purse: Purse, now: float, model: str, transcript: Transcript | None) -> Saved:
    """Where an attempt stands: at the end of a turn, or without a conversation, of an iteration."""
    return Saved(
        iteration=len(purse.iterations) + 1,
        turn=transcript.turns if transcript is not None else 0,
        iterations=tuple(purse.iterations),
        model=model,
        underway=purse.underway or Usage(),
        used=purse.used(),
        told=purse.told,
        seconds=round(purse.elapsed_s(now), 3),
        carried_usd=purse.carried_usd,
        transcript=written(transcript) if transcript is not None else None,
    )


def _scratch_of(folder: Path) -> Path:
    """The scratch directory of the attempt whose folder for documents this is."""
    return folder.with_suffix("")


def _noted(note: str) -> str:
    if not note:
        return ""
    return f"A person has looked at this task and hands it back to you. The files may have changed. They say:\n{note}"


def _write(file: Path, raw: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.write_bytes(raw)
