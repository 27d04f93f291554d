"""No field of the API that names a file leads out of its place, whatever is written into it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import quote

import msgspec
import pytest
from yarl import URL

from hub.web.routes import ROUTES
from hub.web.routing import JSON, SSE, Route
from protocol.schema import read_spec
from tests.support.running_hub import RunningHub, running_hub

SECRET = "the canary outside"
CLIMBS = [
    "../secret",
    "../../secret",
    "a/../../secret",
    "./../secret",
    "a/b/../../../secret",
    "..",
    "../",
    "/secret",
    "//secret",
    "/etc/passwd",
    "~/secret",
    "~root/secret",
    "..\\secret",
    "..\\..\\secret",
    "a\\..\\..\\secret",
    "C:\\secret",
    "\\\\host\\share",
    "..\x00/secret",
    "secret\x00.txt",
    "a/..\x00/secret",
    ".git/config",
    ".GIT/config",
    "a/.git/hooks/pre-commit",
    "a/.Git",
    ".git",
    "link",
    "up/secret",
    "up/../secret",
    "up",
    "deep/up/secret",
    "/proc/self/environ",
    "/proc/self/root/etc/passwd",
    "/dev/stdin",
    "a/../.git/config",
    "x\n../secret",
    "\u202e../secret",
    "..\u200b/secret",
    "a/" * 600 + "x",
]
ENCODED = ["%2e%2e/secret", "%2e%2e%2fsecret", "..%2fsecret", "%252e%252e/secret", "..%5csecret", "%00../secret"]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    root = tmp_path / "open" / "p"
    (root / "a" / "b").mkdir(parents=True)
    (root / "deep").mkdir()
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text(SECRET)
    (tmp_path / "open" / "secret").write_text(SECRET)
    (root / "link").symlink_to(tmp_path / "open" / "secret")
    (root / "up").symlink_to(tmp_path / "open")
    (root / "deep" / "up").symlink_to("../..")
    async with running_hub(tmp_path / "hub", project_roots=[str(tmp_path / "open")]) as running:
        made = await running.ask("POST", "/api/v1/projects", json={"name": "p", "directory": str(root)})
        assert made.status == 201
        yield running


def everything(folder: Path) -> dict[str, bytes | str]:
    """What lies in a folder: contents of files, targets of links."""
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


async def test_no_file_call_leads_out_of_a_project(hub: RunningHub, tmp_path: Path) -> None:
    before = everything(tmp_path / "open")
    places = [quote(path, safe="/\\~:") for path in CLIMBS] + ENCODED + [quote(path, safe="") for path in CLIMBS]
    seen = []
    for place in places:
        for method in ("GET", "PUT"):
            # What a client makes of dots in an address is not what an attacker sends: the line goes out as it is.
            status, text = await raw(hub, method, f"/api/v1/projects/p/files/{place}")
            if status < 400:
                seen.append((method, place, status))
            assert SECRET not in text
            assert status != 500, (method, place)
    for path in (path for path in CLIMBS if path != "up"):
        listed = await hub.ask("GET", "/api/v1/projects/p/files", params={"path": path})
        assert listed.status == 422, path
        added = await hub.ask("POST", "/api/v1/projects/p/git/add", json={"paths": [path]})
        assert added.status in {409, 422}, path

    # Escaped twice it is an ordinary name, of a directory in the project.
    assert seen == [("PUT", "%252e%252e/secret", 201)]
    after = everything(tmp_path / "open")
    root = str(tmp_path / "open" / "p")
    assert {name: after[name] for name in before} == before
    assert [name for name in after.keys() - before.keys() if not name.startswith(root)] == []


async def raw(hub: RunningHub, method: str, target: str) -> tuple[int, str]:
    """One request with exactly this target."""
    host, port = hub.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    token = hub.bearer("admin")["Authorization"]
    writer.write(f"{head}Authorization: {token}\r\nContent-Length: 1\r\n\r\nx".encode())
    text = (await reader.read()).decode("utf-8", "replace")
    writer.close()
    return int(text.split(" ")[1]), text


@pytest.mark.parametrize("path", [path for path in CLIMBS if "git" not in path.lower() and "up" not in path])
def test_no_field_of_a_task_names_a_file_outside(path: str) -> None:
    harmless = {"link", "secret\x00.txt"}
    for field, spec in {
        "context.files[0]": {"context": {"files": [path]}},
        "save_as": {"save_as": path},
        "verification[0].path": {"verification": [{"type": "file_exists", "path": path}]},
    }.items():
        _, problems = read_spec({"title": "x", "command": "true", **spec})
        is_climbing = ".." in path.split("/") or path.startswith(("/", "~")) or "\\" in path
        assert not is_climbing or field in {problem.path for problem in problems} or path in harmless


NASTY = [
    *(path for path in CLIMBS if path not in {"link", "up"}),  # a link may be removed, as a link
    "file:///etc/passwd",
    "--output=../secret",
    "%2e%2e/secret",
    "../../../../../../etc/passwd",
]
BODIES: dict[str, dict[str, Any]] = {
    "ProjectBody": {"name": "q", "repository": "git@example.org:r"},
    "BranchBody": {"name": "x"},
    "CheckoutBody": {"branch": "x"},
    "CommitBody": {"message": "x"},
    "TaskSpec": {"title": "x"},
}
"""What makes the rest of a body good, so that the one field decides."""


def fields_of(shape: object) -> Iterator[tuple[str, Any]]:
    """Bodies by the field in which a text can be, one text each: ``MARK`` stands where."""
    for part in get_args(shape) or (cast("type[msgspec.Struct]", shape),):
        for field in msgspec.structs.fields(part):
            kinds = {field.type, *get_args(field.type)}
            if str not in kinds:
                continue
            is_list = str(field.type).startswith(("tuple", "list"))
            yield field.name, BODIES.get(part.__name__, {}) | {field.encode_name: ["MARK"] if is_list else "MARK"}


def requests_of(route: Route) -> Iterator[tuple[str, Any]]:
    """Target and body, with ``MARK`` in each place of a request that takes a text."""
    known = {"name": "p", "path": "x", "id": "01j0000000000000000000000a"}
    names = re.findall(r"\{(\w+)\}", route.path)
    for marked in names:
        place = route.path
        for name in names:
            place = place.replace(f"{{{name}}}", "MARK" if name == marked else known.get(name, "x"))
        yield place, None
    place = re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], "x"), route.path)
    for param in route.params:
        if param.kind in {"text", "pair"} and param.where == "query":
            yield f"{place}?{param.name}={'k:' if param.kind == 'pair' else ''}MARK", None
    if route.request is not None:
        for _, body in fields_of(route.request):
            yield place, body


async def test_no_field_of_any_route_leads_to_a_file_outside(hub: RunningHub, tmp_path: Path) -> None:
    """Over the whole table of routes: a route that is added is asked, too."""
    before = everything(tmp_path / "open")
    asked: list[tuple[str, str, str, int]] = []
    wrong: list[tuple[str, str, str, int]] = []

    async def ask(route: Route, target: str, body: object, name: str) -> None:
        place = target.replace("MARK", quote(name, safe="/" if "{path}" in route.path else ""))
        sent = {} if body is None else {"data": json.dumps(body).replace('"MARK"', json.dumps(name))}
        headers = {**hub.bearer("admin"), "Content-Type": "application/json", "Accept": "application/json"}
        url = URL(hub.url + place, encoded=True)
        async with hub.client.request(route.method, url, headers=headers, allow_redirects=False, **sent) as answer:
            raw = b"" if answer.content_type == "text/event-stream" else await answer.content.read(1 << 20)
        found = (route.method, route.path, name, answer.status)
        asked.append(found)
        if answer.status == 500 or SECRET.encode() in raw or b"root:x:0:0" in raw:
            wrong.append(found)

    for route in ROUTES:
        if route.method == "GET" and SSE in route.produces and JSON not in route.produces:
            continue  # a stream names no file, and never ends
        for target, body in requests_of(route):
            await asyncio.gather(*(ask(route, target, body, name) for name in NASTY))

    assert wrong == []
    assert {path for _, path, _, _ in asked} >= {route.path for route in ROUTES if "{path}" in route.path}
    assert len(asked) >= 80 * len(NASTY), "every route with a place for a text was asked"
    after = everything(tmp_path / "open")
    root = str(tmp_path / "open" / "p")
    assert {name: after[name] for name in before} == before
    assert [name for name in after.keys() - before.keys() if not name.startswith(root)] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "open"]
