"""Everything that is wrong with a value whose type is known, field by field, with the path to each.

msgspec reads fast and stops at the first problem; this is the slow walk that follows when it has refused a body
(:mod:`protocol.schema`) or a frame (:mod:`protocol.codec`). Pure.
"""

import difflib
from collections.abc import Iterator, Mapping, Sized
from datetime import datetime
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import inspect

from protocol.errors import Problem

HUGE: Final = 10**300  # larger whole numbers cannot be shown as floats
MOST: Final = 100
"""Problems that are told of one value; whoever has more of them mends these first."""
_SCALARS: Final[dict[type[inspect.Type], tuple[type | tuple[type, ...], str]]] = {
    inspect.StrType: (str, "a string"),
    inspect.BoolType: (bool, "true or false"),
    inspect.IntType: (int, "a whole number"),
    inspect.FloatType: ((int, float), "a number"),
    inspect.BytesType: ((bytes, str), "bytes"),  # a string where bytes are written as base64
}
_SHOWN_CHARS: Final = 80


def first_problems(value: object, kind: inspect.Type) -> list[Problem]:
    """The first :data:`MOST` problems of ``value`` as a ``kind``; none: it is one, as far as this can tell."""
    return list(islice(problems_of(value, kind, ""), MOST))


def problems_of(value: object, kind: inspect.Type, path: str) -> Iterator[Problem]:
    """What keeps ``value`` (plain data) from being a ``kind``; ``path`` leads to it and is put before each path."""
    if isinstance(kind, inspect.Metadata):  # a field with a description, as the tools of an agent have
        kind = kind.type
    match kind:
        case inspect.UnionType():
            yield from _union(value, kind, path)
        case inspect.StructType(array_like=True):
            yield from _row(value, kind, path)
        case inspect.StructType():
            yield from _struct(value, kind, path)
        case inspect.ListType() | inspect.VarTupleType():
            yield from _list(value, kind, path)
        case inspect.TupleType():
            yield from _tuple(value, kind.item_types, len(kind.item_types), path)
        case inspect.DictType():
            yield from _map(value, kind, path)
        case inspect.EnumType():
            yield from _choice(value, [str(member.value) for member in kind.cls], path)
        case inspect.DateTimeType() if not _is_time(value):
            yield Problem(path, f"expected a time like 2026-01-31T12:00:00Z, found {_show(value)}")
        case _:
            yield from _scalar(value, kind, path)


def _choice(value: object, known: list[str], path: str) -> Iterator[Problem]:
    if value not in known:
        yield Problem(path, f"expected one of {', '.join(known)}, found {_show(value)}{did_you_mean(value, known)}")


def _list(value: object, kind: inspect.ListType | inspect.VarTupleType, path: str) -> Iterator[Problem]:
    if not isinstance(value, list | tuple):
        yield Problem(path, f"expected a list, found {_name(value)}")
        return
    yield from _too_many(value, kind.max_length, path)
    for number, entry in enumerate(value):
        yield from problems_of(entry, kind.item_type, f"{path}[{number}]")


def _tuple(value: object, kinds: tuple[inspect.Type, ...], least: int, path: str) -> Iterator[Problem]:
    if not isinstance(value, list | tuple) or len(value) < least:
        count = f"{len(kinds)} entries" if least == len(kinds) else f"at least {least} entries"
        yield Problem(path, f"expected a list of {count}, found {_name(value)}")
        return
    for number, (entry, kind) in enumerate(zip(value, kinds, strict=False)):
        yield from problems_of(entry, kind, f"{path}[{number}]")


def _row(value: object, kind: inspect.StructType, path: str) -> Iterator[Problem]:
    """A struct that is written as a list of its values."""
    yield from _tuple(value, tuple(f.type for f in kind.fields), sum(f.required for f in kind.fields), path)


def _map(value: object, kind: inspect.DictType, path: str) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem(path, f"expected an object, found {_name(value)}")
        return
    yield from _too_many(value, kind.max_length, path)
    for key, entry in value.items():
        yield from problems_of(key, kind.key_type, under(path, str(key)[:_SHOWN_CHARS]))
        yield from problems_of(entry, kind.value_type, under(path, str(key)[:_SHOWN_CHARS]))


def _too_many(value: Sized, most: int | None, path: str) -> Iterator[Problem]:
    if most is not None and len(value) > most:
        yield Problem(path, f"{len(value):,} entries; at most {most:,}")


def _scalar(value: object, kind: inspect.Type, path: str) -> Iterator[Problem]:
    expected = _SCALARS.get(type(kind))
    if expected is None:
        return
    is_confused = isinstance(value, bool) and not isinstance(kind, inspect.BoolType)
    if is_confused or not isinstance(value, expected[0]):
        yield Problem(path, f"expected {expected[1]}, found {_show(value)}")
    elif isinstance(kind, inspect.FloatType) and isinstance(value, int) and abs(value) >= HUGE:
        yield Problem(path, "a number far too large")
    elif isinstance(kind, inspect.StrType | inspect.BytesType) and isinstance(value, str | bytes):
        if kind.max_length is not None and len(value) > kind.max_length and isinstance(value, expected[0]):
            unit = "characters" if isinstance(kind, inspect.StrType) else "bytes"
            yield Problem(path, f"{len(value):,} {unit}; at most {kind.max_length:,}")
    elif isinstance(kind, inspect.IntType | inspect.FloatType) and isinstance(value, int | float):
        yield from _out_of_range(value, kind, path)


def _out_of_range(value: float, kind: inspect.IntType | inspect.FloatType, path: str) -> Iterator[Problem]:
    least, most = kind.gt if kind.ge is None else kind.ge, kind.lt if kind.le is None else kind.le
    is_in = (kind.ge is None or value >= kind.ge) and (kind.gt is None or value > kind.gt)
    is_in = is_in and (kind.le is None or value <= kind.le) and (kind.lt is None or value < kind.lt)
    if not is_in:
        is_huge = abs(value) >= HUGE  # NaN is not: it is shown as what it is
        found = "a number far too large" if is_huge else f"{value:g}"
        words = [f"{word} {bound:g}" for word, bound in (("from", least), ("to", most)) if bound is not None]
        yield Problem(path, f"{found}; {' '.join(words)}")


def _union(value: object, kind: inspect.UnionType, path: str) -> Iterator[Problem]:
    if value is None and any(isinstance(t, inspect.NoneType) for t in kind.types):
        return
    kinds = [t for t in kind.types if not isinstance(t, inspect.NoneType)]
    tagged = {t.tag: t for t in kinds if isinstance(t, inspect.StructType) and t.tag is not None}
    if not tagged:
        if len(kinds) == 1:
            yield from problems_of(value, kinds[0], path)
        return
    tag_field = next(t.tag_field for t in tagged.values()) or "type"
    if not isinstance(value, Mapping):
        yield Problem(path, f"expected an object with a {tag_field!r}, found {_name(value)}")
        return
    tag = value.get(tag_field)
    chosen = tagged.get(tag) if isinstance(tag, str) else None
    if chosen is None:
        known = [str(t) for t in tagged]
        found = "it is missing" if tag is None else f"found {_show(tag)}"
        yield Problem(under(path, tag_field), f"expected one of {', '.join(known)}, {found}{did_you_mean(tag, known)}")
        return
    yield from _struct({k: v for k, v in value.items() if k != tag_field}, chosen, path)


def _struct(value: object, kind: inspect.StructType, path: str) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem(path, f"expected an object, found {_name(value)}")
        return
    fields = {f.encode_name: f for f in kind.fields}
    for key in value:
        if key not in fields and kind.forbid_unknown_fields and kind.tag_field != key:
            yield Problem(
                under(path, str(key)), f"unknown field; known: {', '.join(sorted(fields))}{did_you_mean(key, fields)}"
            )
    for name, part in fields.items():
        if name in value:
            yield from problems_of(value[name], part.type, under(path, name))
        elif part.required:
            yield Problem(under(path, name), "is missing")


def under(path: str, name: str) -> str:
    """The path of ``name`` in what is at ``path``."""
    if not path or not name:
        return path or name
    return f"{path}{name}" if name.startswith("[") else f"{path}.{name}"


def _name(value: object) -> str:
    names = {
        type(None): "null",
        bool: "true or false",
        str: "a string",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), type(value).__name__)


def _show(value: object) -> str:
    return (
        repr(value[:60])
        if isinstance(value, str)
        else _name(value)
        if not isinstance(value, int | float)
        else f"{value}"
    )


def _is_time(value: object) -> bool:
    if isinstance(value, datetime):
        return True
    try:
        msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return False
    return isinstance(value, str)


def did_you_mean(name: object, known: Any) -> str:  # noqa: ANN401 - any collection of names
    """A word on the known name that is nearest; empty: none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
