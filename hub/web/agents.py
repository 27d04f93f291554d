"""Agents: list, look, drain, resume."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX, AgentList, AgentView


async def index(request: web.Request) -> web.StreamResponse:
    """All agents, by name."""
    requests.query(request)
    return json_reply(request.app[SERVICES].presence.agents())


async def show(request: web.Request) -> web.StreamResponse:
    """One agent."""
    requests.query(request)
    return json_reply(request.app[SERVICES].presence.agent(request.match_info["name"]))


async def drain(request: web.Request) -> web.StreamResponse:
    """Let the agent finish what it has and give it nothing new."""
    return json_reply(await request.app[SERVICES].presence.drain(request.match_info["name"], request[PRINCIPAL].token))


async def resume(request: web.Request) -> web.StreamResponse:
    """Give a drained agent work again."""
    return json_reply(await request.app[SERVICES].presence.resume(request.match_info["name"], request[PRINCIPAL].token))


async def remove(request: web.Request) -> web.StreamResponse:
    """Forget an agent that is gone for good."""
    await request.app[SERVICES].presence.remove(request.match_info["name"], request[PRINCIPAL].token)
    return web.Response(status=204)


async def reclaim(request: web.Request) -> web.StreamResponse:
    """Take the GPU of an agent's machine back: work of models there stops, and none is placed there."""
    name, services = request.match_info["name"], request.app[SERVICES]
    await services.reclaiming.reclaim(name, request[PRINCIPAL].token)
    return json_reply(services.presence.agent(name))


async def give_back(request: web.Request) -> web.StreamResponse:
    """Give the GPU of an agent's machine to work again."""
    name, services = request.match_info["name"], request.app[SERVICES]
    await services.reclaiming.give_back(name, request[PRINCIPAL].token)
    return json_reply(services.presence.agent(name))


async def release(request: web.Request) -> web.StreamResponse:
    """Give an agent work again that was in quarantine: the copy is gone."""
    return json_reply(
        await request.app[SERVICES].presence.release(request.match_info["name"], request[PRINCIPAL].token)
    )


async def upgrade(request: web.Request) -> web.StreamResponse:
    """Have the agent's machine get the release of the hub, once its work has ended; it gets no new work meanwhile."""
    name, services, by = request.match_info["name"], request.app[SERVICES], request[PRINCIPAL].token
    services.upgrading.check(name)
    await services.presence.drain(name, by)
    await services.upgrading.upgrade(name, by)
    return json_reply(services.presence.agent(name))


_AGENT: Final = f"{PREFIX}/agents/{{name}}"
ROUTES: Final = (
    Route("POST", f"{_AGENT}/release", release, "agents:control", "End its quarantine", None, AgentView),
    Route("POST", f"{_AGENT}/reclaim", reclaim, "agents:control", "Take its machine's GPU back", None, AgentView),
    Route("POST", f"{_AGENT}/give-back", give_back, "agents:control", "Give the GPU to work again", None, AgentView),
    Route("POST", f"{_AGENT}/upgrade", upgrade, "agents:control", "Give its machine our release", None, AgentView),
    Route("GET", f"{PREFIX}/agents", index, "agents:read", "List agents", None, AgentList),
    Route("GET", f"{PREFIX}/agents/{{name}}", show, "agents:read", "One agent", None, AgentView),
    Route(
        "POST",
        f"{PREFIX}/agents/{{name}}/drain",
        drain,
        "agents:control",
        "Give the agent no new work",
        None,
        AgentView,
    ),
    Route(
        "POST",
        f"{PREFIX}/agents/{{name}}/resume",
        resume,
        "agents:control",
        "Give the agent work again",
        None,
        AgentView,
    ),
    Route(
        "DELETE",
        f"{PREFIX}/agents/{{name}}",
        remove,
        "agents:control",
        "Forget an agent that is gone for good",
        produces=(),
        status=204,
    ),
)
