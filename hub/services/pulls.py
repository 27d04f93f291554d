"""Pull requests for work that tasks have pushed: opened, looked at, merged where the project says so.

Every request is a row that is there since the commit in which its work ended (``hub/store/pull_changes.py``). This hub
goes through those that are due, again and again: a step asks the forge what is there before it changes anything, and
the row is written after it. So a hub that dies in between, or a forge that is away for a day, costs only time; and two
hubs that do the same step do it once. What the forge refuses for good waits for a person.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog
from msgspec.structs import replace

from hub.core.projects import Project
from hub.core.pulls import (
    MERGE_TRIES,
    WATCH_S,
    Place,
    Proof,
    Record,
    after,
    base_of,
    delay_s,
    is_about,
    may_go_on,
    place_of,
    text_of,
    title_of,
)
from hub.core.risk import judge
from hub.forges.shapes import Forge, ForgeFailed, Seen, Trouble, Wanted
from hub.store import rows
from hub.store.pull_changes import DropPull, PullRow, PutPull, StalePull
from hub.store.store import AttemptRow, Store, TaskRow
from protocol import codec, git
from protocol.clock import Clock
from protocol.errors import BadInput, IllegalTransition, NotFound, Problem, Unavailable
from protocol.events import Event, EventKind
from protocol.ids import TASK_ID
from protocol.model import AttemptState, TaskSpec, TaskState, Usage
from protocol.pulls import OFFER, Merging, PullList, PullRules, PullState, PullView
from protocol.pulls import Forge as Kind

log = structlog.get_logger(__name__)
LOOK_S: Final = 1.0
AT_ONCE: Final = 8
_TAKEN_MS: Final = 120_000
"""For so long other hubs leave one alone that this hub has begun with."""
_ODD: Final = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, OSError)
"""What an answer that nobody has thought of, or a disk that fails, does to a step. One request waits then, not all."""
_NEWEST: Final = "~"
"""Behind every id of a task."""

UserPassword = tuple[str, str]
Connect = Callable[[Kind, Place, UserPassword], Forge]


class Work(NamedTuple):
    """Everything about a request that a step needs."""

    row: PullRow
    record: Record
    project: Project
    proof: Proof

    @property
    def rules(self) -> PullRules:
        """What the project wants."""
        return self.project.pulls

    @property
    def title(self) -> str:
        """What the request is called."""
        return title_of(self.proof.spec)


class Pulls:
    """The use cases of pull requests.

    Args:
        find: a project by its name; raises NotFound.
        login: user and password that are kept for a project's repository, ``None`` if none are.
        connect: speaks with a repository at its forge.
        is_shared: other hubs have the same store, and may keep credentials that this one does not.
        wake: set by whoever knows of new work; also without it all is found within seconds.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        find: Callable[[str], Project],
        login: Callable[[Project], UserPassword | None],
        connect: Connect,
        *,
        is_shared: bool = False,
        wake: asyncio.Event | None = None,
    ) -> None:
        self._store, self._clock, self._find, self._login = store, clock, find, login
        self._connect, self._is_shared = connect, is_shared
        self._wake = wake or asyncio.Event()

    # --- people -------------------------------------------------------------------------------------------------------

    async def list(self, *, state: str = "", project: str = "", cursor: str | None = None, limit: int = 50) -> PullList:
        """A page of requests, those of the newest tasks first.

        Raises:
            BadInput: the cursor is not one of ours.
        """
        if cursor is not None and not TASK_ID.fullmatch(cursor):
            why = "not a cursor of this list; take next_cursor of the page before"
            raise BadInput([Problem("cursor", why)], "query")
        found = await self._store.pulls(cursor or _NEWEST, state, project, limit + 1)
        page = found[:limit]
        return PullList(
            pulls=tuple(rows.pull(row) for row in page), next_cursor=page[-1].task if len(found) > limit else None
        )

    async def show(self, task: str) -> PullView:
        """The request of a task.

        Raises:
            NotFound: it has none.
        """
        return rows.pull(await self._row(task))

    async def approve(self, task: str, by: str) -> PullView:
        """A person has looked at it: it is a draft no more, and is merged where the project says so.

        Raises:
            NotFound: the task has no request.
            IllegalTransition: it waits for nobody.
        """

        def decide(row: PullRow) -> tuple[PullState, Record, Event]:
            if row.state is not PullState.DRAFT:
                name = f"the pull request of task {task}"
                raise IllegalTransition(name, row.state, "approve", ("it waits for nobody",))
            record = replace(row.record, approved_by=by, problem="", tries=0, refusals=0)
            return row.state, record, self._event(EventKind.PULL_APPROVED, row, record, by=by)

        await self._decided(task, decide)
        log.info("pull_approved", task=task, by=by)
        return await self.show(task)

    async def retry(self, task: str) -> PullView:
        """Try again now what the forge has refused, or is to be tried later.

        Raises:
            NotFound: the task has no request.
            IllegalTransition: there is nothing to try.
        """

        def decide(row: PullRow) -> tuple[PullState, Record, None]:
            state = row.state if row.next_ms is not None else after(row.state, "retry", task)
            return state, replace(row.record, problem="", tries=0, refusals=0), None

        await self._decided(task, decide)
        return await self.show(task)

    async def _decided(self, task: str, decide: Callable[[PullRow], tuple[PullState, Record, Event | None]]) -> None:
        """Keep what somebody wants of a request, also while the hub is at it, and have it looked at now."""
        while True:
            row = await self._row(task)
            state, record, event = decide(row)
            try:
                await self._put(row, record, state=state, next_ms=self._clock.now_ms(), event=event)
            except StalePull:
                continue
            self._wake.set()
            return

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go through what is due, for as long as the hub runs."""
        while True:
            self._wake.clear()
            try:
                due = await self._store.due_pulls(self._clock.now_ms(), AT_ONCE)
            except Unavailable as exc:  # the database is away: the rows wait in it
                log.warning("pulls_wait", why=str(exc))
                due = []
            async with asyncio.TaskGroup() as group:
                steps = [group.create_task(self._deliver(row)) for row in due]
            # What could not be kept (no room, no database) is due again at once.
            if len(due) < AT_ONCE or not all(step.result() for step in steps):
                await self._sleep()

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _deliver(self, row: PullRow) -> bool:
        """One step of one request; another hub may be quicker. Whether what became of it could be kept."""
        try:
            if self._is_shared:
                row = await self._put(row, row.record, next_ms=self._soon())
            work = await self._gathered(row)
            if work is None:
                await self._store.commit(DropPull(row.task, row.version))
            else:
                await self._step(work)
        except (StalePull, NotFound):
            return True  # somebody was quicker, or has forgotten it
        except Unavailable as exc:
            log.warning("pull_waits", task=row.task, why=str(exc))
            return False
        return True

    async def _step(self, work: Work) -> None:
        try:
            await self._with(await self._forge(work), work)
        except ForgeFailed as exc:
            await self._failed(await self._again(work), exc)
        except _ODD as exc:
            # By its kind: what a library says of an answer may name a credential.
            log.exception("pull_step_failed", task=work.row.task)
            said = f"what it answers is not understood here ({type(exc).__name__})"
            odd = ForgeFailed(Trouble.BROKEN, git.masked(work.project.repository), "go on with the request", said)
            await self._failed(await self._again(work), odd)

    async def _again(self, work: Work) -> Work:
        """The work as it is kept now: a part of the step may have been done."""
        row = await self._row(work.row.task)
        return work if row.version == work.row.version else work._replace(row=row, record=row.record)

    async def _failed(self, work: Work, exc: ForgeFailed) -> None:
        row, tries = work.row, work.record.tries + 1
        if row.next_ms is None:
            return  # another hub was quicker: it is over, or waits for a person
        record = replace(work.record, problem=str(exc), tries=tries)
        log.warning("pull_problem", task=row.task, trouble=exc.trouble.value, why=str(exc), tries=tries)
        if exc.is_passing:
            wait_s = max(exc.after_s, delay_s(tries))
            await self._put(row, record, next_ms=self._later(wait_s))
            return
        event = self._event(EventKind.PULL_FAILED, row, record, reason=str(exc), trouble=exc.trouble.value)
        await self._put(row, record, state=after(row.state, "refuse", row.task), next_ms=None, event=event)

    async def _forge(self, work: Work) -> Forge:
        project, place = work.project, place_of(work.rules.forge, work.project.repository)
        if place is None:
            said = "the project's address names no repository there"
            raise ForgeFailed(Trouble.REJECTED, git.masked(project.repository), "open the request", said)
        login = await asyncio.to_thread(self._login, project)
        if login is None:
            trouble = Trouble.UNREACHABLE if self._is_shared else Trouble.REFUSED
            raise ForgeFailed(trouble, place.api, "open the request", "this hub keeps no user and password for it")
        return self._connect(work.rules.forge, place, login)

    # --- one request --------------------------------------------------------------------------------------------------

    async def _with(self, forge: Forge, work: Work) -> None:
        if work.row.state is PullState.PENDING or work.record.number is None:
            work, seen = await self._opened(forge, work)
        else:
            seen = await forge.look(work.record.number)
        if seen.state != "open":
            await self._over(work, "merge" if seen.state == "merged" else "close")
            return
        if not work.record.is_told:
            work, seen = await self._judged(forge, work, seen)
        if work.record.approved_by and seen.is_draft:
            await forge.ready(seen, work.title)
            seen = seen._replace(is_draft=False)
        work = await self._settled(work, seen)
        if self._is_merging(work) and not seen.is_draft:
            await self._merge(forge, work)

    async def _opened(self, forge: Forge, work: Work) -> tuple[Work, Seen]:
        """The request, which may be there already: then a hub has died after it was opened."""
        record = work.record
        into = base_of(work.rules, record, work.proof.spec) or await forge.default_branch()
        seen = await forge.find(record.branch, into)
        if seen is not None and seen.state != "open" and seen.number != record.number:
            # It may be over since an older task has offered that branch.
            is_this = seen.head == record.commit or is_about(seen.text, work.row.task)
            seen = seen if is_this else None
        if seen is None:
            seen = await forge.open(Wanted(record.branch, into, work.title, text_of(work.proof, None)))
        record = replace(record, into=into, number=seen.number, url=seen.url, problem="", tries=0)
        row = await self._put(work.row, record, next_ms=self._soon())
        return work._replace(row=row, record=record), seen

    async def _judged(self, forge: Forge, work: Work, seen: Seen) -> tuple[Work, Seen]:
        """Look at what it changes, and say so in it; a safe one is a draft no more."""
        files, is_whole = await forge.files(seen.number)
        moved = "" if seen.head == work.record.commit else "its last commit is not the one that was looked at"
        found = judge(files, work.rules, is_whole=is_whole, verified=work.proof.result.verified, also=moved)
        await forge.tell(seen, work.title, text_of(work.proof, found))
        record = replace(work.record, risk=found.risk, reasons=found.reasons, is_told=True)
        if may_go_on(record) and seen.is_draft:
            await forge.ready(seen, work.title)
            seen = seen._replace(is_draft=False)
        elif not may_go_on(record) and not seen.is_draft:
            log.info("pull_is_no_draft", task=work.row.task, number=seen.number)  # a person has opened it so
        told = {"risk": found.risk.value, "reasons": list(found.reasons), "draft": seen.is_draft}
        event = self._event(EventKind.PULL_OPENED, work.row, record, **told)
        state = after(PullState.PENDING, "draft" if seen.is_draft else "open", work.row.task)
        row = await self._put(work.row, record, state=state, next_ms=self._soon(), event=event)
        log.info("pull_opened", task=row.task, number=seen.number, risk=found.risk.value, state=state.value)
        return work._replace(row=row, record=record), seen

    async def _settled(self, work: Work, seen: Seen) -> Work:
        """Keep where it stands, and when it is looked at next, for what people do with it at the forge."""
        row, event = work.row, "draft" if seen.is_draft else "open"
        is_there = row.state.value == event
        state = row.state if is_there else after(row.state, event, row.task)
        if not seen.is_draft and self._is_merging(work):
            # Whoever comes after a hub that dies now goes on at once.
            record, next_ms = work.record, self._soon()
        else:
            problem = work.record.problem if work.record.refusals else ""
            record, next_ms = replace(work.record, problem=problem, tries=0), self._later(WATCH_S)
        row = await self._put(row, record, state=state, next_ms=next_ms)
        return work._replace(row=row, record=record)

    def _is_merging(self, work: Work) -> bool:
        return work.rules.merge is Merging.SAFE and may_go_on(work.record) and work.record.refusals < MERGE_TRIES

    async def _merge(self, forge: Forge, work: Work) -> None:
        record = work.record
        assert record.number is not None, "it is open"
        try:
            await forge.merge(record.number, record.commit, work.rules.method)
        except ForgeFailed as exc:
            if exc.trouble is not Trouble.REJECTED:
                raise
            # It may still find out whether it can, or wait for its own checks; later it is a matter for people.
            record = replace(record, problem=str(exc), tries=0, refusals=record.refusals + 1)
            wait_s = delay_s(record.refusals) if record.refusals < MERGE_TRIES else WATCH_S
            await self._put(work.row, record, next_ms=self._later(wait_s))
            return
        await self._over(work, "merge", by="hub")

    async def _over(self, work: Work, event: str, by: str = "forge") -> None:
        kind = EventKind.PULL_MERGED if event == "merge" else EventKind.PULL_CLOSED
        record = replace(work.record, problem="", tries=0)
        told = self._event(kind, work.row, record, by=by)
        await self._put(work.row, record, state=after(work.row.state, event, work.row.task), next_ms=None, event=told)
        log.info(kind.value, task=work.row.task, number=record.number, by=by)

    # --- parts --------------------------------------------------------------------------------------------------------

    async def _gathered(self, row: PullRow) -> Work | None:
        """What is known; ``None``: nobody wants a request of this."""
        task, stored = await self._store.task(row.task), await self._store.spec(row.task)
        if task is None or stored is None:
            return None
        spec = codec.decode_spec(stored[0])
        project, proof = self._project_of(spec), proof_in(task, spec, await self._store.attempts(row.task))
        if project is None or proof is None or not proof.result.pushed:
            return None
        branch = spec.labels.get(OFFER, "")
        branch = branch if git.is_branch(branch) else proof.result.branch
        record = replace(row.record, branch=branch, commit=proof.result.commit)
        return Work(replace(row, project=project.name, epoch=proof.epoch), record, project, proof)

    def _project_of(self, spec: TaskSpec) -> Project | None:
        """The project of a task, if that opens requests, and the task has worked in its repository."""
        try:
            project = self._find(spec.project) if spec.project else None
        except NotFound:
            return None
        if project is None or project.pulls.forge is Kind.NONE or spec.context.repo != project.repository:
            return None
        return project

    async def _row(self, task: str) -> PullRow:
        row = await self._store.pull(task) if TASK_ID.fullmatch(task) else None
        if row is None:
            raise NotFound("pull request of task", task[:100])
        return row

    async def _put(
        self, row: PullRow, record: Record, *, next_ms: int | None, state: PullState | None = None,
        event: Event | None = None,
    ) -> PullRow:  # fmt: skip
        now_ms = self._clock.now_ms()
        row = replace(row, record=record, state=state or row.state, next_ms=next_ms, changed_ms=now_ms)
        return replace(row, version=await self._store.commit(PutPull(row, event)))

    def _soon(self) -> int:
        """Now, as this step goes on; other hubs look only if this one has died."""
        return self._clock.now_ms() + (_TAKEN_MS if self._is_shared else 0)

    def _later(self, seconds: float) -> int:
        return self._clock.now_ms() + int(seconds * 1000)

    def _event(self, kind: EventKind, row: PullRow, record: Record, **facts: object) -> Event:
        known = {"project": row.project, "number": record.number, "url": record.url}
        return Event(kind=kind, at_ms=self._clock.now_ms(), task=row.task, epoch=row.epoch or None, facts=known | facts)


def proof_in(task: TaskRow, spec: TaskSpec, attempts: list[AttemptRow]) -> Proof | None:
    """What the accepted attempt has shown, and what all of them have used."""
    results = {row.epoch: codec.decode_result(row.result) for row in attempts if row.result is not None}
    accepted = next((row for row in attempts if row.accepted and row.state is AttemptState.PASSED), None)
    if task.state is not TaskState.COMPLETED or accepted is None or accepted.epoch not in results:
        return None
    usage = Usage()
    for result in results.values():
        usage = usage.plus(result.usage)
    # A proof that has ended in doubt has passed as an attempt, and has proven nothing.
    proofs = (row for row in attempts if row.epoch > accepted.epoch and row.state is AttemptState.PASSED)
    rooms = tuple(row.host for row in proofs if row.epoch in results and results[row.epoch].verified)
    result = results[accepted.epoch]
    return Proof(task.id, accepted.epoch, accepted.agent, accepted.host, len(attempts), spec, result, usage, rooms)
