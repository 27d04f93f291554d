"""The OpenAPI 3.1 document, made from the route table and the types that the handlers read and write.

https://spec.openapis.org/oas/v3.1.0. Pure; served by ``hub/web/docs.py``.
"""

import re
import types
from collections.abc import Iterable, Sequence
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from hub.core.access import roles_with
from hub.web.problems import STATUS
from hub.web.routing import IF_MATCH, JSON, MAX_PART_CHARS, MOST_CHOICES, SSE, Param, Route
from protocol.api import PROBLEM_TYPE, ProblemDocument
from protocol.limits import MAX_PATH_CHARS

_REF: Final = "#/components/schemas/{name}"
_PLACE: Final = re.compile(r"\{(\w+)\}")
_EVENT: Final = {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}}
"""One event of a stream; OpenAPI 3.1 has no word for the stream itself."""
_KNOWN_STATUS: Final = {
    "400": "The body is not JSON",
    "401": "No token, or one that is not valid",
    "403": "The role of the token may not do this",
    "404": "There is no such thing",
    "409": "It is not in a state that allows this",
    "412": "It was changed since you read it",
    "413": "The body is too large",
    "415": "The body is not JSON",
    "422": "Something that was sent cannot be accepted; `errors` lists every problem",
    "429": "You ask too often, or have more waiting (or open) than your share; see Retry-After",
    "502": "An endpoint, or a repository, does not answer",
    "503": "Not now; see Retry-After",
    "507": "The disk is nearly full: no new tasks for now; see Retry-After",
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The document as plain data, ready for JSON."""
    listed = [route for route in routes if route.is_listed]
    shapes = _shapes(listed)
    schemas, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    schema_of = dict(zip(shapes, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        operation = paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
        if links := _links(route, listed):
            operation["responses"][str(route.status)]["links"] = links
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AgentCom hub",
            "version": version,
            "description": (
                "One durable queue of agent tasks for all your machines. Errors are problem documents (RFC 9457)."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "acm_<id>_<secret>"},
                "session": {"type": "apiKey", "in": "cookie", "name": "agentcom_session_<port>"},
            },
            "responses": {f"Problem{status}": _problem(text, schema_of) for status, text in _KNOWN_STATUS.items()},
        },
        "security": [{"token": []}, {"session": []}],
    }


def _shapes(routes: Iterable[Route]) -> list[Any]:
    found: dict[Any, None] = {ProblemDocument: None}
    for route in routes:
        for shape in (*_parts(route.request), *_parts(route.response)):
            found[shape] = None
    return list(found)


def _parts(shape: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a type or a union of types
    if shape is None:
        return ()
    return get_args(shape) if get_origin(shape) in {Union, types.UnionType} else (shape,)


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "tags": [_tag(route)],
        "parameters": [*_path_params(route), *(_parameter(param) for param in route.params)],
        "responses": {str(route.status): _answer(route, schema_of), **_refusals(route)},
    }
    if route.permission is None:
        operation["security"] = []
    else:
        operation["description"] = f"Needs `{route.permission}`: {', '.join(roles_with(route.permission))}."
        operation["x-permission"] = route.permission
    if route.request is not None:
        operation["requestBody"] = {
            "required": any(_has_required(part) for part in _parts(route.request)),
            "content": {JSON: {"schema": _any_of(route.request, schema_of)}},
        }
    if route.consumes:
        binary = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"required": True, "content": {route.consumes: binary}}
    return operation


def _name(route: Route) -> str:
    return route.method.lower() + re.sub(r"\W+", "_", route.path).rstrip("_")


def _links(route: Route, listed: Sequence[Route]) -> dict[str, Any]:
    """What can be asked next: about what was made by its id or name, about what was changed by where it was asked."""
    if route.method != "POST" or route.response is None:
        return {}
    fields = {field.encode_name for part in _parts(route.response) for field in msgspec.structs.fields(part)}
    found = {}
    for other in listed:
        place = _PLACE.search(other.path.removeprefix(f"{route.path}/"))
        if other.path.startswith(f"{route.path}/{{") and place is not None and place[1] in fields:
            found[_name(other)] = _link(other, place[1], f"$response.body#/{place[1]}")
        elif other is not route and (said := _same_thing(route, other)):
            found[_name(other)] = _link(other, said, f"$request.path.{said}")
    return found


def _link(other: Route, place: str, value: str) -> dict[str, Any]:
    return {"operationId": _name(other), "parameters": {place: value}}


def _same_thing(route: Route, other: Route) -> str:
    """What names, in both paths, a thing that ``route`` does something to, and ``other`` too, or shows; empty: none."""
    thing, found, verb = route.path.rpartition("/")
    place = _PLACE.search(thing)
    if not found or place is None or not thing.endswith(place[0]) or "{" in verb:
        return ""
    is_verb = other.method == "POST" and other.path.rpartition("/")[0] == thing
    return place[1] if is_verb or (other.method == "GET" and other.path == thing) else ""


def _has_required(shape: Any) -> bool:  # noqa: ANN401 - a struct type
    return any(field.required for field in msgspec.structs.fields(shape)) or shape.__name__ == "TaskSpec"


def _any_of(shape: Any, schema_of: dict[Any, Any]) -> dict[str, Any]:  # noqa: ANN401 - a type or a union of types
    parts = [schema_of[part] for part in _parts(shape)]
    return parts[0] if len(parts) == 1 else {"anyOf": parts}


def _answer(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": route.summary}
    if route.produces:
        schema = {} if route.response is None else {"schema": _any_of(route.response, schema_of)}
        answer["content"] = {
            kind: schema if kind == JSON else {"schema": _EVENT if kind == SSE else {"type": "string"}}
            for kind in route.produces
        }
    return answer


def _refusals(route: Route) -> dict[str, Any]:
    statuses = {"503", *map(str, route.refuses)}
    if route.permission is not None or route.request is not None:
        statuses |= {"401", "403"}
    if route.request is not None or route.consumes:
        statuses |= {"400", "413", "415", "422"}
    if route.params or route.method == "GET" or "{path}" in route.path:
        statuses.add("422")
    if "{" in route.path:
        statuses.add("404")
    if (route.method not in {"GET", "HEAD"} or "{name}/" in route.path) and route.permission is not None:
        statuses.add("409")
    if ("/endpoints" in route.path and route.request is not None) or "/git/" in route.path:
        statuses.add("502")
    if route.permission == "tasks:submit" or route.consumes or route.path.endswith("/git/clone"):
        statuses.add("507")
    if route.permission is not None or route.path == "/session":
        statuses.add("429")
    if any(param.name == IF_MATCH for param in route.params):
        statuses.add("412")
    return {status: {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(statuses)}


def _problem(text: str, schema_of: dict[Any, Any]) -> dict[str, Any]:
    return {"description": text, "content": {PROBLEM_TYPE: {"schema": schema_of[ProblemDocument]}}}


def _path_params(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_PATH_CHARS if name == "path" else MAX_PART_CHARS,
            },
        }
        for name in _PLACE.findall(route.path)
    ]


def _parameter(param: Param) -> dict[str, Any]:
    schema: dict[str, Any]
    if param.kind == "count":
        schema = {"type": "integer", "minimum": param.least, "maximum": param.most}
    elif param.kind == "flag":
        schema = {"type": "boolean"}
    elif param.kind == "one":
        schema = {"type": "string", "enum": list(param.choices)}
    elif param.kind == "choice":
        items = {"type": "string", "enum": list(param.choices)}
        schema = {"type": "array", "items": items, "maxItems": MOST_CHOICES}
    elif param.kind == "pair":
        schema = {"type": "string", "pattern": "^[^:]+:", "maxLength": param.longest}
    elif param.where == "header":
        schema = {"type": "string", "minLength": 1, "maxLength": param.longest, "pattern": "^[!-~]([ -~]*[!-~])?$"}
    else:
        schema = {"type": "string", "maxLength": param.longest}
    told = {"name": param.name, "in": param.where, "description": param.about, "required": False, "schema": schema}
    return told | ({"style": "form", "explode": True} if param.kind == "choice" else {})


def _tag(route: Route) -> str:
    parts = [part for part in route.path.split("/") if part and part not in {"api", "v1"}]
    return parts[0] if parts else "root"


assert {str(status) for status in STATUS.values()} - {"500", "421"} <= _KNOWN_STATUS.keys(), (
    "every status of ours is documented"
)
