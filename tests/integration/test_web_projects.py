"""Projects over real HTTP: registered, inherited from, their files and their repositories."""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.repositories import Remote, arm, make_remote
from tests.support.running_hub import RunningHub, running_hub

API = "/api/v1/projects"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    (tmp_path / "open" / "notes").mkdir(parents=True)
    async with running_hub(tmp_path / "hub", project_roots=[str(tmp_path / "open")]) as running:
        yield running


@pytest.fixture
def remote(tmp_path: Path, hub: RunningHub) -> Remote:
    del hub
    return make_remote(tmp_path / "open", {"README.md": "# A project\n", "src/a.py": "print(1)\n"})


async def ask(hub: RunningHub, method: str, path: str, wanted: int = 200, *, role: str = "admin", **more: Any) -> Any:  # noqa: ANN401 - JSON
    answer = await hub.ask(method, path, role=role, **more)
    text = await answer.text()
    assert answer.status == wanted, text
    return await answer.json() if text else None


async def cloned(hub: RunningHub, remote: Remote, **fields: object) -> str:
    await ask(hub, "POST", API, 201, json={"name": "p", "repository": str(remote.path), **fields})
    await ask(hub, "POST", f"{API}/p/git/clone")
    return f"{API}/p"


# --- registered -------------------------------------------------------------------------------------------------------


async def test_a_project_is_kept_over_a_restart(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        body = {"name": "p", "repository": "https://example.org/r.git", "priority": "high", "default": True}
        made = await ask(hub, "POST", API, 201, json=body)
    async with running_hub(tmp_path) as hub:
        assert await ask(hub, "GET", f"{API}/p") == made
        assert (await ask(hub, "GET", API))["projects"] == [made]


async def test_only_one_project_is_the_default(hub: RunningHub) -> None:
    for name in ("a", "b"):
        await ask(hub, "POST", API, 201, json={"name": name, "repository": "git@example.org:r", "default": True})

    found = (await ask(hub, "GET", API))["projects"]
    assert [(project["name"], project["default"]) for project in found] == [("a", False), ("b", True)]


@pytest.mark.parametrize(
    "body, path",
    [
        ({"name": "a/b", "repository": "git@h:r"}, "name"),
        ({"name": "..", "repository": "git@h:r"}, "name"),
        ({"name": "x"}, "repository"),
        ({"name": "x", "repository": "ext::sh -c id"}, "repository"),
        ({"name": "x", "repository": "--upload-pack=id"}, "repository"),
        ({"name": "x", "repository": "ssh://u:secret@h/r"}, "repository"),
        ({"name": "x", "directory": "relative"}, "directory"),
        ({"name": "x", "repository": "git@h:r", "branch": "-x"}, "branch"),
        ({"name": "x", "repository": "git@h:r", "defaults": {"executor": "magic"}}, "defaults.executor"),
        ({"name": "x", "repository": "git@h:r", "defaults": {"budget": {"seconds": -1}}}, "defaults.budget.seconds"),
    ],
)
async def test_what_is_no_project_is_refused_and_not_kept(hub: RunningHub, body: dict[str, Any], path: str) -> None:
    problem = await ask(hub, "POST", API, 422, json=body)

    assert path in [error["path"] for error in problem["errors"]]
    assert "secret" not in str(problem)
    assert (await ask(hub, "GET", API))["projects"] == []


async def test_a_directory_is_only_taken_where_the_owner_has_opened_the_disk(hub: RunningHub, tmp_path: Path) -> None:
    (tmp_path / "open" / "link").symlink_to(tmp_path)
    for closed in ("/etc", str(tmp_path), str(tmp_path / "hub"), str(tmp_path / "open" / "link"), "/"):
        problem = await ask(hub, "POST", API, 409, json={"name": "x", "directory": closed})
        assert problem["code"] == "not_open"
    await ask(hub, "POST", API, 422, json={"name": "x", "directory": str(tmp_path / "open" / "missing")})

    await ask(hub, "POST", API, 201, json={"name": "notes", "directory": str(tmp_path / "open" / "notes")})
    assert (await ask(hub, "POST", f"{API}/notes/git/clone", 409))["code"] == "conflict"
    await ask(hub, "PUT", f"{API}/notes/files/today.md", 201, data=b"x")
    assert (tmp_path / "open" / "notes" / "today.md").read_bytes() == b"x"


async def test_a_local_repository_is_only_cloned_where_the_owner_has_opened_the_disk(
    hub: RunningHub, tmp_path: Path
) -> None:
    elsewhere = make_remote(tmp_path, {"a": "b"}, name="elsewhere")
    await ask(hub, "POST", API, 201, json={"name": "p", "repository": str(elsewhere.path)})

    assert (await ask(hub, "POST", f"{API}/p/git/clone", 409))["code"] == "not_open"


async def test_credentials_go_in_and_never_come_out(hub: RunningHub, tmp_path: Path) -> None:
    secret = "s3cr3t-t0ken"
    address = f"https://someone:{secret}@127.0.0.1:1/r.git"
    made = await ask(hub, "POST", API, 201, json={"name": "p", "repository": address})
    failed = await ask(hub, "POST", f"{API}/p/git/clone", 502)
    events = await (await hub.ask("GET", "/api/v1/events", headers={"Accept": "application/json"})).text()
    submitted = await ask(hub, "POST", "/api/v1/tasks", 422, json={"title": "x", "context": {"repo": address}})

    assert made["repository"] == "https://127.0.0.1:1/r.git"
    assert made["has_credential"]
    assert secret not in str(failed) + events + str(submitted)
    assert "project_added" in events
    (login,) = (tmp_path / "hub" / "projects" / "p" / "logins").iterdir()
    assert login.stat().st_mode & 0o777 == 0o600
    store = [file for file in (tmp_path / "hub").glob("hub.sqlite*") if secret.encode() in file.read_bytes()]
    assert store == []
    changed = await ask(hub, "PATCH", f"{API}/p", json={"repository": "https://127.0.0.1:1/r.git"})
    assert not changed["has_credential"]


async def test_credentials_that_an_older_version_kept_by_project_are_kept_by_address(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        address = "https://someone:s3cr3t@example.org/r.git"
        await ask(hub, "POST", API, 201, json={"name": "p", "repository": address})
        (login,) = (tmp_path / "projects" / "p" / "logins").iterdir()
    login.rename(tmp_path / "projects" / "p" / "login")
    async with running_hub(tmp_path) as hub:
        found = await ask(hub, "GET", f"{API}/p")

    assert found["has_credential"]
    assert login.read_text() == "username=someone\npassword=s3cr3t\n"


async def test_credentials_are_for_one_address_and_never_go_to_another(hub: RunningHub, tmp_path: Path) -> None:
    """Also when another hub has changed the address, or this one died between the change and what follows it."""
    body = {"name": "p", "repository": "https://someone:s3cr3t@example.org/r.git"}
    await ask(hub, "POST", API, 201, json=body)
    kept = tmp_path / "hub" / "projects" / "p" / "logins"
    (login,) = kept.iterdir()
    changed = await ask(hub, "PATCH", f"{API}/p", json={"repository": "https://elsewhere.example/r.git"})
    forgotten = list(kept.iterdir())
    login.write_text("username=someone\npassword=s3cr3t\n")  # as if nobody had come to forget it

    assert not changed["has_credential"]
    assert forgotten == []
    assert not (await ask(hub, "GET", f"{API}/p"))["has_credential"]
    back = await ask(hub, "PATCH", f"{API}/p", json={"repository": "https://a:b@elsewhere.example/r.git"})
    assert back["has_credential"]
    assert [file.read_text() for file in kept.iterdir()] == ["username=a\npassword=b\n"]


async def test_changes_at_the_same_time_all_count_and_none_fails(hub: RunningHub) -> None:
    await ask(hub, "POST", API, 201, json={"name": "p", "repository": "https://example.org/r.git"})
    secret = {"repository": "https://u:p@example.org/r.git"}
    patches: list[dict[str, Any]] = [secret, {"branch": "dev"}, secret, {"description": "x"}, {"priority": "high"}]
    answers = await asyncio.gather(*(hub.ask("PATCH", f"{API}/p", json=patch) for patch in patches))

    assert [answer.status for answer in answers] == [200] * 5
    now = await ask(hub, "GET", f"{API}/p")
    assert (now["branch"], now["description"], now["priority"], now["has_credential"]) == ("dev", "x", "high", True)
    assert now["version"] == 6


async def test_a_change_of_what_was_read_is_refused_when_it_was_changed_since(hub: RunningHub) -> None:
    await ask(hub, "POST", API, 201, json={"name": "p", "repository": "https://example.org/r.git"})
    read = (await hub.ask("GET", f"{API}/p")).headers["ETag"]
    first = await hub.ask("PATCH", f"{API}/p", json={"branch": "a"}, headers={"If-Match": read})
    late = await ask(hub, "PATCH", f"{API}/p", 412, json={"branch": "b"}, headers={"If-Match": read})
    odd = await ask(hub, "DELETE", f"{API}/p", 412, headers={"If-Match": "W/odd"})

    assert (read, first.status, first.headers["ETag"]) == ('"1"', 200, '"2"')
    assert (late["code"], odd["code"]) == ("changed_since", "changed_since")
    assert (await ask(hub, "GET", f"{API}/p"))["branch"] == "a"
    await ask(hub, "DELETE", f"{API}/p", 204, headers={"If-Match": '"2"'})


async def test_of_two_that_register_one_name_at_once_one_is_told_that_it_is_taken(hub: RunningHub) -> None:
    bodies = [{"name": "p", "repository": f"https://u:{n}@example.org/{n}.git"} for n in range(5)]
    answers = await asyncio.gather(*(hub.ask("POST", API, json=body) for body in bodies))

    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]
    (kept,) = (await ask(hub, "GET", API))["projects"]
    winner = next(n for n, answer in enumerate(answers) if answer.status == 201)
    assert (kept["repository"], kept["has_credential"]) == (f"https://example.org/{winner}.git", True)


# --- tasks ------------------------------------------------------------------------------------------------------------


async def test_a_task_inherits_what_it_does_not_say_itself(hub: RunningHub) -> None:
    body = {
        "name": "p",
        "repository": "https://example.org/r.git",
        "branch": "dev",
        "priority": "high",
        "defaults": {
            "needs": ["gpu"],
            "budget": {"seconds": 60, "fix_attempts": 0},
            "verification": [{"type": "command_succeeds", "command": "make"}],
            "labels": {"team": "a"},
        },
    }
    await ask(hub, "POST", API, 201, json=body)
    whole = {"title": "x", "project": "p", "budget": {"seconds": 5}, "priority": "normal", "context": {"notes": "n"}}
    task = (await ask(hub, "POST", "/api/v1/tasks", 201, json=whole))["id"]
    own = {"title": "y", "project": "p", "context": {"repo": "https://example.org/own.git"}}
    other = (await ask(hub, "POST", "/api/v1/tasks", 201, json=own))["id"]

    spec = (await ask(hub, "GET", f"/api/v1/tasks/{task}"))["spec"]
    assert spec["context"] == {"repo": "https://example.org/r.git", "branch": "dev", "notes": "n"}
    assert spec["budget"] == {"seconds": 5.0, "fix_attempts": 0}
    assert "priority" not in spec, "normal, as the task says"
    assert spec["needs"] == ["gpu"]
    assert spec["labels"] == {"project": "p", "team": "a"}
    assert spec["verification"][0]["command"] == "make"
    view = await ask(hub, "GET", f"/api/v1/tasks/{other}")
    assert view["spec"]["context"] == {"repo": "https://example.org/own.git"}
    assert view["priority"] == "high"
    listed = await ask(hub, "GET", "/api/v1/tasks?label=project:p")
    assert len(listed["tasks"]) == 2


async def test_a_task_without_a_project_inherits_from_the_default_one(hub: RunningHub) -> None:
    plain = await ask(hub, "POST", "/api/v1/tasks", 201, json={"title": "x"})
    await ask(hub, "POST", API, 201, json={"name": "p", "repository": "git@h:r", "priority": "low", "default": True})
    two = await ask(hub, "POST", "/api/v1/tasks", 201, json={"tasks": [{"title": "x"}, {"title": "y"}]})
    unknown = await ask(hub, "POST", "/api/v1/tasks", 422, json={"tasks": [{"title": "x", "project": "q"}]})

    assert plain["priority"] == "normal"
    assert [task["priority"] for task in two["tasks"]] == ["low", "low"]
    assert unknown["errors"][0]["path"] == "tasks[0].project"


# --- files ------------------------------------------------------------------------------------------------------------


async def test_files_are_written_read_listed_and_removed(hub: RunningHub, remote: Remote) -> None:
    place = await cloned(hub, remote)
    content = bytes(range(256)) * 3000
    written = await ask(hub, "PUT", f"{place}/files/data/b%C3%A4r.bin", 201, data=content)
    again = await ask(hub, "PUT", f"{place}/files/data/bär.bin", 200, data=content)
    async with hub.client.get(f"{hub.url}{place}/files/data/bär.bin", headers=hub.bearer("viewer")) as raw:
        got = await raw.read()
    view = await ask(hub, "GET", f"{place}/files/data/bär.bin", headers={"Accept": "application/json"})

    assert written["created"]
    assert not again["created"]
    assert got == content
    assert raw.headers["Content-Disposition"] == "attachment"
    assert "sandbox" in raw.headers["Content-Security-Policy"]
    assert base64.b64decode(view["content"]) == content
    assert view["sha256"] == written["sha256"]
    listed = await ask(hub, "GET", f"{place}/files")
    assert [(entry["path"], entry["kind"]) for entry in listed["files"]] == [
        ("README.md", "file"),
        ("data", "directory"),
        ("src", "directory"),
    ]
    first = await ask(hub, "GET", f"{place}/files?limit=1")
    rest = await ask(hub, "GET", f"{place}/files?limit=5&cursor={first['next_cursor']}")
    assert [entry["path"] for entry in first["files"] + rest["files"]] == ["README.md", "data", "src"]
    await ask(hub, "DELETE", f"{place}/files/data", 422)
    await ask(hub, "DELETE", f"{place}/files/data/bär.bin", 204)
    await ask(hub, "DELETE", f"{place}/files/data", 204)
    await ask(hub, "GET", f"{place}/files/data/bär.bin", 422)


async def test_a_viewer_reads_and_does_not_write_and_a_submitter_does_not_push(hub: RunningHub, remote: Remote) -> None:
    place = await cloned(hub, remote)

    assert (await hub.ask("GET", f"{place}/files/README.md", role="viewer")).status == 200
    await ask(hub, "PUT", f"{place}/files/x", 403, role="viewer", data=b"x")
    await ask(hub, "PUT", f"{place}/files/x", 201, role="submitter", data=b"x")
    await ask(hub, "POST", f"{place}/git/push", 403, role="submitter")
    await ask(hub, "DELETE", place, 403, role="submitter")


async def test_a_link_in_a_repository_is_not_followed(hub: RunningHub, remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    (remote.clone / "link").symlink_to(tmp_path / "secret")
    (remote.clone / "up").symlink_to(tmp_path)
    remote.commit({"b": "c"})
    place = await cloned(hub, remote)

    for path in ("link", "up/secret"):
        assert "outside" not in str(await ask(hub, "GET", f"{place}/files/{path}", 422))
        await ask(hub, "PUT", f"{place}/files/{path}", 422, data=b"x")
    await ask(hub, "GET", f"{place}/files?path=up", 422)
    assert (tmp_path / "secret").read_text() == "outside"
    await ask(hub, "DELETE", f"{place}/files/link", 204)
    assert (tmp_path / "secret").exists()


# --- git --------------------------------------------------------------------------------------------------------------


async def test_work_goes_from_a_clone_over_a_branch_to_the_remote(hub: RunningHub, remote: Remote) -> None:
    place = await cloned(hub, remote)
    await ask(hub, "POST", f"{place}/git/branch", 201, json={"name": "feature/x"})
    await ask(hub, "POST", f"{place}/git/checkout", json={"branch": "feature/x"})
    await ask(hub, "PUT", f"{place}/files/src/b.py", 201, data=b"print(2)\n")
    await ask(hub, "PUT", f"{place}/files/other.txt", 201, data=b"not this one")
    assert (await ask(hub, "POST", f"{place}/git/commit", 409, json={"message": "x"}))["code"] == "git_refused"
    added = await ask(hub, "POST", f"{place}/git/add", json={"paths": ["src/b.py"]})
    made = await ask(
        hub, "POST", f"{place}/git/commit", 201, json={"message": "Add b", "author": "A B <a@example.org>"}
    )
    pushed = await ask(hub, "POST", f"{place}/git/push")

    assert {change["path"]: change["staged"] for change in added["changes"]} == {"src/b.py": "A", "other.txt": "?"}
    assert made["files"] == ["src/b.py"]
    assert pushed == {"branch": "feature/x", "commit": made["commit"], "repository": str(remote.path)}
    assert remote.tip("feature/x") == made["commit"]
    assert remote.show("feature/x", "src/b.py") == "print(2)"
    told = await ask(hub, "GET", f"{place}/git")
    assert (told["branch"], told["unpushed"]) == ("feature/x", 0)
    assert told["remote_branches"] == ["feature/x", "main"]
    assert (await ask(hub, "DELETE", place, 409))["detail"].startswith("project p: 1 files have changes")
    await ask(hub, "DELETE", f"{place}?force=true", 204)
    await ask(hub, "GET", place, 404)


async def test_a_push_never_overwrites_what_others_have_pushed(hub: RunningHub, remote: Remote) -> None:
    place = await cloned(hub, remote)
    theirs = remote.commit({"theirs": "x"})
    await ask(hub, "PUT", f"{place}/files/ours", 201, data=b"x")
    await ask(hub, "POST", f"{place}/git/add")
    await ask(hub, "POST", f"{place}/git/commit", 201, json={"message": "Ours"})

    assert (await ask(hub, "POST", f"{place}/git/push", 409))["code"] == "push_refused"
    assert remote.tip("main") == theirs
    fetched = await ask(hub, "POST", f"{place}/git/clone")
    assert fetched["unpushed"] == 1


async def test_an_empty_repository_gets_its_first_commit(hub: RunningHub, tmp_path: Path) -> None:
    remote = make_remote(tmp_path / "open", {}, name="empty")
    place = await cloned(hub, remote)
    await ask(hub, "PUT", f"{place}/files/README.md", 201, data=b"hello\n")
    await ask(hub, "POST", f"{place}/git/add")
    await ask(hub, "POST", f"{place}/git/commit", 201, json={"message": "Start"})
    await ask(hub, "POST", f"{place}/git/push", json={"branch": "main"})

    assert remote.show("main", "README.md") == "hello"


async def test_a_repository_that_somebody_wrote_makes_no_push_run_anything(
    hub: RunningHub, remote: Remote, tmp_path: Path
) -> None:
    """Whoever may write files of a directory project can have made the repository that another project names."""
    place = await cloned(hub, remote)
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    arm(remote.path, trap)
    await ask(hub, "PUT", f"{place}/files/x", 201, data=b"x")
    await ask(hub, "POST", f"{place}/git/add")
    await ask(hub, "POST", f"{place}/git/commit", 201, json={"message": "x"})
    await ask(hub, "POST", f"{place}/git/push")

    assert remote.show("main", "x") == "x"
    assert not (tmp_path / "sprung").exists()


async def test_nothing_is_pushed_where_the_disk_is_not_open_any_more(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    remote = make_remote(tmp_path / "open")
    async with running_hub(tmp_path / "hub", project_roots=[str(tmp_path / "open")]) as hub:
        await cloned(hub, remote)
    async with running_hub(tmp_path / "hub") as hub:
        assert (await ask(hub, "POST", f"{API}/p/git/push", 409))["code"] == "not_open"


@pytest.mark.parametrize(
    "call, body, status",
    [
        ("branch", {"name": "-d"}, 422),
        ("branch", {"name": "a..b"}, 422),
        ("branch", {"name": "main"}, 409),
        ("branch", {"name": "x", "start": "--output=/tmp/x"}, 422),
        ("branch", {"name": "x", "start": "nowhere"}, 404),
        ("checkout", {"branch": "--orphan"}, 422),
        ("checkout", {"branch": "nowhere"}, 404),
        ("add", {"paths": ["-A", "../x"]}, 422),
        ("add", {"paths": ["nowhere"]}, 409),
        ("add", {"paths": [":(top)"]}, 409),
        ("commit", {"message": " "}, 422),
        ("commit", {"message": "x", "author": "--amend"}, 422),
        ("push", {"branch": "+main"}, 404),
        ("push", {"branch": "nowhere"}, 404),
    ],
)
async def test_what_git_would_take_for_something_else_is_refused(
    hub: RunningHub, remote: Remote, call: str, body: dict[str, Any], status: int
) -> None:
    place = await cloned(hub, remote)

    await ask(hub, "POST", f"{place}/git/{call}", status, json=body)


async def test_calls_on_one_project_wait_for_one_another(hub: RunningHub, remote: Remote) -> None:
    place = await cloned(hub, remote)

    async def change(number: int) -> None:
        await ask(hub, "PUT", f"{place}/files/f{number}", 201, data=b"x")
        await ask(hub, "POST", f"{place}/git/add", json={"paths": [f"f{number}"]})

    await asyncio.gather(*(change(number) for number in range(8)))
    made = await ask(hub, "POST", f"{place}/git/commit", 201, json={"message": "All"})
    assert len(made["files"]) == 8
