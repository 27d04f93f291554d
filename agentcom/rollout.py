"""Give machines the release that their hub runs: one first, then some at a time, and no more after the first failure.

The hub takes each out of service, its machine does the rest by itself, and it is given work again once it is back.
Which ones go when is decided without asking anybody; the caller with a hub at hand is ``agentcom/cli/machines.py``.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from msgspec import Struct

from protocol.api import AgentView
from protocol.errors import AgentComError, Unavailable
from protocol.joining import UPGRADE

LOOK_S: Final = 1.0


class Plan(Struct, frozen=True, kw_only=True):
    """Who gets another release: ``waves`` one after the other, and by name why others do not."""

    waves: tuple[tuple[str, ...], ...]
    left_out: dict[str, str]


class Hub(Protocol):
    """The hub, as far as it is asked here; :class:`agentcom.Client` is one."""

    def agent(self, name: str) -> AgentView:
        """One agent."""
        ...

    def upgrade_agent(self, name: str) -> AgentView:
        """Take it out of service and have its machine get another release."""
        ...

    def resume(self, name: str) -> AgentView:
        """Give it work again."""
        ...


def planned(agents: Sequence[AgentView], release: str, batch: int, only: Collection[str] = ()) -> Plan:
    """The first that can go alone, then ``batch`` at a time, by name; who has the release already is not told of."""
    left_out, go = {}, []
    for agent in sorted(agents, key=lambda each: each.name):
        if (only and agent.name not in only) or agent.version == release:
            continue
        if agent.state.value == "offline":
            left_out[agent.name] = f"offline with {agent.version}; on its machine: agentcom upgrade"
        elif UPGRADE not in agent.capabilities:
            left_out[agent.name] = f"{agent.version}, not installed by the hub; on its machine: agentcom upgrade"
        else:
            go.append(agent.name)
    rest = go[1:]
    waves = [tuple(go[:1]), *(tuple(rest[at : at + batch]) for at in range(0, len(rest), batch))]
    return Plan(waves=tuple(wave for wave in waves if wave), left_out=left_out)


class Rollout:
    """One release for many machines.

    Args:
        hub: who is asked.
        release: the version that they are to have.
        timeout_s: how long one machine may take, its running work included.
        tell: hears of each agent, what became of it and why.
        now, wait: the time, in seconds of any clock, and how it passes.
    """

    def __init__(
        self,
        hub: Hub,
        release: str,
        timeout_s: float,
        tell: Callable[[str, str, str], None],
        *,
        now: Callable[[], float],
        wait: Callable[[float], None],
    ) -> None:
        self._hub, self._release, self._timeout_s, self._tell = hub, release, timeout_s, tell
        self._now, self._wait = now, wait

    def run(self, waves: Sequence[Sequence[str]]) -> bool:
        """One wave after the other; whether all went well. After a wave with a failure there is no next one."""
        return all(self._wave(wave) for wave in waves)

    def _wave(self, names: Sequence[str]) -> bool:
        before: dict[str, AgentView] = {}
        is_well = True
        for name in names:
            try:
                before[name] = self._hub.agent(name)
                self._hub.upgrade_agent(name)
            except AgentComError as exc:
                self._tell("fail", name, str(exc))
                before.pop(name, None)
                is_well = False
        until = self._now() + self._timeout_s
        while before:
            for name, was in list(before.items()):
                ended = self._ended(was, is_late=self._now() > until)
                if ended is not None:
                    del before[name]
                    self._back(was, ended)
                    is_well &= not ended
            if before:
                self._wait(LOOK_S)
        return is_well

    def _ended(self, was: AgentView, *, is_late: bool) -> str | None:
        """Empty: it is back with the release; else why it is not; ``None``: it is still at it."""
        try:
            agent = self._hub.agent(was.name)
        except Unavailable:
            return "the hub does not answer" if is_late else None
        if agent.version == self._release and agent.state.value != "offline":
            return ""
        if agent.upgrade_failed and agent.state.value != "offline" and not agent.upgrade:
            return agent.upgrade_failed
        return f"it is {agent.state.value} with {agent.version} after {self._timeout_s:.0f} s" if is_late else None

    def _back(self, was: AgentView, failed: str) -> None:
        """Give it work again, with whichever release it has, unless it was out of service before."""
        name = was.name
        try:
            agent = self._hub.agent(name) if was.draining else self._hub.resume(name)
        except AgentComError as exc:
            self._tell("fail", name, f"{failed or 'it has the release'}; not in service: {exc}")
            return
        self._tell("fail" if failed else "ok", name, failed or f"{agent.state.value} with {agent.version}")
