"""What the HTTP side is given, and the keys under which its parts find it.

``hub/app.py`` makes the services and hands them to :func:`hub.web.application.build`; nothing in here is made twice.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final, Protocol

from aiohttp import web

from hub.core.access import Principal
from hub.services.access import Access
from hub.services.alerting import Alerting
from hub.services.artifacts import Artifacts
from hub.services.audit import Audit
from hub.services.backups import Backups
from hub.services.budgets import Budgets
from hub.services.bulk import Bulk
from hub.services.feed import Feed
from hub.services.gate import Gate
from hub.services.hosts import Hosts
from hub.services.insight import Insight
from hub.services.intake import Intake
from hub.services.joining import Joining
from hub.services.keystore import Keystore
from hub.services.log_levels import LogLevels
from hub.services.notifying import Notifying
from hub.services.pausing import Pausing
from hub.services.presence import Presence
from hub.services.progress import Progress
from hub.services.projects import Projects
from hub.services.pulls import Pulls
from hub.services.push_key import PushKey
from hub.services.rate_limits import RateLimits
from hub.services.readiness import Readiness
from hub.services.reclaiming import Reclaiming
from hub.services.recording import Recording
from hub.services.registry import Registry
from hub.services.replaying import Replaying
from hub.services.repositories import Repositories
from hub.services.tracing import Tracing
from hub.services.upgrading import Upgrading
from hub.web.routing import Route
from hub.web.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases behind the routes, one a field."""

    intake: Intake
    insight: Insight
    presence: Presence
    hosts: Hosts
    registry: Registry
    access: Access
    feed: Feed
    backups: Backups
    artifacts: Artifacts
    progress: Progress
    pausing: Pausing
    reclaiming: Reclaiming
    projects: Projects
    repositories: Repositories
    budgets: Budgets
    gate: Gate
    pulls: Pulls
    bulk: Bulk
    recording: Recording
    alerting: Alerting
    notifying: Notifying
    audit: Audit
    joining: Joining
    rate_limits: RateLimits
    replaying: Replaying
    readiness: Readiness
    upgrading: Upgrading
    keystore: Keystore
    log_levels: LogLevels
    push_key: PushKey
    tracing: Tracing | None = None


@dataclass(frozen=True, slots=True)
class WebSettings:
    """What may differ between hubs.

    Attributes:
        proxies: who is believed about whom it asks for (``X-Forwarded-For`` and so on).
        ca_pem: the authority by which others know this hub; empty: none.
        origins: how browsers may name this hub beside loopback names and addresses: ``https://mesh.example.org``.
        stall_s: how long a reader of a stream may take nothing before it is cut off.
        keepalive_s: longest silence on a stream; also how soon a revoked token ends it.
        max_streams: streams open at once.
        max_streams_of_token, max_streams_of_address: those of one token, and of one address.
        version: release of the hub, as the OpenAPI document tells it.
        install_dir: where wheels are packed for machines without AgentCom; empty: there are none.
        url: how other machines reach this hub, if its settings say so; else empty.
        read_only: if the hub only shows what its store holds, the commands that mend that; else empty.
    """

    origins: frozenset[str] = frozenset()
    stall_s: float = 10.0
    keepalive_s: float = 5.0
    max_streams: int = 512
    max_streams_of_token: int = 128
    max_streams_of_address: int = 256
    version: str = "0"
    url: str = ""
    install_dir: str = ""
    read_only: tuple[str, ...] = ()
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    ca_pem: Callable[[], str] = str


class MetricsPort(Protocol):
    """What Prometheus sees of the hub."""

    def written(self, *, is_open: bool) -> Sequence[bytes]:
        """All of it as text, piece by piece; ``is_open``: in OpenMetrics, without its end."""
        ...


@dataclass(slots=True)
class Live:
    """What belongs to one running application: its route table and its open streams.

    Attributes:
        streams: each with the token and the address it is for.
        body_bytes: length of the bodies that are being read.
        refused: requests by the limit that they have hit.
        places: the routes by method and path.
    """

    routes: tuple[Route, ...]
    metrics: MetricsPort
    streams: dict[asyncio.Task[Any], tuple[str, str]] = field(default_factory=dict)
    body_bytes: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    places: dict[tuple[str, str], Route] = field(init=False)

    def __post_init__(self) -> None:
        self.places = {(route.method, route.path): route for route in self.routes}


SERVICES: Final = web.AppKey("services", Services)
SETTINGS: Final = web.AppKey("settings", WebSettings)
LIVE: Final = web.AppKey("live", Live)
SESSIONS: Final = web.AppKey("sessions", Sessions)
PRINCIPAL: Final = web.RequestKey("principal", Principal)
ROUTE: Final = web.RequestKey("route", Route)
REQUEST_ID: Final = web.RequestKey("request_id", str)
IS_STREAMING: Final = web.RequestKey("is_streaming", bool)
