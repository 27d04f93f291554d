"""What the blocking client asks about machines, models and the hub itself; see :class:`agentcom.client.Client`."""

from collections.abc import Mapping, Sequence

from agentcom.blocking import Blocking
from agentcom.upkeep import Ticket
from protocol.api import AgentList, AgentView, BackupList, BackupView, Health, TokenCreated, TokenList
from protocol.endpoint_views import EndpointBody, EndpointList, EndpointPatch, EndpointView, ModelList
from protocol.host_views import HostHistory, HostList
from protocol.log_levels import LevelList
from protocol.metrics import MetricsHistory
from protocol.model import Role
from protocol.rate_limits import RateList


class BlockingMachines(Blocking):
    """Agents, machines, models, and the hub itself."""

    def agents(self) -> AgentList:
        """All agents, by name."""
        return self._run(self._client.agents())

    def agent(self, name: str) -> AgentView:
        """One agent."""
        return self._run(self._client.agent(name))

    def drain(self, name: str) -> AgentView:
        """Let an agent finish what it has and give it nothing new."""
        return self._run(self._client.drain(name))

    def release(self, name: str) -> AgentView:
        """Give an agent work again whose key was in use twice, now that the copy is gone."""
        return self._run(self._client.release(name))

    def resume(self, name: str) -> AgentView:
        """Give a drained agent work again."""
        return self._run(self._client.resume(name))

    def upgrade_agent(self, name: str) -> AgentView:
        """Have an agent's machine get the release that the hub runs; it gets no new work until it is resumed."""
        return self._run(self._client.upgrade_agent(name))

    def remove_agent(self, name: str) -> None:
        """Forget an agent that is gone for good."""
        self._run(self._client.remove_agent(name))

    def hosts(self) -> HostList:
        """All machines and their resources."""
        return self._run(self._client.hosts())

    def host_history(self, name: str, span: str = "minute") -> HostHistory:
        """What a machine did in the last ``minute`` or ``hour``."""
        return self._run(self._client.host_history(name, span))

    def endpoints(self) -> EndpointList:
        """All LLM endpoints."""
        return self._run(self._client.endpoints())

    def add_endpoint(self, body: EndpointBody) -> EndpointView:
        """Tell the hub of an LLM endpoint."""
        return self._run(self._client.add_endpoint(body))

    def change_endpoint(self, endpoint: str, body: EndpointPatch) -> EndpointView:
        """Change an endpoint; what is ``None`` stays."""
        return self._run(self._client.change_endpoint(endpoint, body))

    def remove_endpoint(self, endpoint: str) -> None:
        """Forget an endpoint."""
        self._run(self._client.remove_endpoint(endpoint))

    def models(self) -> ModelList:
        """All models on all endpoints."""
        return self._run(self._client.models())

    # --- the hub itself -------------------------------------------------------------------------------------------

    def tokens(self) -> TokenList:
        """All tokens, without their secrets."""
        return self._run(self._client.tokens())

    def create_token(
        self,
        role: Role | str,
        *,
        label: str = "",
        ttl_s: float | None = None,
        projects: Sequence[str] = (),
        agents: Sequence[str] = (),
    ) -> TokenCreated:
        """Make a token, bound to projects or to names of sidecars; its secret is shown only in this answer."""
        asked = self._client.create_token(role, label=label, ttl_s=ttl_s, projects=projects, agents=agents)
        return self._run(asked)

    def rate_limits(self) -> RateList:
        """How often who may ask, and who was refused lately."""
        return self._run(self._client.rate_limits())

    def log_levels(self) -> LevelList:
        """From which level on the parts of the mesh log."""
        return self._run(self._client.log_levels())

    def set_log_levels(self, levels: Mapping[str, str | None]) -> LevelList:
        """Set levels by component; ``None`` takes back what was set."""
        return self._run(self._client.set_log_levels(levels))

    def revoke_token(self, token: str) -> None:
        """End the token with this id, at once."""
        self._run(self._client.revoke_token(token))

    def backups(self) -> BackupList:
        """Backups of the hub's store, newest first."""
        return self._run(self._client.backups())

    def back_up(self) -> BackupView:
        """Make a backup now; answers when it is on the hub's disk and has been looked through."""
        return self._run(self._client.back_up())

    def metrics(
        self, names: Sequence[str] = (), *, since: str = "", until: str = "", step_s: int | None = None
    ) -> MetricsHistory:
        """Figures over time, all of them or those that are named."""
        return self._run(self._client.metrics(names, since=since, until=until, step_s=step_s))

    def health(self) -> Health:
        """The hub's own view of itself."""
        return self._run(self._client.health())

    def session_ticket(self) -> Ticket:
        """A link that opens the dashboard in a browser, once."""
        return self._run(self._client.session_ticket())

    def is_ready(self) -> bool:
        """Whether work can be submitted now; asks once."""
        return self._run(self._client.is_ready())

    def server_date(self) -> str:
        """The hub's clock as its ``Date`` header tells it."""
        return self._run(self._client.server_date())
