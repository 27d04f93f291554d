"""Everything that a request may say has a largest size: a new body, parameter or route without one fails here."""

import pytest
from multidict import MultiDict

from hub.web import requests
from hub.web.openapi import _parts, document
from hub.web.routes import ROUTES
from hub.web.routing import MAX_PART_CHARS, MOST_CHOICES, Param
from hub.web.tasks import within
from protocol import codec
from protocol.errors import BadInput
from protocol.model import TaskSpec
from tests.support.bounds import unbounded, unbounded_schema

FREE = {"CheckJsonSchema.schema (values)", "CheckPlugin.settings (values)"}
"""JSON of any form, bounded by the size of the spec that it is in."""
BODIES = sorted({part for route in ROUTES for part in _parts(route.request)}, key=lambda part: str(part.__name__))


@pytest.mark.parametrize("shape", BODIES, ids=lambda shape: str(shape.__name__))
def test_every_field_of_a_body_has_a_bound(shape: type) -> None:
    assert set(unbounded(shape)) <= FREE


def test_every_parameter_of_every_route_has_a_bound() -> None:
    paths = document(ROUTES, "1")["paths"]
    found = [
        f"{method} {path} {param['in']} {param['name']}"
        for path, methods in paths.items()
        for method, operation in methods.items()
        for param in operation["parameters"]
        if unbounded_schema(param["schema"])
    ]

    assert len(paths) > 50
    assert found == []


def test_every_body_that_is_no_json_is_measured_as_it_comes() -> None:
    assert {route.path for route in ROUTES if route.consumes} == {
        "/api/v1/tasks/{id}/artifacts",
        "/api/v1/projects/{name}/files/{path}",
    }


@pytest.mark.parametrize(
    "param, said, problem",
    [
        (Param("q", ""), ["x" * (MAX_PART_CHARS + 1)], "513 characters; at most 512"),
        (Param("q", "", most=5), ["xxxxxx"], "6 characters; at most 5"),
        (Param("label", "", "pair"), ["a:" + "x" * MAX_PART_CHARS], "514 characters; at most 512"),
        (Param("state", "", "choice", choices=("a",)), ["a"] * (MOST_CHOICES + 1), "257 values; at most 256"),
    ],
)
def test_a_parameter_beyond_its_bound_is_told_so(param: Param, said: list[str], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        requests.read_query(MultiDict((param.name, text) for text in said), {param.name: param})


def test_what_a_later_version_of_a_trace_header_adds_is_not_stored() -> None:
    place = f"{'a' * 32}-{'b' * 16}-01"

    [spec] = within(f"99-{place}-{'x' * 5_000}", [TaskSpec(command="true")])

    assert spec.traceparent == f"00-{place}"
    assert codec.decode_spec(codec.encode_spec(spec)) == spec
