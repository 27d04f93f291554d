"""The tables of a settings file that are lists of things: LLM endpoints, coding agents.

Pure: what is wrong with each goes to a list of problems, so that all of it is told at once. Caller:
``sidecar/settings.py``.
"""

from typing import Any, TypeVar

import msgspec

from protocol.errors import BadInput, Problem

T = TypeVar("T")


def read_tables(listed: object, kind: type[T], name: str, key: str, problems: list[Problem]) -> tuple[T, ...]:
    """The things that are listed.

    Args:
        listed: what stands under ``name`` in the settings file.
        kind: a dataclass that each becomes, which raises ``BadInput`` for what cannot work.
        name: of the list, such as ``endpoints``.
        key: the field in which no two may be equal.
        problems: gets what is wrong.
    """
    if not isinstance(listed, list):
        problems.append(Problem(name, f"must be a list of tables: [[{name}]]"))
        return ()
    known = {field.name for field in msgspec.inspect.type_info(kind).fields}  # type: ignore[attr-defined]  # it is a dataclass
    found = [
        read
        for number, entry in enumerate(listed)
        if (read := _read(entry, kind, known, f"{name}[{number}]", problems)) is not None
    ]
    keys = [getattr(entry, key) for entry in found]
    problems += [
        Problem(name, f"two {name} have the {key} {each!r}") for each in sorted({*keys}) if keys.count(each) > 1
    ]
    return tuple(found)


def _read(entry: Any, kind: type[T], known: set[str], path: str, problems: list[Problem]) -> T | None:  # noqa: ANN401 - of a file
    if not isinstance(entry, dict):
        problems.append(Problem(path, "must be a table"))
        return None
    unknown = sorted(set(entry) - known)
    problems += [Problem(f"{path}.{key}", f"unknown key; known: {', '.join(sorted(known))}") for key in unknown]
    if unknown:
        return None
    try:
        return msgspec.convert(entry, kind)
    except BadInput as exc:
        problems += [Problem(f"{path}.{problem.path}", problem.problem) for problem in exc.problems]
    except msgspec.ValidationError as exc:
        problems.append(Problem(path, str(exc)[:1].lower() + str(exc)[1:]))
    return None
