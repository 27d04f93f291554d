import pytest
from aiohttp import web

from hub.core.access import OWN_ONLY, PERMISSIONS, WITHOUT_PROJECT
from hub.web.application import check
from hub.web.routes import ROUTES, WITHOUT_TOKEN, mesh
from hub.web.routing import Route
from hub.web.scopes import NARROWED


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


def test_every_permission_in_the_table_is_used() -> None:
    assert {route.permission for route in (*ROUTES, mesh(nothing))} - {None} == set(PERMISSIONS)


def test_what_is_said_about_scopes_is_about_routes_that_there_are() -> None:
    places = {(route.method, route.path) for route in ROUTES}

    assert places >= NARROWED
    assert WITHOUT_PROJECT | {permission for _, permission in OWN_ONLY} <= PERMISSIONS.keys()
