"""Whether what a route is about lies within the scope of its caller: asked after the role, before the handler.

A role says what may be done, a scope to which things. Two rules narrow a role: a token may be bound to projects or to
names of sidecars (:class:`hub.core.access.Scope`), and a submitter controls only what its own token has submitted
(:data:`hub.core.access.OWN_ONLY`). What a bound token may not see is answered as if it were not there; what is of the
whole hub, and no handler here knows how to narrow, is refused: a new route is shut for bound tokens until it is opened.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from aiohttp import web

from hub.core.access import OWN_ONLY, WITHOUT_PROJECT, Principal
from hub.core.routing import requirements_of
from hub.services.insight import Insight
from hub.store.store import TaskRow
from hub.web.requests import task_id
from hub.web.routing import Route
from hub.web.services import SERVICES
from protocol.api import PREFIX
from protocol.errors import BadInput, NotFound, NotYours, OutOfScope, Problem
from protocol.model import TaskSpec

_OF_TASK: Final = (f"{PREFIX}/tasks/{{id}}", f"{PREFIX}/pulls/{{id}}")
_OF_FILE: Final = f"{PREFIX}/artifacts/{{id}}"
_OF_PROJECT: Final = f"{PREFIX}/projects/{{name}}"
NARROWED: Final = frozenset(
    {
        ("GET", f"{PREFIX}/tasks"),
        ("POST", f"{PREFIX}/tasks"),
        ("POST", f"{PREFIX}/tasks/bulk"),
        ("GET", f"{PREFIX}/projects"),
        ("GET", f"{PREFIX}/pulls"),
    }
)
"""Routes about many things, whose handlers show and take only what is in scope."""


def is_of_task(route: Route) -> bool:
    """Whether the route is about one task, which its path names, or a file of one."""
    return route.path.startswith((*_OF_TASK, _OF_FILE))


def is_of_project(route: Route) -> bool:
    """Whether the route is about one project, which its path names."""
    return route.path.startswith(_OF_PROJECT)


def is_own_only(who: Principal, permission: str | None) -> bool:
    """Whether the caller holds this permission for its own tasks only."""
    return (who.role, permission) in OWN_ONLY


async def check(request: web.Request, route: Route, who: Principal) -> None:
    """Pass if what the request is about lies within the scope of its caller.

    Raises:
        NotFound: the task or project is none of those that the caller's token is bound to, or there is none.
        NotYours: the task was submitted with another token.
        OutOfScope: the token is bound, and the route is about the whole hub, or about another sidecar.
    """
    sidecar = request.query.get("sidecar")
    if sidecar is not None and not who.is_for(sidecar):
        raise OutOfScope("agents", who.scope.agents, f"sidecar {sidecar[:64]!r}")
    projects, own_only = who.scope.projects, is_own_only(who, route.permission)
    if not projects and not own_only:
        return
    if is_of_task(route):
        await check_task(request.app[SERVICES].insight, who, await _task(request, route), route.permission or "")
    elif projects and is_of_project(route):
        if (name := request.match_info["name"]) not in projects:
            raise NotFound("project", name[:100])
    elif (route.method, route.path) not in NARROWED and route.permission not in WITHOUT_PROJECT:
        check_whole(who, route.permission or route.path)


def check_whole(who: Principal, what: str) -> None:
    """Pass if the caller may see what is of the whole hub.

    Raises:
        OutOfScope: its token is bound to projects.
    """
    if who.scope.projects:
        raise OutOfScope("projects", who.scope.projects, what)


async def check_task(insight: Insight, who: Principal, task: str, permission: str) -> None:
    """Pass if a task lies within the scope of the caller.

    Raises:
        NotFound, NotYours: as :func:`check`.
    """
    projects, own_only = who.scope.projects, is_own_only(who, permission)
    if not projects and not own_only:
        return
    by, project = await insight.owner(task)
    if projects and project not in projects:
        raise NotFound("task", task)
    if own_only and by != who.token:
        raise NotYours(who.role.value, f"task {task}", permission)


async def _task(request: web.Request, route: Route) -> str:
    if route.path.startswith(_OF_FILE):
        return (await request.app[SERVICES].artifacts.find(request.match_info["id"])).task
    return task_id(request)


def tasks_of(who: Principal, permission: str) -> Callable[[TaskRow], bool] | None:
    """Which of all tasks the caller sees, or may do with ``permission`` something to; ``None``: all."""
    projects, own_only = frozenset(who.scope.projects), is_own_only(who, permission)
    if not projects and not own_only:
        return None

    def is_in_scope(row: TaskRow) -> bool:
        found = requirements_of(row.class_text)
        return (not projects or found.project in projects) and (not own_only or found.by == who.token)

    return is_in_scope


async def check_specs(who: Principal, specs: Sequence[TaskSpec], insight: Insight) -> None:
    """Pass if the caller may submit tasks to these projects, and sees the tasks that they name.

    Raises:
        OutOfScope: its token is bound to others.
        BadInput: a task that another one depends on or belongs to is none of those that it sees, or there is none.
    """
    projects = who.scope.projects
    if not projects:
        return
    for spec in specs:
        if spec.project not in projects:
            raise OutOfScope("projects", projects, f"project {spec.project!r}" if spec.project else "tasks without one")
    named = [(path, task) for number, spec in enumerate(specs) for path, task in _kin(spec, number, len(specs))]
    found = await insight.projects(task for _, task in named) if named else {}
    if problems := [Problem(path, f"no task {task}") for path, task in named if found.get(task) not in projects]:
        raise BadInput(problems, "task" if len(specs) == 1 else "batch")


def _kin(spec: TaskSpec, number: int, count: int) -> Iterator[tuple[str, str]]:
    """The other tasks that a spec names, and where."""
    where = f"tasks[{number}]." if count > 1 else ""
    yield from ((f"{where}depends_on[{place}]", task) for place, task in enumerate(spec.depends_on))
    if spec.parent is not None:
        yield f"{where}parent", spec.parent
