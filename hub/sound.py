"""What of a hub's settings cannot be: every problem, each with the way out.

The caller is ``hub/settings.py``, after it has put the values together.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from hub.options import BUCKET, DEFAULT_PORT, Settings
from protocol import telemetry
from protocol.errors import Problem
from protocol.limits import LEAST_CHECK_S, MOST_CHECK_S
from protocol.model import Strategy
from protocol.prices import read_price

_S3_SERVER: Final = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")
_NAME_OF_HOST: Final = re.compile(r"[A-Za-z0-9:]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9:])?")
POSTGRES_SCHEMES: Final = frozenset({"postgresql", "postgres"})
LEAST_MEMORY_MB: Final = 128
"""An idle hub takes half of it."""
MOST_DAYS: Final = 36_500.0
LEAST_EVENTS: Final = 1_000
YEAR_S: Final = 366 * 86_400.0
MAX_LEASE_S: Final = 86_400.0
"""Beyond a day nobody would notice that a machine is gone."""


def problems_of(settings: Settings) -> Iterator[Problem]:
    """Everything that is wrong."""
    yield from _door(settings)
    yield from _numbers(settings)
    yield from _choosing(settings)
    yield from _keeping(settings)
    if settings.url and not settings.url.startswith(("http://", "https://")):
        yield Problem("url", f"not an address like https://hub.example.org:7420: {settings.url[:60]!r}")
    yield from _store(settings.store)
    for root in settings.project_roots:
        if not Path(root).is_absolute():
            yield Problem("project_roots", f"{root[:100]!r} is no absolute path")
    if settings.git_ca_file and not Path(settings.git_ca_file).is_file():
        yield Problem("git_ca_file", f"there is no file {settings.git_ca_file[:100]!r}")
    if settings.log not in {"auto", "json", "pretty"}:
        yield Problem("log", f"{settings.log!r}; one of auto, json, pretty")
    if settings.log_level not in {"debug", "info", "warning", "error"}:
        yield Problem("log_level", f"{settings.log_level!r}; one of debug, info, warning, error")
    yield from _traces(settings)
    for name in ("chain_trivial", "chain_standard", "chain_complex"):
        if Strategy.TRIVIAL in getattr(settings, name) or not getattr(settings, name):
            yield Problem(name, "one or both of local_llm, cloud_llm, in order of preference")


def _traces(settings: Settings) -> Iterator[Problem]:
    if problem := telemetry.problem_of(settings.traces):
        yield Problem("traces", problem)
    if not 0 <= settings.traces_share <= 1:
        yield Problem("traces_share", f"{settings.traces_share:g}; from 0 to 1")


def _door(settings: Settings) -> Iterator[Problem]:
    host, _, port = settings.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - the largest port
        yield Problem("listen", f"not host:port, like 127.0.0.1:{DEFAULT_PORT}: {settings.listen!r}")
    elif settings.plaintext and not settings.is_local and not settings.trusted_proxies:
        yield Problem(
            "plaintext",
            f"{host} can be reached from other machines: leave --plaintext out, and the hub speaks TLS with a "
            "certificate of its own; or name the proxy that speaks it, with --trusted-proxy ADDRESS",
        )
    if settings.plaintext and (settings.tls or settings.tls_cert):
        yield Problem("plaintext", "it says no TLS, and tls or tls_cert says TLS; leave one of the two out")
    for proxy in settings.trusted_proxies:
        yield from _proxy(proxy)
    for name in settings.tls_names:
        if not _NAME_OF_HOST.fullmatch(name):
            yield Problem("tls_names", f"not a name or an address, like hub.example.org: {name[:100]!r}")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        yield Problem("tls_key" if settings.tls_cert else "tls_cert", "certificate and key go together")


def _proxy(text: str) -> Iterator[Problem]:
    try:
        network = ip_network(text)
    except ValueError as exc:
        yield Problem("trusted_proxies", f"not an address or a network like 10.1.0.0/16: {text[:60]!r} ({exc})")
        return
    if network.prefixlen == 0:
        yield Problem("trusted_proxies", f"{text} is everybody; name the proxies")


def _store(url: str) -> Iterator[Problem]:
    if not url or url.startswith("sqlite:"):
        return
    shape = "leave it out for SQLite, or write it like postgresql://user:password@host:5432/database"
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", [""])[0]
        ports = [host.rpartition(":")[2] for host in hosts.split(",") if ":" in host.rpartition("]")[2]]
    except ValueError:
        yield Problem("store", f"not an address; {shape}")
        return
    if parts.scheme not in POSTGRES_SCHEMES:
        yield Problem("store", f"no such store: {parts.scheme[:20] or masked(url)[:60]!r}; {shape}")
    elif not hosts or not parts.path.strip("/"):
        yield Problem("store", f"it names no {'database' if hosts else 'host'}: {masked(url)[:60]!r}; {shape}")
    elif any(not port.isdecimal() or not 0 < int(port) < 65_536 for port in ports):  # noqa: PLR2004 - the ports there are
        yield Problem("store", f"a port is a number from 1 to 65535; {shape}")


def masked(url: str) -> str:
    """The address of a store for people to read, without its password."""
    # Up to the last @: a password that somebody forgot to escape may hold anything.
    without_secret = re.sub(r"(?<=://)([^/?#:@]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&]\w*password=)[^&#]*", r"\1***", without_secret)


def _numbers(settings: Settings) -> Iterator[Problem]:
    heartbeat_s, lease_s = settings.heartbeat_s, settings.lease_s
    if not 0.05 <= heartbeat_s <= 60:  # noqa: PLR2004 - a fast test and a slow link
        yield Problem("heartbeat_s", f"{heartbeat_s:g}; from 0.05 to 60 seconds")
    if not LEAST_CHECK_S <= settings.check_s <= MOST_CHECK_S:
        yield Problem("check_s", f"{settings.check_s:g}; from {LEAST_CHECK_S:g} to {MOST_CHECK_S:g} seconds")
    if not 3 * heartbeat_s <= lease_s <= MAX_LEASE_S:
        yield Problem("lease_s", f"{lease_s:g}; from three heartbeats ({3 * heartbeat_s:g} s) to {MAX_LEASE_S:g} s")
    if not 1 <= settings.hub_lease_s <= 60:  # noqa: PLR2004 - a commit of a busy database, and a patient person
        yield Problem("hub_lease_s", f"{settings.hub_lease_s:g}; from 1 to 60 seconds")
    if not 1 <= settings.window <= 1_000_000:  # noqa: PLR2004 - about 100 MB
        yield Problem("window", f"{settings.window}; from 1 to 1000000")
    if settings.disk_reserve_mb < 0:
        yield Problem("disk_reserve_mb", f"{settings.disk_reserve_mb}; 0 or more MiB")
    if settings.memory_limit_mb and settings.memory_limit_mb < LEAST_MEMORY_MB:
        yield Problem("memory_limit_mb", f"{settings.memory_limit_mb}; 0 or at least {LEAST_MEMORY_MB} MiB")


def _choosing(settings: Settings) -> Iterator[Problem]:
    if not 0 <= settings.explore_share <= 1:
        yield Problem("explore_share", f"{settings.explore_share:g}; a share from 0 to 1")
    for name in ("explore_usd_a_day", "seconds_per_usd", "attempt_usd", "gpu_hour_usd", "kwh_usd"):
        if not 0 <= (value := getattr(settings, name)) <= 10**6:
            yield Problem(name, f"{value:g}; from 0 to 1000000")
    if not 0 <= settings.workspace_mb <= 10**9:
        yield Problem("workspace_mb", f"{settings.workspace_mb}; from 0 to 1000000000")
    for text in settings.prices:
        try:
            read_price(text)
        except ValueError as exc:
            yield Problem("prices", str(exc))
    if not 1 <= settings.attempt_tokens <= 10**9:
        yield Problem("attempt_tokens", f"{settings.attempt_tokens}; from 1 to 1000000000")
    for name in ("wait_trivial_s", "wait_standard_s", "wait_complex_s"):
        if not 0 <= (value := getattr(settings, name)) <= YEAR_S:
            yield Problem(name, f"{value:g}; from 0 (for ever) to a year in seconds")


def _keeping(settings: Settings) -> Iterator[Problem]:
    if settings.read_only and settings.store.partition(":")[0] in POSTGRES_SCHEMES:
        yield Problem("read_only", "a store in PostgreSQL is looked at with psql")
    if settings.backup_every_s and not 60 <= settings.backup_every_s <= YEAR_S:  # noqa: PLR2004 - a minute
        yield Problem("backup_every_s", f"{settings.backup_every_s:g}; from 60 seconds to a year, or 0 for none")
    for name in ("tasks", "dead", "logs", "keys", "events", "agents", "audit"):
        days = getattr(settings, f"keep_{name}_days")
        if not 0 <= days <= MOST_DAYS:
            yield Problem(f"keep_{name}_days", f"{days:g}; from 0 (for ever) to {MOST_DAYS:g} days")
    if settings.keep_tasks_days and not 0 < settings.keep_keys_days <= settings.keep_tasks_days:
        longest = f"at most as long as tasks ({settings.keep_tasks_days:g} days)"
        yield Problem("keep_keys_days", f"{settings.keep_keys_days:g}; {longest}, for a key has to find its tasks")
    if settings.keep_events and settings.keep_events < LEAST_EVENTS:
        yield Problem("keep_events", f"{settings.keep_events}; at least {LEAST_EVENTS}, or 0 for any number")
    for name in ("artifact_max_mb", "artifacts_of_task_mb", "artifacts_mb"):
        if getattr(settings, name) < (0 if name == "artifacts_mb" else 1):
            yield Problem(name, f"{getattr(settings, name)}; {0 if name == 'artifacts_mb' else 1} or more MiB")
    yield from _artifact_store(settings)
    if not 1 <= settings.backup_keep <= 1_000:  # noqa: PLR2004 - a folder that people can still read
        yield Problem("backup_keep", f"{settings.backup_keep}; from 1 to 1000")


def _artifact_store(settings: Settings) -> Iterator[Problem]:
    if settings.artifact_store and not BUCKET.fullmatch(settings.artifact_store):
        shape = "leave it out for the data directory, or write it like s3://bucket/prefix"
        yield Problem("artifact_store", f"not a bucket: {masked(settings.artifact_store)[:100]!r}; {shape}")
    if settings.s3_endpoint and not _S3_SERVER.fullmatch(settings.s3_endpoint):
        yield Problem("s3_endpoint", "not an address like https://s3.example.org:9000, without a path and without keys")
    if not re.fullmatch(r"[a-z0-9-]{1,64}", settings.s3_region):
        yield Problem("s3_region", f"not a region like us-east-1: {settings.s3_region[:60]!r}")
