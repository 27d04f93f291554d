"""All that a hub answers over HTTP, in one list."""

from typing import Final

from hub.web import (
    agents,
    alerts,
    artifacts,
    audit,
    authority,
    backups,
    budgets,
    dashboard,
    docs,
    endpoints,
    events,
    explain,
    gate,
    health,
    hosts,
    install,
    joining,
    keystore,
    log_levels,
    login,
    logs,
    metrics,
    models,
    pausing,
    progress,
    projects,
    pulls,
    rate_limits,
    replay,
    repositories,
    reviews,
    tasks,
    tokens,
)
from hub.web.routing import Handler, Route
from protocol.pinning import CA_PATH

ROUTES: Final[tuple[Route, ...]] = (
    *tasks.ROUTES,
    *reviews.ROUTES,
    *events.ROUTES,
    *logs.ROUTES,
    *artifacts.ROUTES,
    *progress.ROUTES,
    *pausing.ROUTES,
    *explain.ROUTES,
    *replay.ROUTES,
    *agents.ROUTES,
    *hosts.ROUTES,
    *endpoints.ROUTES,
    *models.ROUTES,
    *projects.ROUTES,
    *repositories.ROUTES,
    *pulls.ROUTES,
    *budgets.ROUTES,
    *gate.ROUTES,
    *metrics.ROUTES,
    *alerts.ROUTES,
    *health.ROUTES,
    *authority.ROUTES,
    *tokens.ROUTES,
    *joining.ROUTES,
    *install.ROUTES,
    *keystore.ROUTES,
    *rate_limits.ROUTES,
    *log_levels.ROUTES,
    *backups.ROUTES,
    *audit.ROUTES,
    *login.ROUTES,
    *docs.ROUTES,
    *dashboard.ROUTES,
)
WITHOUT_TOKEN: Final = frozenset(
    {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", CA_PATH),
        ("POST", "/session"),
        ("GET", "/install.sh"),
        ("GET", "/install/manifest.json"),
        ("GET", "/install/{name}"),
        ("POST", "/api/v1/join"),
        ("POST", "/api/v1/join-requests"),
    }
)
"""Everything that may be asked without a token; a test holds the table to it."""


def mesh(accept: Handler) -> Route:
    """The one route whose handler is not of this package: ``accept`` is the gateway's."""
    return Route("GET", "/mesh", accept, "mesh:join", "Link of a sidecar (WebSocket)", is_listed=False)
