"""Write ``docs/reference/permissions.md`` from the route table: ``python -m tests.docs.permissions`` writes it anew."""

from pathlib import Path
from typing import Final

from aiohttp import web

from hub.core.access import OWN_ONLY, PERMISSIONS, WITHOUT_PROJECT, may
from hub.web import scopes
from hub.web.routes import ROUTES, mesh
from hub.web.routing import Route
from protocol.model import Role

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "permissions.md"
_HEAD: Final = """# Permissions

Who may ask a hub for what. Written from the tables in the code (`hub/core/access.py`, `hub/web/routes.py`) by
`python -m tests.docs.permissions`; a test keeps them equal, another one asks every route with every role. With a route
that has no permission a hub does not start.

A token has one role, may end (`--ttl`), and may be bound to less than its role:

- `agentcom token create --role submitter --project web`: it sees and does only what is of the project `web` and its
  tasks; the rest is as if it were not there (404), and what is of the whole hub is refused (403 `out_of_scope`). For
  the roles operator, submitter and viewer.
- `agentcom token create --role agent --agent "Just Testing"`: only the sidecar of this name comes in with it, and asks
  for the files and credentials of its own attempts.

The hub keeps the SHA-256 of a token and when it was last used (written once a minute). What a token may is read from
there with every request; one that is revoked or has ended counts for nothing from then on, and open streams and links
end within seconds.

## Roles

"""


def page() -> str:
    """The page as the tables want it."""
    parts = [_HEAD + _roles(), "## Routes\n", _routes()]
    return "\n".join(parts)


def _roles() -> str:
    roles = list(Role)
    lines = [_row("permission", *(role.value for role in roles)), _row("---", *("---" for _ in roles))]
    lines += [_row(f"`{name}`", *(_mark(role, name) for role in roles)) for name in PERMISSIONS]
    notes = (
        "\n*own*: for tasks only that the same token has submitted; another one's are refused (403 `not_yours`).\n"
        "`git:exchange` is nobody's: git of an attempt shows the credential that the attempt was given.\n"
    )
    return "\n".join(lines) + "\n" + notes


def _mark(role: Role, permission: str) -> str:
    return ("own" if (role, permission) in OWN_ONLY else "yes") if may(role, permission) else ""


def _routes() -> str:
    lines = [_row("route", "permission", "token bound to a project"), _row("---", "---", "---")]
    for route in (*ROUTES, mesh(_nobody)):
        needed = "none, without a token" if route.permission is None else f"`{route.permission}`"
        lines.append(_row(f"`{route.method} {route.path}`", needed, _bound(route)))
    return "\n".join(lines) + "\n"


def _bound(route: Route) -> str:
    if route.permission is None:
        return ""
    if not any(may(role, route.permission) for role in (Role.OPERATOR, Role.SUBMITTER, Role.VIEWER)):
        return ""
    if scopes.is_of_task(route) or scopes.is_of_project(route):
        return "its own"
    if (route.method, route.path) in scopes.NARROWED:
        return "its own part"
    return "yes" if route.permission in WITHOUT_PROJECT else "no"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


async def _nobody(_request: web.Request) -> web.StreamResponse:
    raise AssertionError("only the table is read here")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
