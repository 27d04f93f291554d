"""The sidecar's settings, and the only place that reads its environment, its settings file and its token file.

Flags go before ``AGENTCOM_*``, that before the TOML file, that before the defaults (``protocol/config.py``). Endpoints
that nobody lists are found by the variables that their own tools use (``OLLAMA_HOST`` with ``OLLAMA_API_KEY``,
``ANTHROPIC_API_KEY``, ``GEMINI_API_KEY``, ``OPENAI_API_KEY``, ``OPENAI_BASE_URL``). Refuses with everything that is
wrong at once. Caller: ``sidecar/app.py``.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from protocol import telemetry
from protocol.config import ENV_PREFIX, merge, secrets_in
from protocol.errors import BadInput, Problem
from protocol.ids import LABEL, NAME
from protocol.limits import CHECK_S, LEAST_CHECK_S, MOST_CHECK_S
from protocol.pinning import CA_HASH, Trust
from sidecar.core.egress import is_name
from sidecar.core.model_calls import KINDS
from sidecar.core.programs import AgentProgram
from sidecar.llm.config import EndpointSettings
from sidecar.places import endpoints_of
from sidecar.plugins import PluginSettings
from sidecar.tables import read_tables

DEFAULT_HUB: Final = "http://127.0.0.1:7420"
MAX_SLOTS: Final = 1_024
LEAST_WORK_MB: Final = 64
LEAST_PROCESSES: Final = 16
LEAST_CPUS: Final = 0.05
"""Less than these and not even a shell would get anywhere."""
_SIMILAR: Final = 0.8
_SECRETS: Final = frozenset({"token"})
_TABLES: Final = frozenset(ENV_PREFIX + name for name in ("ENDPOINTS", "AGENTS", "PLUGINS"))
"""What only a file can tell."""
_LOGS: Final = ("auto", "json", "pretty")
_SANDBOXES: Final = ("auto", "bubblewrap", "landlock", "seatbelt", "unsafe")
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that may differ between sidecars.

    Attributes:
        hub: the hub's HTTP address; several, separated by commas (or a list in the settings file), if hubs share one
            database: the next one is dialled when one is lost.
        token, token_file: who may join; the file wins nothing over the token, exactly one of them is needed.
        ca_file, ca_hash: the authority of the hub, or its SHA-256, if no public one has signed its certificate; the one
            that shows another is told nothing.
        state_dir: journal, name, repositories and workspaces (mode 0700).
        name: what the agent is called; empty: the name kept in ``state_dir``, made up at the first start.
        host: what this machine is called, the same for all sidecars on it; empty: its host name.
        slots: attempts at a time.
        capabilities: what tasks may need, beside what is found by itself.
        endpoints: LLM endpoints, each a table as in :class:`sidecar.llm.config.EndpointSettings`; an empty list: none;
            left out: those that the environment names, and the servers at their usual places on this machine (Ollama,
            llama.cpp, LM Studio, vLLM).
        agents: coding agents that speak the Agent Client Protocol, each a table as in
            :class:`sidecar.core.programs.AgentProgram`; an empty list: none; left out: those that are known and found
            on the search path.
        plugins: programs that checks may ask for by name, each a table as in :class:`sidecar.plugins.PluginSettings`.
        judges: models that checks of the type ``judge`` ask, each as ``ENDPOINT/MODEL``; the first one counts that has
            not done the work.
        sandbox: how the programs of work are confined: ``auto`` (the best that works here), ``bubblewrap``,
            ``landlock``, ``seatbelt`` (macOS), or ``unsafe``: not at all.
        sandbox_read, sandbox_write: directories of this host that work may read, or change, besides its own.
        sandbox_network: whether work reaches the network of this host.
        sandbox_domains: names that work reaches through the sidecar's proxy: ``example.org``, ``*.example.org``, or
            either with ``:PORT``; nobody else then. Needs bubblewrap.
        sandbox_endpoints: ids of LLM endpoints (Anthropic's kind or OpenAI's) that work may ask through the sidecar,
            which adds the key. Needs bubblewrap.
        sandbox_memory_mb: MiB of memory for all programs of an attempt; 0 is four fifths of what the machine has.
        sandbox_processes: processes and threads of an attempt.
        sandbox_disk_mb: MiB of disk that the files of an attempt may take; 0 is a quarter of what the disk holds.
        salvage_days: how long a cache keeps commits of work that are nowhere else; 0: for ever.
        cache_mb: what the caches of repositories may take together, in MiB; 0: any amount.
        sandbox_cpus: processors for an attempt, such as 1.5; 0 is all there are.
        check_s: seconds between two looks at them.
        drain_s: how long an orderly end waits for running work.
        log: ``auto`` (readable on a terminal, else JSON), ``json`` or ``pretty``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        traces: where spans of the work go, if its hub wants any told: the address of a collector that speaks OTLP over
            HTTP, like ``http://127.0.0.1:4318``; empty: nowhere. Needs ``agentcom[otel]``.
    """

    hub: str = DEFAULT_HUB
    token: str = ""
    token_file: str = ""
    ca_file: str = ""
    ca_hash: str = ""
    state_dir: str = ""
    name: str = ""
    host: str = ""
    slots: int = 1
    capabilities: tuple[str, ...] = ()
    endpoints: tuple[EndpointSettings, ...] | None = None
    agents: tuple[AgentProgram, ...] | None = None
    plugins: tuple[PluginSettings, ...] = ()
    judges: tuple[str, ...] = ()
    sandbox: str = "auto"
    sandbox_read: tuple[str, ...] = ()
    sandbox_write: tuple[str, ...] = ()
    sandbox_network: bool = False
    sandbox_domains: tuple[str, ...] = ()
    sandbox_endpoints: tuple[str, ...] = ()
    sandbox_memory_mb: int = 0
    sandbox_processes: int = 4_096
    sandbox_disk_mb: int = 0
    cache_mb: int = 20_480
    salvage_days: float = 30.0
    sandbox_cpus: float = 0.0
    check_s: float = CHECK_S
    drain_s: float = 300.0
    log: str = "auto"
    log_level: str = "info"
    traces: str = ""

    @property
    def hubs(self) -> tuple[str, ...]:
        """The addresses, in order of preference."""
        return tuple(part.rstrip("/") for each in self.hub.split(",") if (part := each.strip()))

    @property
    def folder(self) -> Path:
        """The state directory."""
        return Path(self.state_dir)

    def trust(self) -> Trust:
        """Whom to take for the hub.

        Raises:
            BadInput: what ``ca_file`` holds cannot be used.
            OSError, UnicodeDecodeError: it cannot be read.
        """
        return Trust(Path(self.ca_file).read_text(encoding="ascii") if self.ca_file else "", self.ca_hash)

    def read_token(self) -> str:
        """The token, read afresh from its file, so that a new one counts without a restart.

        Raises:
            OSError: the file cannot be read.
        """
        return self.token or Path(self.token_file).read_text(encoding="utf-8").strip()


def secrets_of(settings: Settings, env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What nothing that leaves this machine may hold: our token, the keys of endpoints, secrets in the environment.

    Args:
        settings: those of this sidecar.
        env: the environment; the process's own if left out.
    """
    env = os.environ if env is None else env
    found = [endpoint.api_key for endpoint in settings.endpoints or ()]
    found += secrets_in(env)
    try:
        found.append(settings.read_token())
    except OSError:
        found.append(settings.token)  # it is read again whenever it is shown, and told by its shape
    return tuple(dict.fromkeys(secret for secret in found if secret))


class Setting(Struct, frozen=True):
    """One setting as it counts: its value as text (secrets masked) and where it came from."""

    name: str
    value: str
    origin: str


def load(
    flags: Mapping[str, object], env: Mapping[str, str] | None = None, file: str | None = None
) -> tuple[Settings, dict[str, str]]:
    """The settings, and where each came from.

    Args:
        flags: by field name; ``None`` is not given.
        env: the environment; the process's own if left out.
        file: a TOML file with the fields as keys, endpoints as ``[[endpoints]]`` tables.
    Raises:
        BadInput: anything is wrong; all of it is listed.
    """
    env = os.environ if env is None else env
    table = dict(_read_toml(file))
    problems = _look_alikes(env)
    if isinstance(listed := table.get("hub"), list) and all(isinstance(each, str) for each in listed):
        table["hub"] = ",".join(listed)
    if isinstance(given := flags.get("hub"), tuple):
        flags = {**flags, "hub": ",".join(given) or None}
    endpoints, endpoint_origin = None, "default"
    if (listed := table.pop("endpoints", None)) is not None:
        endpoints = read_tables(listed, EndpointSettings, "endpoints", "id", problems)
        endpoint_origin = file or "settings file"
    else:
        endpoints = tuple(endpoints_of(env, problems))
    agents, agent_origin = None, "default"
    if (listed := table.pop("agents", None)) is not None:
        agents = read_tables(listed, AgentProgram, "agents", "name", problems)
        agent_origin = file or "settings file"
    plugins = read_tables(table.pop("plugins", []), PluginSettings, "plugins", "name", problems)
    plain = {key: value for key, value in env.items() if key not in _TABLES}
    settings, origins = Settings(), dict[str, str]()
    try:
        tables = dict.fromkeys(("endpoints", "agents", "plugins"))
        settings, origins = merge(Settings, flags={**flags, **tables}, env=plain, file=table, file_name=file or "")
    except BadInput as exc:
        problems += exc.problems
    else:
        changes: dict[str, Any] = {"endpoints": endpoints, "agents": agents, "plugins": plugins}
        changes["hub"] = ",".join(settings.hubs)
        folder = settings.state_dir or default_state_dir(env)
        changes["state_dir"] = str(Path(folder).expanduser().absolute())
        for name in ("token_file", "ca_file"):
            if given := getattr(settings, name):
                changes[name] = str(Path(given).expanduser().absolute())
        settings = msgspec.structs.replace(settings, **changes)
        problems += _problems(settings)
    if problems:
        raise BadInput(problems, "settings")
    plugin_origin = file or "settings file" if plugins else "default"
    return settings, origins | {"endpoints": endpoint_origin, "agents": agent_origin, "plugins": plugin_origin}


def effective(settings: Settings, origins: Mapping[str, str]) -> tuple[Setting, ...]:
    """What counts and where it came from, for ``--check-config``; no secret among it."""
    return tuple(
        Setting(name, _shown(name, getattr(settings, name)), origins.get(name, "default"))
        for name in Settings.__struct_fields__
    )


def _shown(name: str, value: object) -> str:
    if name in _SECRETS:
        return "***" if value else ""
    if isinstance(value, tuple):
        return ", ".join(_shown_item(item) for item in value)
    return str(value)


def _shown_item(item: object) -> str:
    if isinstance(item, AgentProgram | PluginSettings):
        return f"{item.name} ({' '.join(item.command)})"
    if not isinstance(item, EndpointSettings):
        return str(item)
    key = ", key ***" if item.api_key else ""
    guess = ", if there is one" if item.guessed else ""
    return f"{item.id} ({item.kind.value} at {item.url}{key}{guess})"


def default_state_dir(env: Mapping[str, str]) -> str:
    """Where a sidecar keeps its state if nobody says otherwise (XDG base directories)."""
    base = env.get("XDG_STATE_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "state")
    return str(Path(base) / "agentcom" / "sidecar")


# --- problems ---------------------------------------------------------------------------------------------------------


_OF_OTHERS: Final = (
    *("DATA_DIR", "LISTEN", "STORE", "WINDOW", "LEASE_S", "HEARTBEAT_S", "TASK", "URL", "TLS", "TLS_KEY", "TLS_NAMES"),
    *("GIT_CA_FILE", "KEY_FILE", "ORIGINS", "PRICES", "S3_ENDPOINT", "TRACES_SHARE"),
)
"""Variables of the hub and of attempts that look like ours: ``agentcom up`` gives one environment to both programs."""


def _look_alikes(env: Mapping[str, str]) -> list[Problem]:
    """Variables that were probably meant for us.

    The prefix is shared with the hub, the client and the marks of attempts, so a name that is unknown here is a mistake
    only if it looks like one of ours.
    """
    ours = {ENV_PREFIX + name.upper() for name in Settings.__struct_fields__}
    others = {ENV_PREFIX + name for name in _OF_OTHERS}
    problems = []
    for name in env:
        if name.startswith(ENV_PREFIX) and name not in ours | others:
            meant = difflib.get_close_matches(name, ours, n=1, cutoff=_SIMILAR)
            problems += [Problem(name, f"unknown variable; did you mean {meant[0]}?")] if meant else []
    return problems


def _problems(settings: Settings) -> Iterator[Problem]:
    if not settings.hubs:
        yield Problem("hub", f"no address; one like {DEFAULT_HUB} is needed")
    for hub in settings.hubs:
        yield from _hub_problem(hub)
    yield from _token_problem(settings)
    yield from _trust_problem(settings)
    yield from _name_problems(settings)
    if not 1 <= settings.slots <= MAX_SLOTS:
        yield Problem("slots", f"{settings.slots}; from 1 to {MAX_SLOTS}")
    for number, capability in enumerate(settings.capabilities):
        if not LABEL.fullmatch(capability):
            yield Problem(f"capabilities[{number}]", f"{capability[:70]!r} is no label like gpu or os:linux")
    yield from (
        Problem(f"judges[{number}]", f"{judge[:70]!r} is no ENDPOINT/MODEL")
        for number, judge in enumerate(settings.judges)
        if not all(judge.partition("/")[::2])
    )
    if not LEAST_CHECK_S <= settings.check_s <= MOST_CHECK_S:
        yield Problem("check_s", f"{settings.check_s:g}; from {LEAST_CHECK_S:g} to {MOST_CHECK_S:g} seconds")
    if not settings.drain_s >= 0:
        yield Problem("drain_s", f"{settings.drain_s:g}; 0 or more seconds")
    yield from _cache_problems(settings)
    yield from _sandbox_problems(settings)
    yield from _choice_problem("log", settings.log, _LOGS)
    yield from _choice_problem("log_level", settings.log_level, _LOG_LEVELS)
    if problem := telemetry.problem_of(settings.traces):
        yield Problem("traces", problem)


def _cache_problems(settings: Settings) -> Iterator[Problem]:
    if not settings.salvage_days >= 0:
        yield Problem("salvage_days", f"{settings.salvage_days:g}; 0 or more days")
    if settings.cache_mb < 0:
        yield Problem("cache_mb", f"{settings.cache_mb}; 0 or more MiB")


def _name_problems(settings: Settings) -> Iterator[Problem]:
    for field, name in (("name", settings.name), ("host", settings.host)):
        if name and not NAME.fullmatch(name):
            yield Problem(field, f"{name[:70]!r} is no name: letters, digits and '._- ', at most 64, no sign first")


def _hub_problem(hub: str) -> Iterator[Problem]:
    try:
        parts = urlsplit(hub)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        yield Problem("hub", f"{hub[:100]!r} is no address")
        return
    if not usable:
        yield Problem("hub", f"{hub[:100]!r} is no http or https address like {DEFAULT_HUB}")
    elif parts.username or parts.password:
        yield Problem("hub", "no user or password in the address; the token says who we are")


def _token_problem(settings: Settings) -> Iterator[Problem]:
    file = settings.token_file
    if settings.token and file:
        yield Problem("token_file", "give a token or a file that holds one, not both")
    elif not settings.token and not file:
        yield Problem("token_file", "a token is needed: --token-file FILE; a hub writes DIR/agent.token when it starts")
    elif file and not Path(file).is_file():
        yield Problem("token_file", f"there is no file {file}")


def _trust_problem(settings: Settings) -> Iterator[Problem]:
    if settings.ca_hash and not CA_HASH.fullmatch(settings.ca_hash.lower()):
        yield Problem("ca_hash", "64 hexadecimal digits, as 'agentcom fingerprint' prints them")
        return
    try:
        settings.trust()
    except BadInput as exc:
        yield from exc.problems
    except (OSError, UnicodeDecodeError) as exc:
        yield Problem("ca_file", f"cannot read {settings.ca_file}: {getattr(exc, 'strerror', None) or exc}")


def _sandbox_problems(settings: Settings) -> Iterator[Problem]:
    yield from _choice_problem("sandbox", settings.sandbox, _SANDBOXES)
    for name in ("sandbox_read", "sandbox_write"):
        for folder in getattr(settings, name):
            if not Path(folder).is_absolute() or not Path(folder).is_dir():
                yield Problem(name, f"{folder[:100]!r} is no directory of this host, given from the root")
    if settings.sandbox_network and settings.sandbox_domains:
        yield Problem("sandbox_domains", "sandbox_network gives work all of the network; set one of them")
    for name in settings.sandbox_domains:
        if not is_name(name):
            yield Problem(
                "sandbox_domains", f"{name[:100]!r} is no name like example.org, *.example.org or example.org:8443"
            )
    yield from _opened_problems(settings)
    yield from _limit_problems(settings)


def _limit_problems(settings: Settings) -> Iterator[Problem]:
    for name in ("sandbox_memory_mb", "sandbox_disk_mb"):
        if 0 != (wanted_mb := getattr(settings, name)) < LEAST_WORK_MB:
            yield Problem(name, f"{wanted_mb}; 0 or at least {LEAST_WORK_MB} MiB")
    if settings.sandbox_processes < LEAST_PROCESSES:
        yield Problem("sandbox_processes", f"{settings.sandbox_processes}; at least {LEAST_PROCESSES}")
    if not (settings.sandbox_cpus == 0 or settings.sandbox_cpus >= LEAST_CPUS):
        yield Problem("sandbox_cpus", f"{settings.sandbox_cpus:g}; 0 or at least {LEAST_CPUS:g}")


def _opened_problems(settings: Settings) -> Iterator[Problem]:
    if settings.sandbox_network and settings.sandbox_endpoints:
        yield Problem("sandbox_endpoints", "work has no network of its own with sandbox_network; set one of them")
    can = [entry.id for entry in settings.endpoints or () if entry.kind in KINDS]
    for name in settings.sandbox_endpoints:
        if name not in can:
            there = ", ".join(can) or "none"
            yield Problem("sandbox_endpoints", f"{name[:100]!r} is no endpoint here that work can ask; those: {there}")


def _choice_problem(name: str, value: str, known: Sequence[str]) -> Iterator[Problem]:
    if value not in known:
        yield Problem(name, f"{value!r}; one of {', '.join(known)}")


def _read_toml(file: str | None) -> dict[str, Any]:
    if not file:
        return {}
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput([Problem("config", f"cannot read {file}: {exc}")], "settings") from exc
    except tomllib.TOMLDecodeError as exc:
        raise BadInput([Problem("config", f"{file} is not TOML: {exc}")], "settings") from exc
