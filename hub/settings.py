"""The hub's settings, and the only place that reads its environment and its settings file."""

import configparser
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from protocol.choice import SECONDS_PER_USD, CleanRoom, Escalation, LearningMode
from protocol.config import merge
from protocol.errors import BadInput, Problem
from protocol.limits import (
    ARTIFACT_BYTES,
    ARTIFACTS_BYTES,
    CHECK_S,
    HEARTBEAT_S,
    HUB_LEASE_S,
    LEASE_S,
    LEAST_CHECK_S,
    MOST_CHECK_S,
)
from protocol.model import Strategy, Tier
from protocol.prices import read_price

DEFAULT_PORT: Final = 7420
_BUCKET: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9._-]+)*)/?")
_S3_SERVER: Final = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")
POSTGRES_SCHEMES: Final = frozenset({"postgresql", "postgres"})
LEAST_MEMORY_MB: Final = 128
"""An idle hub takes half of it."""
MOST_DAYS: Final = 36_500.0
LEAST_EVENTS: Final = 1_000
YEAR_S: Final = 366 * 86_400.0
MAX_LEASE_S: Final = 86_400.0
"""Beyond a day nobody would notice that a machine is gone."""


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that may differ between hubs.

    Attributes:
        data_dir: where the store and the first tokens lie (mode 0700).
        listen: ``host:port``; port 0 picks a free one.
        url: how others reach this hub, if not by the address it listens on (a name in a certificate, a proxy).
        store: empty for SQLite in ``data_dir``, or ``postgresql://user:password@host:port/database``.
        tls_cert, tls_key: PEM files; with them the hub speaks https and wss.
        plaintext: allow an address that is not loopback without TLS: tokens then cross the network in the clear.
        hub_lease_s: how long other hubs of the same database wait for a sign of life of this one, then take its work.
        heartbeat_s, lease_s: how often sidecars report, and how long an attempt stays theirs without a report.
        check_s: seconds between two looks at the LLM endpoints that people have added.
        window: queued tasks of one class that are kept in memory.
        disk_reserve_mb: free space in MiB that is kept for the results of running work; a small disk keeps an eighth.
        memory_limit_mb: above this no new tasks are taken in; 0 is half of what the machine has.
        chain_trivial, chain_standard, chain_complex: strategies in order of preference for work that needs a model.
        wait_trivial_s, wait_standard_s, wait_complex_s: how long work may wait for the first strategy of its chain
            before the next one is used; 0: as long as anybody who is online offers the first one.
        escalation: how far tasks may climb whose checks keep failing: ``off``, ``effort``, ``model`` or ``tier``.
        clean_room: whether checks have to pass on another machine, too: ``auto`` (where one can fetch what was pushed),
            ``always`` or ``never``; what a task says itself goes before.
        learning: whether outcomes choose models: ``off``, ``shadow`` (kept and shown, deciding nothing) or ``on``.
        explore_share, explore_usd_a_day: how much of a class of tasks, and money a day, may try little known models.
        workspace_mb: free disk in MB without which a machine gets no work that needs a workspace; 0: any will do.
        seconds_per_usd: how long one would wait to save a dollar, where money and time are weighed.
        attempt_usd, attempt_tokens: what an attempt may use whose task names no limit, where a budget bounds that.
        prices: of models, in dollars for a million tokens, ``MODEL=INPUT/OUTPUT[/CACHED][@DATE]``; before all others.
        gpu_hour_usd, kwh_usd: what an hour of a GPU of ours costs, and energy, for local models; 0: nothing.
        origins: how browsers may name this hub beside loopback names, like ``https://mesh.example.org``.
        read_only: show what the store holds and take nothing in; for a store that is damaged.
        project_roots: directories of this machine beneath which projects may lie; empty: none but its own clones.
        git_ca_file: PEM file of certificates to trust when git speaks with servers; empty: those of the machine.
        backup_every_s: seconds between two backups of the SQLite store; 0: only when somebody asks.
        backup_keep: how many backups stay.
        keep_tasks_days, keep_dead_days: how long tasks stay after their end, and dead letters; 0: for ever.
        keep_logs_days, keep_keys_days: how long the output of finished tasks stays, and idempotency keys; 0: for ever.
        keep_events_days, keep_events: how long events stay, and how many at most; 0: for ever, any number.
        keep_agents_days: how long agents stay that nobody has seen since; 0: for ever.
        artifact_max_mb, artifacts_of_task_mb: how large a file may be that a task keeps, and all files of one attempt.
        artifacts_mb: how much all kept files may take together, in MiB; 0: as much as the disk reserve leaves.
        artifact_store: empty for ``data_dir``, or ``s3://bucket/prefix``, which hubs of one database may share.
        s3_endpoint: the address of the S3 server; empty: that of AWS in ``s3_region``.
        s3_region: which region requests are signed for.
        s3_path_style: name the bucket in the path and not in the host.
        s3_credentials: a file with the keys, as the tools of AWS write it; empty: ``AWS_ACCESS_KEY_ID``,
            ``AWS_SECRET_ACCESS_KEY`` and, if set, ``AWS_SESSION_TOKEN`` in the environment.
        log: ``auto`` (readable on a terminal, else JSON), ``json`` or ``pretty``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
    """

    data_dir: str = ""
    listen: str = f"127.0.0.1:{DEFAULT_PORT}"
    url: str = ""
    store: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    plaintext: bool = False
    heartbeat_s: float = HEARTBEAT_S
    check_s: float = CHECK_S
    lease_s: float = LEASE_S
    hub_lease_s: float = HUB_LEASE_S
    window: int = 1_000
    disk_reserve_mb: int = 256
    memory_limit_mb: int = 0
    chain_trivial: tuple[Strategy, ...] = (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM)
    chain_standard: tuple[Strategy, ...] = (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM)
    chain_complex: tuple[Strategy, ...] = (Strategy.CLOUD_LLM, Strategy.LOCAL_LLM)
    wait_trivial_s: float = 0.0
    wait_standard_s: float = 0.0
    wait_complex_s: float = 0.0
    escalation: Escalation = Escalation.TIER
    clean_room: CleanRoom = CleanRoom.AUTO
    learning: LearningMode = LearningMode.SHADOW
    explore_share: float = 0.05
    explore_usd_a_day: float = 1.0
    workspace_mb: int = 256
    seconds_per_usd: float = SECONDS_PER_USD
    attempt_usd: float = 1.0
    attempt_tokens: int = 200_000
    prices: tuple[str, ...] = ()
    gpu_hour_usd: float = 0.0
    kwh_usd: float = 0.0
    origins: tuple[str, ...] = ()
    read_only: bool = False
    project_roots: tuple[str, ...] = ()
    git_ca_file: str = ""
    backup_every_s: float = 86_400.0
    backup_keep: int = 3
    keep_tasks_days: float = 30.0
    keep_dead_days: float = 0.0
    keep_logs_days: float = 7.0
    keep_keys_days: float = 7.0
    keep_events_days: float = 30.0
    keep_events: int = 2_000_000
    keep_agents_days: float = 30.0
    artifact_max_mb: int = ARTIFACT_BYTES >> 20
    artifacts_of_task_mb: int = ARTIFACTS_BYTES >> 20
    artifacts_mb: int = 0
    artifact_store: str = ""
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"
    s3_path_style: bool = True
    s3_credentials: str = ""
    log: str = "auto"
    log_level: str = "info"

    @property
    def folder(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def bucket(self) -> tuple[str, str]:
        """The address of the bucket that keeps files, and what names in it begin with; empty: there is none."""
        match = _BUCKET.fullmatch(self.artifact_store)
        if match is None:
            return "", ""
        name, prefix = match[1], match[2].strip("/")
        scheme, _, host = (self.s3_endpoint or f"https://s3.{self.s3_region}.amazonaws.com").partition("://")
        url = f"{scheme}://{host}/{name}" if self.s3_path_style else f"{scheme}://{name}.{host}"
        return url, f"{prefix}/" if prefix else ""

    @property
    def chains(self) -> dict[Tier, tuple[Strategy, ...]]:
        """Strategies in order of preference, by tier, for work that needs a model."""
        return {
            Tier.TRIVIAL: self.chain_trivial,
            Tier.STANDARD: self.chain_standard,
            Tier.COMPLEX: self.chain_complex,
        }

    @property
    def patience(self) -> dict[Tier, float]:
        """How long work may wait for the first strategy of its chain, in seconds, by tier; 0: for ever."""
        return {
            Tier.TRIVIAL: self.wait_trivial_s,
            Tier.STANDARD: self.wait_standard_s,
            Tier.COMPLEX: self.wait_complex_s,
        }


def default_data_dir(env: Mapping[str, str]) -> str:
    """Where the hub keeps its data if nobody says otherwise (XDG base directories)."""
    base = env.get("XDG_DATA_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "share")
    return str(Path(base) / "agentcom")


def load(
    flags: Mapping[str, object], env: Mapping[str, str] | None = None, file: str | None = None
) -> tuple[Settings, dict[str, str]]:
    """The settings, and where each came from.

    Args:
        flags: by field name; ``None`` is not given.
        env: the environment; the process's own if left out.
        file: a TOML file with the fields as keys.
    Raises:
        BadInput: anything is wrong; all of it is listed.
    """
    env = os.environ if env is None else env
    settings, origins = merge(Settings, flags=flags, env=env, file=read_toml(file), file_name=file or "")
    if not settings.data_dir:
        settings = _with(settings, data_dir=default_data_dir(env))
    settings = _with(settings, data_dir=str(Path(settings.data_dir).expanduser().absolute()))
    if problems := list(_problems(settings)):
        raise BadInput(problems, "settings")
    return settings, origins


def read_toml(file: str | None) -> dict[str, Any]:
    """The decoded file; empty without one.

    Raises:
        BadInput: it cannot be read or is not TOML.
    """
    if not file:
        return {}
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput([Problem("config", f"cannot read {file}: {exc}")], "settings") from exc
    except tomllib.TOMLDecodeError as exc:
        raise BadInput([Problem("config", f"{file} is not TOML: {exc}")], "settings") from exc


def _with(settings: Settings, **values: Any) -> Settings:
    return Settings(**{name: getattr(settings, name) for name in Settings.__struct_fields__} | values)


def _problems(settings: Settings) -> Iterator[Problem]:
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
    for name in ("chain_trivial", "chain_standard", "chain_complex"):
        if Strategy.TRIVIAL in getattr(settings, name) or not getattr(settings, name):
            yield Problem(name, "one or both of local_llm, cloud_llm, in order of preference")


def _door(settings: Settings) -> Iterator[Problem]:
    host, _, port = settings.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - the largest port
        yield Problem("listen", f"not host:port, like 127.0.0.1:{DEFAULT_PORT}: {settings.listen!r}")
    elif not _is_loopback(host.strip("[]")) and not settings.tls_cert and not settings.plaintext:
        yield Problem(
            "listen",
            f"{host} can be reached from other machines and there is no TLS: give --tls-cert and --tls-key, "
            "or put a TLS proxy or tunnel before a loopback address, or accept it with --plaintext",
        )
    if bool(settings.tls_cert) != bool(settings.tls_key):
        yield Problem("tls_key" if settings.tls_cert else "tls_cert", "certificate and key go together")


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
    for name in ("tasks", "dead", "logs", "keys", "events", "agents"):
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
    if settings.artifact_store and not _BUCKET.fullmatch(settings.artifact_store):
        shape = "leave it out for the data directory, or write it like s3://bucket/prefix"
        yield Problem("artifact_store", f"not a bucket: {masked(settings.artifact_store)[:100]!r}; {shape}")
    if settings.s3_endpoint and not _S3_SERVER.fullmatch(settings.s3_endpoint):
        yield Problem("s3_endpoint", "not an address like https://s3.example.org:9000, without a path and without keys")
    if not re.fullmatch(r"[a-z0-9-]{1,64}", settings.s3_region):
        yield Problem("s3_region", f"not a region like us-east-1: {settings.s3_region[:60]!r}")


def s3_keys(settings: Settings, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The keys of the S3 server: ``access_key``, ``secret_key`` and ``session_token``, which may be empty.

    Raises:
        BadInput: there are none.
    """
    env = os.environ if env is None else env
    names = dict(access_key="aws_access_key_id", secret_key="aws_secret_access_key", session_token="aws_session_token")  # noqa: C408, S106 - names of variables, no secrets
    found: Mapping[str, str] = {name: env.get(name.upper(), "") for name in names.values()}
    if settings.s3_credentials:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(Path(settings.s3_credentials).expanduser().read_text(encoding="utf-8"))
            found = parser["default"]
        except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "no [default] with aws_access_key_id and so on"
            problem = f"cannot read keys in {settings.s3_credentials}: {why}"  # never what stands in it
            raise BadInput([Problem("s3_credentials", problem)], "settings") from None
    keys = {key: found.get(name, "") for key, name in names.items()}
    if not keys["access_key"] or not keys["secret_key"]:
        missing = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file that holds them"
        raise BadInput(
            [Problem("s3_credentials", f"there are no keys for {settings.artifact_store}: {missing}")], "settings"
        )
    return keys


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
