"""The hub's settings, and the only place that reads its environment and its settings file.

What there is to set is ``hub/options.py``.
"""

import configparser
import contextlib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from hub.options import DEFAULT_PORT, Settings
from hub.sound import POSTGRES_SCHEMES, masked, problems_of
from protocol.config import merge, secrets_in
from protocol.errors import BadInput, Problem

__all__ = [
    "DEFAULT_PORT",
    "POSTGRES_SCHEMES",
    "Settings",
    "default_data_dir",
    "load",
    "masked",
    "read_toml",
    "s3_keys",
    "secrets_of",
]


CREDENTIAL: Final = "agentcom-keystore"
"""What the keys of the keystore are called among the credentials of a service."""


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
    if not settings.key_file and (credential := _credential(env)):
        settings, origins = _with(settings, key_file=credential), origins | {"key_file": "CREDENTIALS_DIRECTORY"}
    if problems := list(problems_of(settings)):
        raise BadInput(problems, "settings")
    return settings, origins


def _credential(env: Mapping[str, str]) -> str:
    """The keys that systemd has given to the service (``LoadCredential=``); empty: none."""
    folder = env.get("CREDENTIALS_DIRECTORY", "")
    file = Path(folder, CREDENTIAL)
    return str(file) if folder and file.is_file() else ""


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


def secrets_of(settings: Settings, env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What no line of a log may hold: passwords and keys of the settings, secrets in the environment.

    Args:
        settings: those of this hub.
        env: the environment; the process's own if left out.
    """
    found = list(secrets_in(os.environ if env is None else env))
    if password := urlsplit(settings.store).password:
        found += [password, unquote(password)]
    if settings.artifact_store:
        with contextlib.suppress(BadInput):  # whoever opens the bucket says so
            found += s3_keys(settings, env).values()
    return tuple(dict.fromkeys(filter(None, found)))


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
