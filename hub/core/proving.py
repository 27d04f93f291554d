"""Whether another machine has to prove work before it counts, and what becomes of it when none can tell.

The checks of a task run where the work was done, with everything that lies about there: tools, packages, files that git
ignores. In the clean room another machine fetches what was pushed and runs the same checks; what it finds counts. Pure;
the verbs that ask are in ``hub/store/proving.py``, in the transaction that ends the attempt.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.matching import reasons_against
from hub.core.routing import ARTIFACTS, PROOF, ProofOf, Requirements, requirements_of
from protocol.checks import JUDGE, mechanical
from protocol.choice import CleanRoom
from protocol.errors import Problem
from protocol.keystore import SECRETS
from protocol.model import AgentState, Budget, Strategy, TaskResult, TaskSpec, TaskState

MAX_PROOFS: Final = 3
"""Attempts at a proof that may end without telling anything."""
DELAY_S: Final = 5.0
"""Wait before the next of them."""
PATIENCE_S: Final = 60.0
"""How long work that need not be proven waits for another machine to come back."""
_EXECUTOR: Final = f"executor:{PROOF}"


class Machine(Struct, frozen=True):
    """A host whose agent can prove work, and what that agent offers."""

    host: str
    offers: frozenset[str]


class Rooms(Struct, frozen=True, kw_only=True):
    """The machines that there are; ``default`` counts for tasks that do not say what they want."""

    machines: tuple[Machine, ...] = ()
    default: CleanRoom = CleanRoom.AUTO

    def beside(self, host: str, needs: Sequence[str]) -> bool:
        """Whether a machine other than ``host`` offers all that a proof needs."""
        wanted = frozenset(needs)
        return any(machine.host != host and wanted <= machine.offers for machine in self.machines)


def rooms_of(fleet: Fleet, default: CleanRoom, is_near: Callable[[Agent], bool] = lambda _agent: False) -> Rooms:
    """The machines that could prove work; ``is_near`` tells agents that count though they are not at this hub."""
    machines = {
        Machine(agent.host, agent.capabilities)
        for agent in fleet.agents.values()
        if _EXECUTOR in agent.capabilities
        and not (agent.is_draining or agent.is_leaving or agent.quarantine)
        and (agent.state is not AgentState.OFFLINE or is_near(agent))
    }
    return Rooms(machines=tuple(machines), default=default)


def is_one_able(fleet: Fleet, requirements: Requirements, is_elsewhere: Callable[[Agent], bool]) -> bool:
    """Whether somebody could take a proof, now or as soon as it has a free slot.

    ``is_elsewhere`` tells agents at another hub, of which less is known.
    """
    if any(not reasons_against(agent, requirements) for agent in fleet.online()):
        return True
    proof = requirements.proof
    return proof is not None and any(
        agent.state is AgentState.OFFLINE
        and is_elsewhere(agent)
        and not (agent.is_draining or agent.is_leaving or agent.quarantine)
        and agent.host != proof.host
        and {_EXECUTOR, *requirements.needs} <= agent.capabilities
        for agent in fleet.agents.values()
    )


def is_wanted(spec: TaskSpec, result: TaskResult, requirements: Requirements, host: str, rooms: Rooms) -> bool:
    """Whether work that has passed its checks on ``host`` has to pass them on another machine, too."""
    mode = spec.clean_room or rooms.default
    if mode is CleanRoom.NEVER or not (mechanical(spec.verification) and spec.context.repo and result.verified):
        return False  # what a judge thinks of the work he is not asked again
    if mode is CleanRoom.ALWAYS:
        return True
    is_within_reach = bool(result.commit) and result.pushed and not spec.context.repo.startswith("/")
    return is_within_reach and rooms.beside(host, _needs(requirements))


def proof_class(text: str, agent: str, host: str, *, is_must: bool) -> str:
    """The class of a task of class ``text`` while somebody else than ``agent`` on ``host`` has to prove its work."""
    was = requirements_of(text)
    cap = None if was.cap is None else (Budget().tokens, None, was.cap[2])
    return Requirements(
        executor=PROOF,
        strategies=(Strategy.TRIVIAL,),
        needs=_needs(was),
        by=was.by,
        project=was.project,
        cap=cap,
        proof=ProofOf(agent=agent, host=host, work=text, must=is_must),
    ).text


def _needs(requirements: Requirements) -> tuple[str, ...]:
    return tuple(name for name in requirements.needs if name not in {ARTIFACTS, JUDGE, SECRETS})


def after_silence(proofs: int, *, is_must: bool) -> TaskState:
    """What becomes of a task when the machinery has failed ``proofs`` times to prove its work.

    It is tried again, elsewhere if it can be; then a person decides where another machine was asked for, else what the
    work's own machine has found counts.
    """
    if proofs < MAX_PROOFS:
        return TaskState.QUEUED
    return TaskState.WAITING if is_must else TaskState.COMPLETED


def room_problems(spec: TaskSpec) -> Iterator[Problem]:
    """Why the work of a task that insists on another machine could never be proven there."""
    if spec.clean_room is CleanRoom.ALWAYS:
        if not mechanical(spec.verification):
            yield Problem("clean_room", "'always' needs checks that another machine can run: give some beside a judge")
        if not spec.context.repo:
            yield Problem("clean_room", "'always' needs a place where another machine gets the work: give context.repo")
