"""What the hub is working on right now: agents and the attempts they hold. In memory; the store holds the truth.

Changes here run ahead of the commit (a slot is taken when the claim is planned), so whoever plans next sees them; a
claim that the store refuses is released again. All times are arguments.
"""

from collections import OrderedDict
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, cast
from urllib.parse import urlsplit

from hub.core.agent import Agent, Held
from hub.core.health import Health
from hub.core.prefixes import Prefixes
from hub.core.quotas import Quotas
from hub.core.speeds import ServerKey
from protocol.errors import StaleAttempt
from protocol.model import AgentState, AttemptId, AttemptState, EndpointReport
from protocol.progress import RECLAIMED

MAX_REPOS: Final = 200
"""Repositories that are remembered for a host; sidecars keep fewer."""
MAX_NOTES: Final = 8_192
"""Changes that are remembered; who has not looked for longer looks at everybody."""
_RUNNING, _ASSIGNED = AttemptState.RUNNING, AgentState.ASSIGNED  # members of enumerations are slow to find
_GETS_NO_BUSIER = (AgentState.WORKING, AgentState.ASSIGNED, AgentState.OFFLINE, AgentState.DRAINING)
"""States in which one more attempt changes nothing."""


class Notes:
    """The last of a row of numbered notes, each of an agent or of all of them."""

    def __init__(self) -> None:
        self.count = 0
        self._last: list[str | None] = []

    def add(self, agent: Agent | None) -> None:
        """Note this agent; ``None``: all."""
        self.count += 1
        self._last.append(agent.name if agent else None)
        if len(self._last) > MAX_NOTES:
            del self._last[: MAX_NOTES // 2]

    def since(self, count: int) -> set[str] | None:
        """Names that were noted since there were so many notes; ``None``: perhaps all."""
        missed = self.count - count
        if not missed:
            return set()
        if missed == 1:  # as in nearly every plan of a quiet hub
            last = self._last[-1]
            return None if last is None else {last}
        found = set(self._last[-missed:]) if missed <= len(self._last) else {None}
        return None if None in found else cast("set[str]", found)


class Fleet:
    """Agents by name and held attempts by task.

    Attributes:
        endpoints: LLM endpoints that people have added and that answer: every agent may use them.
        endpoints_down: ids of those that people have added and that do not answer.
        health: how endpoints do, by the host whose sidecars report them (empty: people have added them) and their id;
            one that is not listed was never in trouble. Whoever changes it calls :meth:`changed`.
        seen: the last report of each of them, also of those that are gone.
        generation: grows whenever what an agent *can* do changes, so that matches may be cached.
        prefixes: how the prompts of tasks begin, and what the servers have read last.

    With a thousand agents nobody may look at all of them for each task: :meth:`changed_since` and :meth:`freed_since`
    tell which ones to look at again.
    """

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.held: dict[str, Held] = {}
        self.away: dict[str, str] = {}  # tasks in hand at other hubs, and their agents
        self.endpoints: tuple[EndpointReport, ...] = ()
        self.endpoints_down: tuple[str, ...] = ()
        self.health: dict[ServerKey, Health] = {}
        self.seen: dict[ServerKey, EndpointReport] = {}
        self.generation = 0
        self.quotas = Quotas()
        self.prefixes = Prefixes()
        self._busy: dict[ServerKey, int] = {}  # attempts in hand, by the LLM server that they use
        self._given = 0
        self._open: dict[str, Agent] = {}  # all that have a free slot, and some that had one
        self._changed = Notes()
        self._freed = Notes()
        self._repos: dict[str, OrderedDict[str, None]] = {}
        self._taken_back: dict[str, frozenset[str]] = {}
        """By agent whose machine's owner has taken the GPU back: where others find that machine."""

    def agent(self, name: str) -> Agent:
        """The agent of that name, made if it is new."""
        found = self.agents.get(name)
        if found is None:
            found = self.agents[name] = Agent(name)
            self.changed(found)
        return found

    def forget(self, name: str) -> None:
        """There is no such agent any more; it holds nothing."""
        if (agent := self.agents.pop(name, None)) is not None:
            self.changed(agent)
            self._open.pop(name, None)
            self._repos.pop(agent.host or name, None)

    def online(self) -> Iterator[Agent]:
        """Agents that are connected."""
        return (agent for agent in self.agents.values() if agent.state is not AgentState.OFFLINE)

    @property
    def has_free_slot(self) -> bool:
        """Whether anything could be placed at all."""
        while self._open:
            name, agent = self._open.popitem()
            if agent.free_slots:
                self._open[name] = agent
                return True
        return False

    def changed(self, agent: Agent | None = None) -> None:
        """What ``agent`` can do has changed: it joined, left, drains, has other capabilities or endpoints.

        Without an agent: what any of them can do may have changed.
        """
        if agent is not None and self._notes_owner(agent):
            agent = None  # others may use, or no longer, what people have added on its machine
        self.generation += 1
        self._changed.add(agent)
        if agent is None:
            self._open = dict(self.agents)
        else:
            self._open[agent.name] = agent

    def _notes_owner(self, agent: Agent) -> bool:
        """Note whether the owner of its machine wants the GPU back; whether that is news for others."""
        names = places_taken_back(agent) if self.agents.get(agent.name) is agent else frozenset[str]()
        if names == self._taken_back.get(agent.name, frozenset()):
            return False
        if names:
            self._taken_back[agent.name] = names
        else:
            del self._taken_back[agent.name]
        return bool(self.endpoints)

    def is_taken_back(self, endpoint: EndpointReport, agent: str) -> bool:
        """Whether a local endpoint that people have added works with a GPU that its owner has taken back.

        Args:
            endpoint: one of :attr:`endpoints`.
            agent: who would use it: an address that leads nowhere else is its own machine's.
        """
        if not self._taken_back or not endpoint.local:
            return False
        host = (urlsplit(endpoint.url).hostname or "").lower()
        if host == "localhost" or is_loopback(host):
            return agent in self._taken_back
        return any(host in names or host.partition(".")[0] in names for names in self._taken_back.values())

    @property
    def has_owners(self) -> bool:
        """Whether anybody has taken a GPU back."""
        return bool(self._taken_back)

    def changed_since(self, generation: int) -> set[str] | None:
        """Names of those that have changed since that generation; ``None``: perhaps all."""
        return self._changed.since(generation)

    def freed(self, agent: Agent) -> None:
        """The agent may take something that it could not take before."""
        self._open[agent.name] = agent
        self._freed.add(agent)

    @property
    def freeings(self) -> int:
        """How often an agent was freed."""
        return self._freed.count

    def freed_since(self, freeings: int) -> set[str] | None:
        """Names of those that were freed since there were so many :attr:`freeings`; ``None``: perhaps all."""
        return self._freed.since(freeings)

    def health_of(self, agent: Agent, endpoint: EndpointReport) -> Health | None:
        """How an endpoint of this snapshot does, as ``agent`` would use it; ``None``: nothing is known against it."""
        if not self.health:
            return None
        is_own = endpoint in agent.endpoints
        return self.health.get(self.server_of(agent, endpoint.id, endpoint.url) if is_own else ("", endpoint.id))

    def server_of(self, agent: Agent, endpoint: str, url: str) -> ServerKey:
        """Which server an endpoint is that ``agent`` has itself.

        One for all sidecars on its machine, as they find the same one; but who calls another address by a name that is
        taken there has a server of its own, ``endpoint@agent``.
        """
        host = agent.host or agent.name
        usual, seen = (host, endpoint), self.seen.get((host, endpoint))
        if seen is None or seen.url == url:
            return usual
        own = host, f"{endpoint}@{agent.name}"
        known = self.seen.get(own)
        if known is not None and known.url == url:
            return own
        beside = (other for other in self.agents.values() if other is not agent and (other.host or other.name) == host)
        is_taken = any(
            report.id == endpoint and report.url == seen.url for other in beside for report in other.endpoints
        )
        return own if is_taken else usual

    def server_called(self, agent: Agent, endpoint: str) -> ServerKey:
        """Which server an attempt uses that was given to ``agent`` for ``endpoint``, perhaps by an earlier hub.

        Before the agent has introduced itself again, what was last seen on its machine tells.
        """
        for report in agent.endpoints:
            if report.id == endpoint:
                return self.server_of(agent, endpoint, report.url)
        host = agent.host or agent.name
        keys = (host, f"{endpoint}@{agent.name}"), (host, endpoint), ("", endpoint)
        return next((key for key in keys if key in self.seen), keys[1])

    @property
    def given(self) -> int:
        """Number of the last assignment."""
        return self._given

    def take(self, held: Held) -> None:
        """``held.agent`` now holds the attempt."""
        agent = self.agents[held.agent]
        if self.away:
            self.bring_back(held.task)
        agent.held[held.task] = held
        if held.alone:
            agent.runs_alone = held.task
        self.held[held.task] = held
        if held.server is not None:
            held.crowd = self._busy[held.server] = self._busy.get(held.server, 0) + 1
        if agent.state not in _GETS_NO_BUSIER:
            agent.fire("claim")
        self._given += 1
        agent.last_given = self._given

    def start(self, held: Held) -> None:
        """The attempt has been accepted by its agent."""
        held.state = _RUNNING
        agent = self.agents[held.agent]
        if agent.state is _ASSIGNED:
            agent.fire("start")

    def release(self, task: str, epoch: int) -> Held | None:
        """The attempt is over; what was held, or ``None`` if another attempt (or none) is held."""
        held = self.held.get(task)
        if held is None or held.epoch != epoch:
            return None
        self.freed(self.end(held))
        return held

    def end(self, held: Held, *, begins: bool = False) -> Agent:
        """An attempt that is held is over; its agent, which the caller has :meth:`freed`, of many attempts once.

        ``begins``: its agent has accepted it only now.
        """
        task = held.task
        del self.held[task]
        if held.server is not None:
            self._leave(held.server)
            self.quotas.drop(held.server, task)
        agent = self.agents[held.agent]
        agent.held.pop(task, None)
        if agent.runs_alone == task:
            agent.runs_alone = ""
        if begins:
            held.state = _RUNNING
        if not agent.held:
            if agent.is_in_service:
                agent.fire("free")
        elif begins and agent.state is _ASSIGNED:
            agent.fire("start")
        return agent

    def _leave(self, server: ServerKey) -> None:
        if (left := self._busy.get(server, 0) - 1) > 0:
            self._busy[server] = left
        else:
            self._busy.pop(server, None)

    def give_away(self, task: str, agent: str) -> None:
        """The task is in hand at another hub."""
        self.bring_back(task)
        self.away[task] = agent
        self.agent(agent).away |= {task}

    def bring_back(self, task: str) -> None:
        """The task is in nobody's hands at another hub any more."""
        if (agent := self.away.pop(task, None)) is not None:
            self.agents[agent].away -= {task}

    def forget_away(self) -> None:
        """Know nothing of what other hubs have in hand."""
        for task in list(self.away):
            self.bring_back(task)

    def renew(self, agent: Agent, tasks: Iterator[tuple[str, int]], until: float) -> list[tuple[str, int]]:
        """Extend the leases of the attempts that a heartbeat names; those it may not hold come back."""
        stale = []
        for task, epoch in tasks:
            held = agent.held.get(task)
            if held is None or held.epoch != epoch:
                stale.append((task, epoch))
            else:
                held.lease_until = until
        return stale

    def counts(self, attempt: AttemptId, now: float) -> bool:
        """Whether what the attempt does counts: it is the current one of its task, and its lease lasts."""
        held = self.held.get(attempt.task)
        if held is None or not held.is_committed or held.lease_until <= now:
            return False
        return (held.agent, held.boot, held.epoch) == (attempt.sidecar, attempt.boot, attempt.epoch)

    def check_counts(self, attempt: AttemptId, now: float) -> None:
        """Pass if what the attempt does counts.

        Raises:
            StaleAttempt: it does not.
        """
        if not self.counts(attempt, now):
            held = self.held.get(attempt.task)
            state = held.state.value if held is not None else None
            raise StaleAttempt(attempt.task, attempt.epoch, held.epoch if held is not None else None, state)

    def has_repo(self, host: str, repo: str) -> bool:
        """Whether work in a repository has ended on this host not long ago."""
        return repo in self._repos.get(host, ())

    def keep_repo(self, host: str, repo: str) -> None:
        """Work in a repository has ended there: the next fetch will be short."""
        repos = self._repos.setdefault(host, OrderedDict())
        repos[repo] = None
        repos.move_to_end(repo)
        if len(repos) > MAX_REPOS:
            repos.popitem(last=False)

    def expired(self, now: float) -> list[Held]:
        """Attempts whose lease has ended."""
        return [held for held in self.held.values() if held.lease_until <= now]


def places_taken_back(agent: Agent) -> frozenset[str]:
    """Names and addresses of the agent's machine, if its owner has taken the GPU back; else none."""
    if RECLAIMED not in agent.capabilities:
        return frozenset()
    told = (name.removeprefix(f"{RECLAIMED}:") for name in agent.capabilities if name.startswith(f"{RECLAIMED}:"))
    host = (agent.host or agent.name).lower()
    return frozenset({host, host.partition(".")[0], *told})


def is_loopback(host: str) -> bool:
    """Whether this is an address of whoever uses it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
