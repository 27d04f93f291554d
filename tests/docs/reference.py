"""The pages of the reference that are written from the code: settings, HTTP, events, messages, errors, metrics."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from msgspec import NODEFAULT

import agentcom.cli
from hub.core.audit import ACTIONS
from hub.options import Settings as HubSettings
from hub.web.problems import status_of
from hub.web.routes import ROUTES, mesh
from hub.web.routing import Route
from protocol.error_base import AgentComError
from protocol.events import EventKind
from protocol.messages import KINDS, Ordered
from sidecar.settings import Settings as SidecarSettings
from tests.docs import source
from tests.docs.permissions import _nobody
from tests.docs.source import REFERENCE, table

_ANEW: Final = "Written from the code by `python -m tests.docs`; a test keeps them equal."
_PROGRAMS: Final = {"hub": HubSettings, "sidecar": SidecarSettings}
_ENV: Final = "AGENTCOM_"
ROOT: Final = REFERENCE.parents[1]
PACKAGES: Final = ("protocol", "hub", "sidecar", "provisioning", "agentcom")


def _head(title: str, text: str) -> str:
    lines = textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
    return f"# {title}\n\n{_ANEW}\n\n{lines}\n"


# --- settings ---------------------------------------------------------------------------------------------------------


def settings() -> str:
    """Everything that may differ between hubs, and between sidecars."""
    head = _head(
        "Settings",
        "Flags go before the environment, that before the file (`--config FILE`, TOML, the names as keys), "
        "that before the defaults. In the environment lists are separated by commas. What is unknown is an "
        "error. `--check-config` shows what counts, and where each value comes from.",
    )
    return "\n".join([head, *(_settings(name, kind) for name, kind in _PROGRAMS.items())])


def _settings(program: str, kind: Any) -> str:  # noqa: ANN401 - a struct
    command = agentcom.cli.root.get_command(click.Context(agentcom.cli.root), program)
    assert command is not None, "it is listed"
    flags = {each.name: each.opts[0] for each in command.params if isinstance(each, click.Option)}
    about = source.attributes(kind)
    rows = [
        (f"`{field.name}`", _flag(flags.get(field.name)), _default(field), about[field.name])
        for field in msgspec.structs.fields(kind)
    ]
    text = f"## Of a {program}\n\n`agentcom {program}`; in the environment `{_ENV}` and the name in capitals.\n\n"
    return text + table(("setting", "flag", "default", "what it is"), rows)


def _flag(flag: str | None) -> str:
    return f"`{flag}`" if flag else ""


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default
    if value is NODEFAULT or value in {None, "", ()}:
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{getattr(each, 'value', each)}`" for each in value)
    value = getattr(value, "value", value)
    return (
        f"`{value:g}`" if isinstance(value, float) else f"`{str(value).lower() if isinstance(value, bool) else value}`"
    )


# --- HTTP -------------------------------------------------------------------------------------------------------------


def http() -> str:
    """All routes."""
    parts = [
        _head(
            "HTTP",
            "The hub tells the same, with every type, as OpenAPI at `/openapi.json`, and to look through at `/docs`. "
            "Errors are problem documents ([errors](errors.md)); who may ask what is in [permissions](permissions.md), "
            "how often in [limits](limits.md). Every answer carries `X-Request-Id`. `POST /api/v1/tasks` takes an "
            "`Idempotency-Key`, and a `traceparent` ([traces](../operate/logs-and-traces.md#traces)).",
        )
    ]
    groups: dict[str, list[Route]] = defaultdict(list)
    for route in (*ROUTES, mesh(_nobody)):
        groups[_group(route.path)].append(route)
    for name, routes in groups.items():
        rows = [(f"`{r.method} {r.path}`", _asks(r), _body(r.request), _answer(r)) for r in routes]
        parts.append(f"## {name}\n\n" + table(("route", "what it does", "body", "answer"), rows))
    return "\n".join(parts)


def _group(path: str) -> str:
    steps = path.strip("/").split("/")
    return steps[2].capitalize().replace("-", " ") if path.startswith("/api/v1/") else "Elsewhere"


def _asks(route: Route) -> str:
    params = "; ".join(f"`{each.name}`: {each.about[:1].lower()}{each.about[1:]}" for each in route.params)
    return f"{route.summary}. {params}" if params else route.summary


def _body(kind: Any) -> str:  # noqa: ANN401 - a struct, or some
    return "" if kind is None else f"`{source.type_text(kind)}`"


def _answer(route: Route) -> str:
    kind = f"`{source.type_text(route.response)}`" if route.response else ", ".join(route.produces)
    return f"{route.status} {kind}".strip()


# --- events and messages ----------------------------------------------------------------------------------------------


def events() -> str:
    """All kinds of events."""
    told = source.remarks(EventKind)
    rows = [(f"`{kind.value}`", told.get(kind.name, ""), _audit(kind)) for kind in EventKind]
    head = _head(
        "Events",
        "Facts that happened, in one ordered log: `GET /api/v1/events`, also as a stream that resumes from "
        "`Last-Event-ID`, `agentcom events`, and of one task `GET /api/v1/tasks/{id}/events`. An event has "
        "`seq`, `kind`, `at`, and, where it is about one, `task`, `agent` and `epoch`; `facts` holds what "
        "else is worth knowing. New kinds may come: leave those alone that you do not know.",
    )
    return f"{head}\n" + table(("event", "what happened", "in the [audit log](audit.md)"), rows)


def _audit(kind: EventKind) -> str:
    action = ACTIONS.get(kind)
    return f"`{action[0]}`: {action[1]}" if action else ""


def messages() -> str:
    """All messages between hub and sidecars."""
    parts = [
        _head(
            "Messages",
            "What hub and sidecars say to each other, message by message; the rules are in [the wire "
            "protocol](protocol.md). A message is a MessagePack map; `t` names its kind. Fields that stand at their "
            "default are left out, unknown ones are ignored. *Ordered* messages carry `n` and are resent until they "
            "are acknowledged.",
        )
    ]
    for name, kind in sorted(KINDS.items()):
        told = source.remarks(kind)
        fields = [field for field in msgspec.structs.fields(kind) if field.name != "n"]
        rows = [(f"`{f.encode_name}`", source.type_text(f.type), _of_field(f), told.get(f.name, "")) for f in fields]
        ordered = " *Ordered.*" if issubclass(kind, Ordered) else ""
        text = f"## {name}\n\n{source.body(kind)}{ordered}\n"
        parts.append(text + ("\n" + table(("field", "type", "default", "what it is"), rows) if rows else ""))
    return "\n".join(parts)


def _of_field(field: msgspec.structs.FieldInfo) -> str:
    if field.default is NODEFAULT:
        return "" if field.default_factory is NODEFAULT else "empty"
    return (
        "empty" if field.default in ("", ()) else f"`{str(field.default).lower()}`" if _is_short(field) else "none used"
    )


def _is_short(field: msgspec.structs.FieldInfo) -> bool:
    return isinstance(field.default, str | int | float | bool | type(None))


# --- errors -----------------------------------------------------------------------------------------------------------


def errors() -> str:
    """All errors that have a code of their own."""
    known: dict[str, type[AgentComError]] = {}
    for place in _with_errors():
        import_module(place)
    for kind in _tree(AgentComError):
        if "code" in kind.__dict__ and kind.__module__.startswith(PACKAGES):
            known.setdefault(kind.code, kind)
    rows = [
        (f"`{code}`", _status(kind), "yes" if kind.retryable else "", source.summary(kind))
        for code, kind in sorted(known.items())
    ]
    head = _head(
        "Errors",
        "An error is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): `title`, "
        "`status`, `code`, `detail` (what, and the way out), `errors` (each with `path` and `problem`, all "
        "that were found), `retryable` and `request_id`. Of a task that failed `error_code` is one of these "
        "codes, too. The code is stable, the text is not.",
    )
    return f"{head}\n" + table(("code", "HTTP status", "the same again may help", "what it means"), rows)


def _with_errors() -> list[str]:
    """The modules that have an error of their own."""
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    named = [
        file for file in files if re.search(r"^    code(?:, retryable)? = ", file.read_text("utf-8"), re.MULTILINE)
    ]
    return sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in named)


def _tree(kind: type[AgentComError]) -> list[type[AgentComError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _tree(below))]


def _status(kind: type[AgentComError]) -> str:
    return (
        ""
        if kind.__module__.startswith(("sidecar", "agentcom", "provisioning"))
        else str(status_of(kind.__new__(kind)))
    )


# --- the command line -------------------------------------------------------------------------------------------------


def cli() -> str:
    """All commands with their options."""
    parts = [
        _head(
            "Command line",
            "Exit status: 0 done, 1 the work failed, 2 usage or input error, 3 cannot reach the hub, 4 refused. "
            "Commands that ask a hub (in the tables below: `...`) all know these options, too:",
        )
        + "\n"
        + table(("option", "value", ""), [_option(each) for each in _usual()])
    ]
    root = agentcom.cli.root
    for name in agentcom.cli.COMMANDS:
        command = root.get_command(click.Context(root), name)
        assert command is not None, "it is listed"
        parts += _command(f"agentcom {name}", command)
    return "\n".join(parts)


def _command(name: str, command: click.Command) -> list[str]:
    words = [_argument(each) for each in command.params if isinstance(each, click.Argument)]
    verb = "VERB" if isinstance(command, click.Group) and command.commands else ""
    usage = " ".join(filter(None, [name, *words, verb]))
    usual = {_option(each) for each in _usual()}
    rows = [_option(each) for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if usual <= set(rows):
        rows = [*(each for each in rows if each not in usual), ("`...`", "", "")]
    text = _shown(command.help or "")
    level = "#" * len(name.split())
    part = f"{level} {name}\n\n{text}\n\n```\n{usage}\n```\n"
    if rows:
        part += "\n" + table(("option", "value", ""), rows)
    below = command.commands if isinstance(command, click.Group) else {}
    return [part, *(each for verb, inner in below.items() for each in _command(f"{name} {verb}", inner))]


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _shown(text: str) -> str:
    """The help of a command: a paragraph that click must leave as it is stays as it is here, too."""
    parts = [part.strip("\n") for part in text.split("\n\n") if part.strip()]
    return "\n\n".join(
        "```\n" + part.partition("\x08\n")[2].rstrip() + "\n```" if "\x08" in part else _one_line(part)
        for part in parts
    )


def _one_line(part: str) -> str:
    return " ".join(part.split())


def _option(option: click.Option) -> tuple[str, str, str]:
    return f"`{', '.join(option.opts + option.secondary_opts)}`", option.metavar or "", (option.help or "").strip()


def _usual() -> list[click.Option]:
    """The options that all commands have that ask a hub."""
    ctx = click.Context(agentcom.cli.root)
    groups = (agentcom.cli.root.get_command(ctx, name) for name in ("tasks", "hosts"))
    of_each = [
        {_option(each): each for each in group.commands["ls"].params if isinstance(each, click.Option)}
        for group in groups
        if isinstance(group, click.Group)
    ]
    return [option for key, option in of_each[0].items() if key in of_each[1]]


PAGES: Final[dict[Path, Callable[[], str]]] = {
    REFERENCE / "settings.md": settings,
    REFERENCE / "http.md": http,
    REFERENCE / "events.md": events,
    REFERENCE / "messages.md": messages,
    REFERENCE / "errors.md": errors,
    REFERENCE / "cli.md": cli,
}
