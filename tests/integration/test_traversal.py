"""No field of the API that names a file leads out of its place, whatever is written into it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

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
