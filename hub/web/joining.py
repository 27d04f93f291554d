"""How machines come in: join tokens, machines that wait for a person, and what a machine asks for itself.

A machine has no token before it has joined; what it sends then is signed (``hub/services/joining.py`` checks that), and
small.
"""

from typing import Final

from aiohttp import web

from hub.core.matching import place_of
from hub.web import forwarded, login, requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES, SETTINGS
from protocol.api import PREFIX, TaskView
from protocol.errors import NotFound
from protocol.joining import (
    JoinAsked,
    JoinBody,
    Joined,
    JoinRefused,
    JoinRequestList,
    JoinTokenBody,
    JoinTokenCreated,
    JoinTokenList,
    MachineView,
    NotYetApproved,
    SmokeView,
    UpgradeTold,
)
from protocol.version import NEWEST, OLDEST

_MOST_BYTES: Final = 16 << 10
"""Who has not joined yet gets no room for more than a request."""
_SMOKE: Final = "agentcom.smoke"
"""The label of first tasks; its value is the place that they are for."""


async def create(request: web.Request) -> web.StreamResponse:
    """A new join token, with the command that uses it."""
    body = await requests.optional_body(request, JoinTokenBody, "join token")
    url = request.app[SETTINGS].url or f"{forwarded.scheme(request)}://{forwarded.host(request)}"
    return json_reply(await request.app[SERVICES].joining.create(body, request[PRINCIPAL].token, url), 201)


async def index(request: web.Request) -> web.StreamResponse:
    """All join tokens, without their secrets."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].joining.tokens())


async def revoke(request: web.Request) -> web.StreamResponse:
    """End a join token at once."""
    await request.app[SERVICES].joining.revoke(request.match_info["id"], request[PRINCIPAL].token)
    return web.Response(status=204)


async def waiting(request: web.Request) -> web.StreamResponse:
    """Machines that wait for a person."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].joining.requests())


async def approve(request: web.Request) -> web.StreamResponse:
    """Let a machine in."""
    return await _decided(request, is_approved=True)


async def deny(request: web.Request) -> web.StreamResponse:
    """Do not let a machine in."""
    return await _decided(request, is_approved=False)


async def _decided(request: web.Request, *, is_approved: bool) -> web.StreamResponse:
    code, by = request.match_info["code"], request[PRINCIPAL].token
    await request.app[SERVICES].joining.decide(code, by, is_approved=is_approved)
    return web.Response(status=204)


async def join(request: web.Request) -> web.StreamResponse:
    """A machine joins, by a join token or because a person has approved it."""
    body = await _signed_body(request)
    try:
        joined = await request.app[SERVICES].joining.join(body, forwarded.address(request))
    except (JoinRefused, NotYetApproved):
        login.count_stranger(request)
        raise
    return json_reply(joined, 201)


async def ask(request: web.Request) -> web.StreamResponse:
    """A machine without a join token asks to be let in."""
    body = await _signed_body(request)
    login.count_stranger(request)  # before anything is kept of it
    return json_reply(await request.app[SERVICES].joining.ask(body, forwarded.address(request)), 201)


async def _signed_body(request: web.Request) -> JoinBody:
    raw = await requests.raw_body(request, _MOST_BYTES)
    return requests.shaped(raw, request.content_type, JoinBody, "machine")


async def remove(request: web.Request) -> web.StreamResponse:
    """Throw a machine out: its token counts no more, and what it has opened ends at once."""
    await request.app[SERVICES].joining.remove(request.match_info["name"], request[PRINCIPAL].token)
    return web.Response(status=204)


async def show(request: web.Request) -> web.StreamResponse:
    """The machine that asks, and how its agent does."""
    requests.query(request)
    services = request.app[SERVICES]
    machine = await services.joining.machine(request[PRINCIPAL].token)
    state, version, boot = "unseen", "", 0
    try:
        agent = services.presence.agent(machine.name)
    except NotFound:
        pass
    else:
        state, version, boot = agent.state, agent.version, agent.boot_epoch
    hub_version, speaks = request.app[SETTINGS].version, (OLDEST, NEWEST)
    view = MachineView(
        name=machine.name, state=state, version=version, hub_version=hub_version, boot=boot, protocol=speaks
    )
    return json_reply(view)


async def leave(request: web.Request) -> web.StreamResponse:
    """The machine that asks leaves: its token counts no more."""
    await request.app[SERVICES].joining.leave(request[PRINCIPAL].token)
    return web.Response(status=204)


async def upgrade(request: web.Request) -> web.StreamResponse:
    """The machine that asks tells how far it is with another release."""
    raw = await requests.raw_body(request, _MOST_BYTES)
    body = requests.shaped(raw, request.content_type, UpgradeTold, "upgrade")
    services = request.app[SERVICES]
    await services.upgrading.told((await services.joining.machine(request[PRINCIPAL].token)).name, body)
    return web.Response(status=204)


async def smoke(request: web.Request) -> web.StreamResponse:
    """A first task for the machine that asks, and for no other: a command, and checks of what it has done."""
    services, by = request.app[SERVICES], request[PRINCIPAL].token
    place = place_of((await services.joining.machine(by)).name)
    spec = {
        "title": f"First task of {place.removeprefix('machine:')}",
        "command": "echo AgentCom works here > first.txt",
        "needs": [place],
        "priority": "urgent",
        "max_retries": 1,
        "ttl_s": 300,
        "labels": {_SMOKE: place},
        "clean_room": "never",
        "verification": [
            {"type": "file_exists", "path": "first.txt"},
            {"type": "command_succeeds", "command": "grep -q 'works here' first.txt"},
        ],
    }
    done = await services.intake.submit(requests.read_specs(spec), key=None, digest=b"", by=by)
    return json_reply(_smoke_of(await services.insight.task(done.tasks[0].id)), 201)


async def smoke_state(request: web.Request) -> web.StreamResponse:
    """How that task does."""
    requests.query(request)
    services = request.app[SERVICES]
    machine = await services.joining.machine(request[PRINCIPAL].token)
    task = await services.insight.task(requests.task_id(request))
    if task.spec.labels.get(_SMOKE) != place_of(machine.name):
        raise NotFound("task", task.id)  # what others do is none of its business
    return json_reply(_smoke_of(task))


def _smoke_of(task: TaskView) -> SmokeView:
    result = task.result
    return SmokeView(
        task=task.id,
        state=task.state.value,
        execution_ok=result.execution_ok if result else None,
        verified=result.verified if result else None,
        reason=task.reason or "",
    )


_TOKENS: Final = f"{PREFIX}/join-tokens"
_REQUESTS: Final = f"{PREFIX}/join-requests"
_MANAGE: Final = "machines:manage"
_OWN: Final = "mesh:join"
ROUTES: Final = (
    Route("GET", _TOKENS, index, _MANAGE, "List join tokens, without their secrets", None, JoinTokenList),
    Route(
        "POST",
        _TOKENS,
        create,
        _MANAGE,
        "Make a join token; its secret is shown only now",
        JoinTokenBody,
        JoinTokenCreated,
        status=201,
    ),
    Route("DELETE", f"{_TOKENS}/{{id}}", revoke, _MANAGE, "Revoke a join token", produces=(), status=204),
    Route("GET", _REQUESTS, waiting, _MANAGE, "List machines that wait to be let in", None, JoinRequestList),
    Route("POST", f"{_REQUESTS}/{{code}}/approve", approve, _MANAGE, "Let a machine in", produces=(), status=204),
    Route("POST", f"{_REQUESTS}/{{code}}/deny", deny, _MANAGE, "Do not let a machine in", produces=(), status=204),
    Route("DELETE", f"{PREFIX}/machines/{{name}}", remove, _MANAGE, "Throw a machine out", produces=(), status=204),
    Route("POST", _REQUESTS, ask, None, "A machine asks to be let in by a person", JoinBody, JoinAsked, status=201),
    Route("POST", f"{PREFIX}/join", join, None, "A machine joins", JoinBody, Joined, status=201),
    Route(
        "GET",
        f"{PREFIX}/machine",
        show,
        _OWN,
        "The machine that asks, as the hub sees it",
        None,
        MachineView,
        refuses=(409,),
    ),
    Route("DELETE", f"{PREFIX}/machine", leave, _OWN, "The machine that asks leaves", produces=(), status=204),
    Route(
        "POST",
        f"{PREFIX}/machine/upgrade",
        upgrade,
        _OWN,
        "How the upgrade of the machine that asks comes along",
        UpgradeTold,
        produces=(),
        status=204,
        refuses=(409,),
    ),
    Route("POST", f"{PREFIX}/machine/smoke", smoke, _OWN, "A first task for it", None, SmokeView, status=201),
    Route(
        "GET",
        f"{PREFIX}/machine/smoke/{{id}}",
        smoke_state,
        _OWN,
        "How that task does",
        None,
        SmokeView,
        refuses=(409,),
    ),
)
