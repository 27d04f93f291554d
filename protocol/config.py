"""Settings from four places, one rule: flags, then ``AGENTCOM_*``, then the TOML file, then defaults.

Pure: whoever calls hands over what it has read. Every problem is reported at once, each with the place it came from.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct, inspect

from protocol.errors import BadInput, Problem

T = TypeVar("T", bound=Struct)
ENV_PREFIX: Final = "AGENTCOM_"
_SECRET_NAME: Final = re.compile(
    r"(?i)(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_KEY|PRIVATE_KEY)$"
)
"""Variables whose values are secrets, by what their names end in."""


def secrets_in(env: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets in an environment, told by the names of their variables."""
    return tuple(value for name, value in env.items() if _SECRET_NAME.search(name))


def merge(
    shape: type[T],
    *,
    flags: Mapping[str, object],
    env: Mapping[str, str],
    file: Mapping[str, object],
    file_name: str = "",
) -> tuple[T, dict[str, str]]:
    """The settings of ``shape``, and where each value came from.

    Args:
        flags: values of the command line by field name; ``None`` is not given.
        env: the environment; the field ``listen`` is read from ``AGENTCOM_LISTEN``. Lists are separated by commas.
        file: the decoded TOML file; unknown keys are errors.
        file_name: how to call the file in errors.
    Raises:
        BadInput: anything is wrong; all of it is listed.
    """
    fields = {field.name: field for field in inspect.type_info(shape).fields}  # type: ignore[attr-defined]  # a struct has fields
    problems = [
        Problem(key, f"{file_name or 'settings file'}: unknown key; known: {', '.join(sorted(fields))}")
        for key in file
        if key not in fields
    ]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, field in fields.items():
        found = _find(name, flags, env, file, file_name)
        if found is None:
            origins[name] = "default"
            continue
        value, origin = found
        try:
            values[name] = msgspec.convert(_parted(value, field.type), _python_type(shape, name), strict=False)
            origins[name] = origin
        except msgspec.ValidationError as exc:
            problems.append(Problem(name, f"{origin}: {str(exc)[:1].lower()}{str(exc)[1:]}, found {str(value)[:60]!r}"))
    if problems:
        raise BadInput(problems, "settings")
    return shape(**values), origins


def _find(
    name: str, flags: Mapping[str, object], env: Mapping[str, str], file: Mapping[str, object], file_name: str
) -> tuple[object, str] | None:
    variable = ENV_PREFIX + name.upper()
    flag = flags.get(name)
    if flag is not None and flag != ():
        return flag, f"--{name.replace('_', '-')}"
    if env.get(variable):
        return env[variable], variable
    if name in file:
        return file[name], file_name or "settings file"
    return None


def _parted(value: object, kind: inspect.Type) -> object:
    """A comma list of the environment as a list, where the field is one."""
    if isinstance(value, str) and isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _python_type(shape: type[Struct], name: str) -> Any:  # noqa: ANN401 - any annotation
    return next(field.type for field in msgspec.structs.fields(shape) if field.name == name)
