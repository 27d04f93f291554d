"""Give machines the release that their hub runs: one first, then some at a time, and no more after the first failure.

The hub takes each out of service, its machine does the rest by itself, and it is given work again once it is back.
Which ones go when is decided without asking anybody; the caller with a hub at hand is ``agentcom/cli/machines.py``.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from msgspec import Struct

from protocol.api import AgentView
from protocol.errors import AgentComError, NotFound, Unavailable
from protocol.joining import UPGRADE
from provisioning.plan import RISKY

LOOK_S: Final = 1.0
_PROVEN: Final = frozenset({"", "ready"})
"""What a machine has told last that has found its release well; the word behind it may have been lost."""
_REMOVED: Final = "somebody has removed it from the hub meanwhile"


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
        tell: hears of each agent, what became of it (``ok``, ``fail``, ``left``: it was removed) and why.
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
        self._under_way: dict[str, AgentView] = {}
        self._is_proven = False

    def run(self, waves: Sequence[Sequence[str]]) -> bool:
        """One wave after the other; whether all went well. After a wave with a failure there is no next one.

        As long as none has come back with the release one goes alone: the first may have been removed meanwhile. Who
        was removed has not failed.
        """
        try:
            for wave in waves:
                left = wave
                while left:
                    go = left if self._is_proven else left[:1]
                    left = left[len(go) :]
                    if not self._wave(go):
                        return False
        finally:  # also when a person ends this: nobody stays out of service for it
            for was in self._under_way.values():
                self._back(was, "nobody waits for it any more")
        return True

    def _wave(self, names: Sequence[str]) -> bool:
        is_well = True
        for name in names:
            try:
                self._under_way[name] = self._hub.agent(name)
                self._hub.upgrade_agent(name)
            except AgentComError as exc:
                self._under_way.pop(name, None)
                is_well &= self._refused(name, exc)
        until = self._now() + self._timeout_s
        while self._under_way:
            for name, was in list(self._under_way.items()):
                try:
                    ended = self._ended(was, is_late=self._now() > until)
                except NotFound as exc:
                    del self._under_way[name]
                    self._refused(name, exc)
                    continue
                if ended is not None:
                    del self._under_way[name]
                    self._back(was, ended)
                    is_well &= not ended
                    self._is_proven |= not ended
            if self._under_way:
                self._wait(LOOK_S)
        return is_well

    def _refused(self, name: str, why: AgentComError) -> bool:
        """It cannot be asked; whether that is because it is there no more, which is nobody's failure."""
        is_gone = isinstance(why, NotFound)
        self._tell("left" if is_gone else "fail", name, _REMOVED if is_gone else str(why))
        return is_gone

    def _ended(self, was: AgentView, *, is_late: bool) -> str | None:
        """Empty: it is back with the release; else why it is not; ``None``: it is still at it.

        Raises:
            NotFound: the hub does not know it any more.
        """
        try:
            agent = self._hub.agent(was.name)
        except Unavailable:
            return "the hub does not answer" if is_late else None
        is_there = agent.state.value != "offline"
        has_it = is_there and agent.version == self._release
        if agent.upgrade_failed:  # one that does not stay up goes back, and is there with it until it has
            goes_back = has_it and agent.upgrade_failed.partition(":")[0] in RISKY
            is_over = is_there and not agent.upgrade and not goes_back
            return agent.upgrade_failed if is_over or is_late else None
        if has_it and (is_late or agent.upgrade in _PROVEN):
            return ""
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
