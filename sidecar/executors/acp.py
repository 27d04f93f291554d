"""The executor ``acp``: a coding agent of somebody else works on the workspace, through the Agent Client Protocol.

Its program runs in the cell of the attempt and is gone when the checks begin. The next iteration goes on with the same
session where the agent can do that (``session/resume``, ``session/load``), so it is only told what failed; else it gets
the whole task again. What it says about its success is worth nothing; the checks decide. Which agents there are:
``sidecar/core/programs.py``.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import structlog
from msgspec.structs import replace

from protocol.errors import BudgetSpent, WorkFailed
from protocol.model import Usage
from sidecar.acp.client import Client
from sidecar.acp.running import running
from sidecar.acp.shapes import CLIENT, VERSION, Initialized, Prompted, Session, read, read_leniently
from sidecar.acp.story import Story
from sidecar.acp.wire import Peer
from sidecar.core.programs import AgentProgram, wanted_in
from sidecar.core.verify import feedback
from sidecar.errors import AgentGarbled, AgentMissing, AgentRefused, AgentStopped, AgentUnmetered
from sidecar.executors.base import Execution, Pauses, Spending, Work, failed, summary, task_env
from sidecar.executors.prompt import task_text
from sidecar.sandbox.cell import Cell

START_S: Final = 120.0
"""How long an agent may take to say that it is there, and to begin a session; some look around first."""
CANCEL_S: Final = 5.0
_DONE: Final = "end_turn"
_MODEL: Final = "model"
_T = TypeVar("_T")
_LEAD: Final = (
    "You do one task of a queue, alone: nobody answers questions, and nobody reads what you say but in a log. "
    "Work in the current directory. What counts is what you leave in its files: it is checked when you stop."
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A session that the next iteration may go on with, and what it had cost."""

    id: str
    program: str
    cost_usd: float


class AcpExecutor:
    """Lets an agent of somebody else work.

    Args:
        programs: the agents of this host, the first one for tasks that name none.

    Attributes:
        cancel_s: how long an agent whose time is up may take to say what it has used.
    """

    name = "acp"
    pauses: Pauses = "never"

    def __init__(self, programs: Sequence[AgentProgram]) -> None:
        self.programs = tuple(programs)
        self.cancel_s = CANCEL_S
        self._sessions: WeakKeyDictionary[Cell, _Kept] = WeakKeyDictionary()

    async def execute(self, work: Work) -> Execution:
        """Have the task done, or repaired, by the agent that it names."""
        spending, story = Spending(work), Story(work.log)
        try:
            spending.refuse_if_spent()
            program = self._program(work)
        except WorkFailed as exc:
            return failed(exc, work.prior)
        visit = _Visit(work, program, story, self._sessions.get(work.cell), self.cancel_s)
        failure: WorkFailed | None = None
        try:
            await visit.run(spending)
        except WorkFailed as exc:
            failure = exc
        if visit.kept is not None:
            self._sessions[work.cell] = visit.kept
        await work.account.settled()  # before anybody asks what was used
        log.info("agent_finished", task=work.attempt.task, agent=program.name, steps=story.steps, ok=failure is None)
        if failure is not None:
            return failed(failure, visit.usage, story.output)
        return Execution(ok=True, output=story.output, summary=summary(story.last or "end of turn"), usage=visit.usage)

    def _program(self, work: Work) -> AgentProgram:
        wanted = wanted_in(work.spec.needs)
        for program in self.programs:
            if not wanted or program.name in wanted:
                return program
        raise AgentMissing(", ".join(wanted), tuple(program.name for program in self.programs))


class _Visit:
    """One start of an agent, for one prompt.

    Attributes:
        usage: what it has used, as far as it says.
        kept: the session to go on with.
    """

    def __init__(self, work: Work, program: AgentProgram, story: Story, kept: _Kept | None, cancel_s: float) -> None:
        self._work, self._program, self._story, self._cancel_s = work, program, story, cancel_s
        self._before = kept if kept is not None and kept.program == program.name else None
        self.kept: _Kept | None = None
        self._model, self._counted = program.name, Usage(cost_usd=None)

    @property
    def usage(self) -> Usage:
        """What it has used, as far as it says; what it does not say costs an unknown sum, never nothing."""
        if self._work.account.usage.bill is not None:
            return self._work.prior  # it was counted as it passed by, which is no agent's word
        cost, before = self._story.cost_usd, self._before
        if cost is not None and before is not None and cost >= before.cost_usd:
            cost -= before.cost_usd  # an agent counts the whole session
        return self._work.prior.plus(replace(self._counted, model=self._model, cost_usd=cost))

    async def run(self, spending: Spending) -> None:
        """Have it work to the end of its turn.

        Raises:
            WorkFailed: it did not come to that.
            LeaseOver: nothing may happen for this attempt any more.
        """
        work, story = self._work, self._story
        if work.remaining.usd is not None and not work.account.is_open:
            raise AgentUnmetered(self._program.name)
        client = Client(work.cell, self._program, story, work.log, work.check)
        asks = work.account
        async with running(
            work.cell, self._program, client, task_env(work), work.log, lambda: asks.under_way > 0
        ) as peer:
            can = _understood(await peer.ask("initialize", _hello(), START_S), Initialized)
            if can.protocol_version != VERSION:
                raise AgentGarbled(f"it speaks version {can.protocol_version}, we speak version {VERSION}")
            session, is_known = await self._session(peer, can)
            self._remember(session)
            await self._choose_model(peer, session)
            text = _repair(work) if is_known else f"{_LEAD}\n\n{await task_text(work, with_files=False)}"
            await self._prompt(peer, session.session_id, text, spending)

    # --- the session --------------------------------------------------------------------------------------------------

    async def _session(self, peer: Peer, can: Initialized) -> tuple[Session, bool]:
        """The session to work in, and whether the task is known there."""
        place = {"cwd": str(self._work.workspace), "mcpServers": []}
        abilities = can.agent_capabilities
        if self._before is not None and abilities is not None and (abilities.resumes or abilities.load_session):
            method = "session/resume" if abilities.resumes else "session/load"
            self._story.is_muted = True
            try:
                found = await peer.ask(method, {"sessionId": self._before.id, **place}, START_S)
                known = read_leniently(found or {}, Session) or Session()
                return replace(known, session_id=self._before.id), True
            except AgentRefused as exc:
                log.info("agent_session_lost", task=self._work.attempt.task, why=str(exc), next="a new session")
            finally:
                self._story.is_muted = False
        self._before = None
        return _understood(await peer.ask("session/new", place, START_S), Session), False

    def _remember(self, session: Session) -> None:
        self.kept = _Kept(session.session_id, self._program.name, self._before.cost_usd if self._before else 0.0)

    async def _choose_model(self, peer: Peer, session: Session) -> None:
        """Have the agent use the model that the task names, if it lets one choose.

        Raises:
            AgentRefused: it has no such model.
        """
        setting = next((each for each in session.config_options or () if each.get("category") == _MODEL), None)
        if setting is not None and isinstance(setting.get("currentValue"), str):
            self._model = setting["currentValue"]
        wanted = self._work.spec.model
        if not wanted:
            return
        if setting is None:
            raise AgentRefused(None, f"{self._program.name} offers no choice of models; submit without one")
        if wanted != self._model:
            choice = {"sessionId": session.session_id, "configId": setting.get("id"), "value": wanted}
            await peer.ask("session/set_config_option", choice, START_S)
            self._model = wanted

    # --- the prompt ---------------------------------------------------------------------------------------------------

    async def _prompt(self, peer: Peer, session: str, text: str, spending: Spending) -> None:
        prompt = {"sessionId": session, "prompt": [{"type": "text", "text": text}]}
        asked = asyncio.create_task(peer.ask("session/prompt", prompt))
        try:
            await asyncio.wait({asked}, timeout=spending.seconds_left)
            if not asked.done():
                peer.tell("session/cancel", {"sessionId": session})
                await asyncio.wait({asked}, timeout=self._cancel_s)
                if asked.done() and asked.exception() is None:
                    self._count(asked.result())
                raise BudgetSpent("seconds", self._work.deadline_s, self._work.deadline_s)
            reason = self._count(asked.result())
        except asyncio.CancelledError:
            peer.tell("session/cancel", {"sessionId": session})
            raise
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        if reason != _DONE:
            raise AgentStopped(reason)

    def _count(self, answer: object) -> str:
        """Take the end of a prompt; the reason for it."""
        ended = _understood(answer, Prompted)
        if ended.usage is not None:
            self._counted = ended.usage.usage
        if self.kept is not None and self._story.cost_usd is not None:
            self.kept = _Kept(self.kept.id, self.kept.program, self._story.cost_usd)
        return ended.stop_reason


def _hello() -> Mapping[str, Any]:
    return {
        "protocolVersion": VERSION,
        "clientCapabilities": CLIENT,
        "clientInfo": {"name": "agentcom", "version": "0"},
    }


def _understood(answer: object, shape: type[_T]) -> _T:
    """An answer of the agent.

    Raises:
        AgentGarbled: it is none.
    """
    try:
        return read(answer, shape)
    except msgspec.ValidationError as exc:
        raise AgentGarbled(f"{shape.__name__}: {exc}") from exc


def _repair(work: Work) -> str:
    """What is said in a session that knows the task."""
    assert work.previous is not None, "the first iteration has no session to go on with"
    return "\n\n".join(part for part in (feedback(work.previous, work.lead), work.note) if part)
