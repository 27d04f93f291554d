import pytest
from multidict import MultiDict

from hub.web import requests
from hub.web.problems import InvalidJson, WrongMediaType
from hub.web.requests import read_key, read_specs
from hub.web.routing import Param
from protocol.errors import BadInput

PARAMS = {
    param.name: param
    for param in (
        Param("text", ""),
        Param("count", "", "count", least=1, most=9),
        Param("flag", "", "flag"),
        Param("state", "", "choice", choices=("a", "b")),
        Param("label", "", "pair"),
    )
}


@pytest.mark.parametrize(
    "sent, read",
    [
        ([], {}),
        ([("text", "x")], {"text": "x"}),
        ([("count", "9")], {"count": 9}),
        ([("flag", "TRUE")], {"flag": True}),
        ([("flag", "0")], {"flag": False}),
        ([("state", "a,b"), ("state", "a")], {"state": frozenset({"a", "b"})}),
        ([("label", "k:v:w")], {"label": ("k", "v:w")}),
        ([("label", "k:")], {"label": ("k", "")}),
    ],
)
def test_parameters_are_read_by_their_kind(sent: list[tuple[str, str]], read: dict[str, object]) -> None:
    assert requests.read_query(MultiDict(sent), PARAMS) == read


@pytest.mark.parametrize(
    "name, value",
    [
        ("count", "0"),
        ("count", "10"),
        ("count", "\u0661"),
        ("count", "1" * 5000),
        ("flag", "maybe"),
        ("state", "a,"),
        ("state", "c"),
        ("label", "k"),
        ("label", ":v"),
        ("cuont", "1"),
    ],
)
def test_a_parameter_that_is_not_understood_is_named(name: str, value: str) -> None:
    with pytest.raises(BadInput) as caught:
        requests.read_query(MultiDict([(name, value)]), PARAMS)

    assert [problem.path for problem in caught.value.problems] == [f"query {name}"]


def test_all_wrong_parameters_are_named_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        requests.read_query(MultiDict([("count", "x"), ("flag", "x"), ("nope", "1")]), PARAMS)

    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "raw, line, column",
    [(b"{", 1, 2), (b'{\n"a": 1,,\n}', 2, 8), (b'{"a": 1e999}', 1, 1), (b'"\xff"', 1, 1), (b" ", 1, 1)],
)
def test_broken_json_has_a_place(raw: bytes, line: int, column: int) -> None:
    with pytest.raises(InvalidJson) as caught:
        requests.parsed(raw, "application/json")

    assert caught.value.line == line
    assert caught.value.column >= column


@pytest.mark.parametrize("media_type", ["application/xml", "multipart/form-data", "application/x-msgpack"])
def test_another_media_type_is_told_from_broken_json(media_type: str) -> None:
    with pytest.raises(WrongMediaType):
        requests.parsed(b"{}", media_type)


def test_a_key_has_1_to_255_printable_characters() -> None:
    assert read_key({}) is None
    assert read_key({"Idempotency-Key": "a b"}) == "a b"
    for bad in ("", "x" * 256, "\x7f", "\u00fc"):
        with pytest.raises(BadInput):
            read_key({"Idempotency-Key": bad})


def test_problems_of_a_hopeless_batch_are_bounded() -> None:
    with pytest.raises(BadInput) as caught:
        read_specs({"tasks": [{"a": 1, "b": 2}] * 1000})

    assert len(caught.value.problems) == 1001
    assert "more problems" in caught.value.problems[-1].problem
