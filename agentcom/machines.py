"""What the client asks about machines and models: a part of :class:`agentcom.aio.AsyncClient`."""

from urllib.parse import quote

from agentcom.asking import Asking
from agentcom.calls import given
from protocol.api import PREFIX, AgentList, AgentView
from protocol.endpoint_views import EndpointBody, EndpointList, EndpointPatch, EndpointView, ModelList
from protocol.host_views import HostHistory, HostList


class MachineCalls(Asking):
    """Agents, the machines they are on, and the models they can ask."""

    async def agents(self) -> AgentList:
        """All agents, by name."""
        return await self._get("/agents", AgentList)

    async def agent(self, name: str) -> AgentView:
        """One agent."""
        return await self._get(f"/agents/{quote(name, safe='')}", AgentView)

    async def drain(self, name: str) -> AgentView:
        """Let an agent finish what it has and give it nothing new."""
        return await self._post(f"/agents/{quote(name, safe='')}/drain", AgentView, is_repeatable=True)

    async def resume(self, name: str) -> AgentView:
        """Give a drained agent work again."""
        return await self._post(f"/agents/{quote(name, safe='')}/resume", AgentView, is_repeatable=True)

    async def release(self, name: str) -> AgentView:
        """Give an agent work again whose key was in use twice, now that the copy is gone."""
        return await self._post(f"/agents/{quote(name, safe='')}/release", AgentView, is_repeatable=True)

    async def upgrade_agent(self, name: str) -> AgentView:
        """Have an agent's machine get the release that the hub runs; it gets no new work until it is resumed.

        Raises:
            Conflict: it is not connected, or its machine does not do that by itself.
        """
        return await self._post(f"/agents/{quote(name, safe='')}/upgrade", AgentView, is_repeatable=True)

    async def remove_agent(self, name: str) -> None:
        """Forget an agent that is gone for good.

        Raises:
            Conflict: it is connected, or has work in hand.
        """
        await self._transport.call("DELETE", f"{PREFIX}/agents/{quote(name, safe='')}", type(None))

    async def hosts(self) -> HostList:
        """All machines and their resources."""
        return await self._get("/hosts", HostList)

    async def host_history(self, name: str, span: str = "minute") -> HostHistory:
        """What a machine did in the last ``minute`` or ``hour``."""
        return await self._get(f"/hosts/{quote(name, safe='')}/history?span={quote(span, safe='')}", HostHistory)

    async def endpoints(self) -> EndpointList:
        """All LLM endpoints."""
        return await self._get("/endpoints", EndpointList)

    async def add_endpoint(self, body: EndpointBody) -> EndpointView:
        """Tell the hub of an LLM endpoint; it looks whether it answers."""
        return await self._post("/endpoints", EndpointView, given(body))

    async def change_endpoint(self, endpoint: str, body: EndpointPatch) -> EndpointView:
        """Change an endpoint; what is ``None`` stays."""
        path = f"{PREFIX}/endpoints/{quote(endpoint, safe='')}"
        return await self._transport.call("PATCH", path, EndpointView, body=given(body), is_repeatable=True)

    async def remove_endpoint(self, endpoint: str) -> None:
        """Forget an endpoint."""
        await self._transport.call("DELETE", f"{PREFIX}/endpoints/{quote(endpoint, safe='')}", type(None))

    async def models(self) -> ModelList:
        """All models on all endpoints."""
        return await self._get("/models", ModelList)
