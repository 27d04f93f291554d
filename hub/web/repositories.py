"""Git for projects: clone, branch, checkout, add, commit, push; one call each."""

from typing import Final

from aiohttp import web

from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, SERVICES
from protocol.api import PREFIX
from protocol.projects import (
    AddBody,
    BranchBody,
    CheckoutBody,
    CommitBody,
    CommitView,
    PushBody,
    PushView,
    RepositoryView,
)


async def status(request: web.Request) -> web.StreamResponse:
    """How the repository of a project stands."""
    requests.query(request)
    return json_reply(await request.app[SERVICES].repositories.status(request.match_info["name"]))


async def clone(request: web.Request) -> web.StreamResponse:
    """Make the hub's clone, or bring it up to date; what is checked out stays as it is."""
    return json_reply(await request.app[SERVICES].repositories.clone(request.match_info["name"]))


async def branch(request: web.Request) -> web.StreamResponse:
    """Make a branch."""
    body = await requests.body(request, BranchBody, "branch")
    done = await request.app[SERVICES].repositories.branch(request.match_info["name"], body.name, body.start)
    return json_reply(done, 201)


async def checkout(request: web.Request) -> web.StreamResponse:
    """Check a branch out."""
    body = await requests.body(request, CheckoutBody, "checkout")
    return json_reply(await request.app[SERVICES].repositories.check_out(request.match_info["name"], body.branch))


async def add(request: web.Request) -> web.StreamResponse:
    """Put changes into the next commit."""
    body = await requests.optional_body(request, AddBody, "add")
    return json_reply(await request.app[SERVICES].repositories.add_files(request.match_info["name"], body.paths))


async def commit(request: web.Request) -> web.StreamResponse:
    """Commit what was added."""
    body = await requests.body(request, CommitBody, "commit")
    repositories = request.app[SERVICES].repositories
    return json_reply(await repositories.commit(request.match_info["name"], body, request[PRINCIPAL].token), 201)


async def push(request: web.Request) -> web.StreamResponse:
    """Push a branch to where the project comes from."""
    body = await requests.optional_body(request, PushBody, "push")
    repositories = request.app[SERVICES].repositories
    return json_reply(await repositories.push(request.match_info["name"], body.branch, request[PRINCIPAL].token))


_GIT: Final = f"{PREFIX}/projects/{{name}}/git"
ROUTES: Final = (
    Route("GET", _GIT, status, "projects:read", "How a repository stands", None, RepositoryView),
    Route(
        "POST",
        f"{_GIT}/clone",
        clone,
        "projects:write",
        "Clone, or fetch what is new",
        None,
        RepositoryView,
        is_heavy=True,
    ),
    Route(
        "POST",
        f"{_GIT}/branch",
        branch,
        "projects:write",
        "Make a branch",
        BranchBody,
        RepositoryView,
        status=201,
    ),
    Route("POST", f"{_GIT}/checkout", checkout, "projects:write", "Check out", CheckoutBody, RepositoryView),
    Route("POST", f"{_GIT}/add", add, "projects:write", "Add to the next commit", AddBody, RepositoryView),
    Route("POST", f"{_GIT}/commit", commit, "projects:write", "Commit", CommitBody, CommitView, status=201),
    Route(
        "POST",
        f"{_GIT}/push",
        push,
        "projects:push",
        "Push to where it comes from",
        PushBody,
        PushView,
        is_heavy=True,
    ),
)
