"""Which hub the client talks to, and with which token; the only place of the client that reads environment and files.

Flags, then ``AGENTCOM_*``, then the settings file, then what a hub on this machine left in its data directory
(``hub.json``, ``admin.token``). That local token goes to the local hub only: an address given by hand gets it if it is
the very address of ``hub.json``, so that a slip of the keyboard never hands an admin token to somebody else's server.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from protocol.config import merge
from protocol.errors import BadInput, Problem
from protocol.pinning import CA_HASH, Trust

LOCAL_CA: Final = "tls/ca.pem"
"""Where a hub keeps its authority, in its data directory."""
DEFAULT_HUB: Final = "http://127.0.0.1:7420"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_PORTS: Final = {"http": 80, "https": 443}


class _Given(Struct, frozen=True, kw_only=True):
    """What people may say, as keys of the settings file and (in capitals, ``AGENTCOM_`` before) of the environment."""

    hub: str = ""
    token: str = ""
    token_file: str = ""
    data_dir: str = ""
    ca_file: str = ""
    ca_hash: str = ""


class ClientSettings(Struct, frozen=True, kw_only=True):
    """Everything that a client needs to know; ``origins`` tells by field where each value came from.

    ``trust``: whom it takes for the hub (``ca_file``, ``ca_hash``; of the hub of this machine it knows that by itself).
    """

    hub: str
    token: str
    data_dir: str
    origins: dict[str, str]
    trust: Trust

    @property
    def shown(self) -> dict[str, dict[str, str]]:
        """The values and their origins, the token without its secret."""
        values = {"hub": self.hub, "token": f"{self.token[:8]}..." if self.token else "", "data_dir": self.data_dir}
        return {name: {"value": value, "origin": self.origins[name]} for name, value in values.items()}


def load(flags: Mapping[str, object], env: Mapping[str, str] | None = None, file: str | None = None) -> ClientSettings:
    """The settings that count.

    Args:
        flags: ``hub``, ``token_file``, ``data_dir``; ``None`` is not given.
        env: the environment; the process's own if left out.
        file: a TOML file; without one ``AGENTCOM_CONFIG``, or ``agentcom/client.toml`` under the XDG config directory
            if it is there.
    Raises:
        BadInput: anything is wrong; all of it is listed.
    """
    env = os.environ if env is None else env
    file = file or env.get("AGENTCOM_CONFIG") or _default_file(env)
    given, origins = merge(_Given, flags=flags, env=env, file=_read_toml(file), file_name=file or "")
    folder = Path(given.data_dir or default_data_dir(env)).expanduser().absolute()
    local = _local_hub(folder)
    hub, origins["hub"] = (given.hub, origins["hub"]) if given.hub else _fallback(local, folder)
    hubs = [part.strip().rstrip("/") for part in hub.split(",") if part.strip()] or [""]
    hub = ",".join(hubs)
    problems = [problem for each in hubs for problem in _hub_problems(each, origins["hub"])]
    token, origins["token"] = _token(given, origins, problems)
    chose_dir = origins["data_dir"].startswith("--")
    if not token and not problems and (chose_dir or all(_is_same(each, local or DEFAULT_HUB) for each in hubs)):
        token, origins["token"] = _local_token(folder, problems)
    is_local = not problems and all(_is_same(each, local or DEFAULT_HUB) for each in hubs)
    trust = _trust(given, folder if is_local and hub.startswith("https:") else None, problems)
    if problems:
        raise BadInput(problems, "settings")
    return ClientSettings(hub=hub, token=token, data_dir=str(folder), origins=origins, trust=trust)


def default_data_dir(env: Mapping[str, str]) -> str:
    """Where a hub of this user keeps its data (XDG base directories)."""
    base = env.get("XDG_DATA_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "share")
    return str(Path(base) / "agentcom")


def _default_file(env: Mapping[str, str]) -> str:
    base = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".config")
    found = Path(base) / "agentcom" / "client.toml"
    return str(found) if found.is_file() else ""


def _read_toml(file: str) -> dict[str, Any]:
    if not file:
        return {}
    import tomllib  # most commands have no file

    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput([Problem("config", f"cannot read {file}: {exc}")], "settings") from exc
    except tomllib.TOMLDecodeError as exc:
        raise BadInput([Problem("config", f"{file} is not TOML: {exc}")], "settings") from exc


def _local_hub(folder: Path) -> str:
    """The address that a hub left in its data directory; empty if none did."""
    try:
        found = msgspec.json.decode((folder / "hub.json").read_bytes())
    except (OSError, ValueError):
        return ""
    url = found.get("url") if isinstance(found, dict) else None
    return url.rstrip("/") if isinstance(url, str) else ""


def _fallback(local: str, folder: Path) -> tuple[str, str]:
    return (local, str(folder / "hub.json")) if local else (DEFAULT_HUB, "default")


def _hub_problems(hub: str, origin: str) -> list[Problem]:
    try:
        parts = urlsplit(hub)
        good = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    return [] if good else [Problem("hub", f"{origin}: not an address like {DEFAULT_HUB}: {hub[:100]!r}")]


def _token(given: _Given, origins: Mapping[str, str], problems: list[Problem]) -> tuple[str, str]:
    """The token that was given by hand: the nearer place counts, in one place the token itself before a file."""
    ways = [(_rank(origins["token"]), 0), (_rank(origins["token_file"]), 1)]
    for rank, is_file in sorted(ways):
        text = given.token_file if is_file else given.token
        if rank == len(_RANKS) or not text:
            continue
        if not is_file:
            return _checked(text, origins["token"], "token", problems), origins["token"]
        return _read_token(Path(text).expanduser(), f"{origins['token_file']} {text}", problems)
    return "", "default"


def _trust(given: _Given, local: Path | None, problems: list[Problem]) -> Trust:
    """Whom to take for the hub; ``local``: the data directory of the hub of this machine, if that is asked, by TLS."""
    if given.ca_hash and not CA_HASH.fullmatch(given.ca_hash.lower()):
        problems.append(Problem("ca_hash", "64 hexadecimal digits, as 'agentcom fingerprint' prints them"))
        return Trust()
    file = given.ca_file
    if not file and not given.ca_hash and local is not None and (local / LOCAL_CA).is_file():
        file = str(local / LOCAL_CA)
    try:
        return Trust(Path(file).expanduser().read_text(encoding="ascii") if file else "", given.ca_hash)
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(Problem("ca_file", f"cannot read {file}: {getattr(exc, 'strerror', None) or exc}"))
    except BadInput as exc:
        problems.extend(exc.problems)
    return Trust()


_RANKS: Final = ("--", "AGENTCOM_", "")


def _rank(origin: str) -> int:
    return len(_RANKS) if origin == "default" else next(n for n, start in enumerate(_RANKS) if origin.startswith(start))


def _local_token(folder: Path, problems: list[Problem]) -> tuple[str, str]:
    path = folder / "admin.token"
    return _read_token(path, str(path), problems) if path.exists() else ("", "default")


def _read_token(path: Path, origin: str, problems: list[Problem]) -> tuple[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(Problem("token_file", f"cannot read {path}: {getattr(exc, 'strerror', None) or exc}"))
        return "", origin
    return _checked(text, str(path), "token_file", problems), origin


def _checked(text: str, origin: str, field: str, problems: list[Problem]) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        problems.append(Problem(field, f"{origin} does not hold one token, like acm_..."))
    return token


def _is_same(one: str, other: str) -> bool:
    return _place(one) == _place(other)


def _place(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    host = "loopback" if parts.hostname in _LOOPBACK else parts.hostname or ""
    return parts.scheme, host, parts.port or _PORTS.get(parts.scheme)


def sidecar_env(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of programs that ``agentcom up`` starts: what this user's own commands use does not bind them."""
    env = os.environ if env is None else env
    mine = {"HUB", "TOKEN", "TOKEN_FILE", "DATA_DIR", "STATE_DIR", "NAME", "LISTEN", "CONFIG"}
    return {name: value for name, value in env.items() if name not in {f"AGENTCOM_{each}" for each in mine}}


def has_screen(env: Mapping[str, str] | None = None) -> bool:
    """Whether a browser that is opened here can be seen; without one some systems start a text browser instead."""
    env = os.environ if env is None else env
    return sys.platform in {"darwin", "win32"} or bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))
