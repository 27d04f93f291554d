import pytest
from aiohttp import web

from hub.core.access import PERMISSIONS
from hub.web.application import check
from hub.web.routes import ROUTES, WITHOUT_TOKEN
from hub.web.routing import Route


async def nothing(_request: web.Request) -> web.StreamResponse:
    return web.Response()


def test_the_table_is_sound() -> None:
    check(ROUTES)

    assert {(route.method, route.path) for route in ROUTES if route.permission is None} == WITHOUT_TOKEN
    assert {route.permission for route in ROUTES} - {None} <= PERMISSIONS.keys()


@pytest.mark.parametrize(
    "route, why",
    [
        (Route("GET", "/open", nothing, None, "x"), "has no permission"),
        (Route("GET", "/x", nothing, "tasks:burn", "x"), "is not in"),
        (Route("GET", "/healthz", nothing, "tasks:read", "x"), "twice"),
    ],
)
def test_a_route_that_nobody_decided_about_is_refused(route: Route, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check((*ROUTES, route))
