"""Finds what has no bound: a text without a longest length, a list without a largest, a number without a range."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import inspect

BOUNDED_BY_NATURE = (
    inspect.EnumType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.DateTimeType,
    inspect.LiteralType,
    *(inspect.Metadata, inspect.StructType, inspect.UnionType, inspect.TupleType),  # their parts tell
)


def unbounded(shape: Any) -> list[str]:  # noqa: ANN401 - a struct type
    """The fields of a type, and of all that it is made of, that may be of any size."""
    return sorted(set(_of(inspect.type_info(shape), "", set())))


def _of(kind: inspect.Type, place: str, seen: set[type]) -> Iterator[str]:
    if not _is_bounded(kind):
        yield place
    for part, name in _parts(kind, place, seen):
        yield from _of(part, name, seen)


def _is_bounded(kind: inspect.Type) -> bool:
    match kind:
        case inspect.StrType() | inspect.BytesType() | inspect.ListType() | inspect.VarTupleType() | inspect.DictType():
            return kind.max_length is not None
        case inspect.IntType() | inspect.FloatType():
            return _has_range(kind)
    return isinstance(kind, BOUNDED_BY_NATURE)


def _parts(kind: inspect.Type, place: str, seen: set[type]) -> Iterator[tuple[inspect.Type, str]]:
    match kind:
        case inspect.Metadata():
            yield kind.type, place
        case inspect.StructType() if kind.cls not in seen:
            seen.add(kind.cls)
            yield from ((part.type, f"{kind.cls.__name__}.{part.encode_name}") for part in kind.fields)
        case inspect.UnionType():
            yield from ((each, place) for each in kind.types)
        case inspect.TupleType():
            yield from ((each, place) for each in kind.item_types)
        case inspect.ListType() | inspect.VarTupleType():
            yield kind.item_type, f"{place}[]"
        case inspect.DictType():
            yield kind.key_type, f"{place} (keys)"
            yield kind.value_type, f"{place} (values)"


def _has_range(kind: inspect.IntType | inspect.FloatType) -> bool:
    return not ((kind.ge is None and kind.gt is None) or (kind.le is None and kind.lt is None))


def unbounded_schema(schema: Mapping[str, Any]) -> bool:
    """Whether a JSON schema of a parameter lets values of any size through."""
    match schema:
        case {"enum": _} | {"type": "boolean"}:
            return False
        case {"type": "string"}:
            return "maxLength" not in schema
        case {"type": "integer" | "number"}:
            return not {"minimum", "maximum"} <= schema.keys()
        case {"type": "array", "items": items, "maxItems": _}:
            return unbounded_schema(items)
    return True
