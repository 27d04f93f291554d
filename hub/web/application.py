"""Put the HTTP side together: the route table, the guard before it, the problem documents around it.

Called by ``hub/app.py``, which opens the socket and adds the route of the gateway (``/mesh``).
"""

from collections.abc import Sequence

from aiohttp import web

from hub.core.access import PERMISSIONS
from hub.web.dashboard import PAGES, PageBoard
from hub.web.following import TOLD, Told
from hub.web.guard import finish, guard, stamp
from hub.web.problems import problems
from hub.web.routes import ROUTES, WITHOUT_TOKEN
from hub.web.routing import SSE, Route
from hub.web.services import LIVE, SERVICES, SESSIONS, SETTINGS, Live, MetricsPort, Services, WebSettings
from hub.web.sessions import Sessions
from hub.web.short_way import DESK, Desk
from hub.web.stream import end_all
from protocol.limits import MAX_BODY_BYTES


def build(
    services: Services,
    *,
    sessions: Sessions,
    metrics: MetricsPort,
    settings: WebSettings | None = None,
    more: Sequence[Route] = (),
) -> web.Application:
    """The application, ready to be served.

    Args:
        services: the use cases behind the routes.
        sessions: browser sessions; ``sessions.issue_ticket(token_id)`` makes a link ``/?ticket=...`` that logs in once.
        metrics: what ``/metrics`` shows.
        settings: what may differ between hubs.
        more: routes that are not of this package; they take part in the rights check like the others.

    Raises:
        ValueError: a route of ``more`` has no permission, or one that is not in the table, or a place that is taken.
    """
    routes = (*ROUTES, *more)
    check(routes)
    app = web.Application(middlewares=[stamp, problems, guard], client_max_size=MAX_BODY_BYTES)
    app[SERVICES], app[SESSIONS] = services, sessions
    app[SETTINGS], app[PAGES] = settings or WebSettings(), PageBoard()
    app[LIVE] = Live(routes=routes, metrics=metrics)
    app[DESK], app[TOLD] = Desk(app), Told()
    for route in routes:
        place = route.path.replace("{path}", "{path:.+}")  # the only part of a path that has parts of its own
        if route.method == "GET":
            app.router.add_get(place, route.handler, allow_head=SSE not in route.produces)
        else:
            app.router.add_route(route.method, place, route.handler)
    app.on_response_prepare.append(finish)
    app.on_shutdown.append(end_all)
    return app


def check(routes: Sequence[Route]) -> None:
    """Pass if every route has its own place and a permission of the table.

    Raises:
        ValueError: one does not; the message names it.
    """
    taken: set[tuple[str, str]] = set()
    for route in routes:
        place = (route.method, route.path)
        if place in taken:
            message = f"{route.method} {route.path} stands in the route table twice"
            raise ValueError(message)
        taken.add(place)
        if route.permission is None and place not in WITHOUT_TOKEN:
            message = f"{route.method} {route.path} has no permission, and is not one of the few that need none"
            raise ValueError(message)
        if route.permission is not None and route.permission not in PERMISSIONS:
            message = (
                f"{route.method} {route.path}: permission {route.permission!r} is not in hub.core.access.PERMISSIONS"
            )
            raise ValueError(message)
