"""Work counts when another machine has fetched what was pushed and found that its checks pass, too."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.git_server import git_server
from tests.support.mesh import Mesh, mesh, until
from tests.support.repositories import make_remote

CHECK: Final = {"type": "command_succeeds", "command": "python3 -c 'import made; made.check()'"}
FILES: Final = {".gitignore": "hidden.py\n", "README": "hello\n"}
HONEST: Final = "printf 'def check():\\n    pass\\n' > made.py"
HIDES: Final = "printf 'from hidden import check\\n' > made.py && printf 'def check():\\n    pass\\n' > hidden.py"
"""What is delivered needs a file that git ignores: it is there only where the work was done."""


def work(command: str, repo: Path | str, **more: Any) -> dict[str, Any]:
    return {"command": command, "context": {"repo": str(repo)}, "verification": [CHECK], "max_retries": 0, **more}


def kinds(running: Mesh, task: str) -> list[str]:
    told = running.call("GET", f"/api/v1/tasks/{task}/events")["events"]
    return [event["kind"] for event in told if event["kind"].startswith(("task_pro", "task_ref", "task_unp"))]


@pytest.mark.timeout(240)
def test_what_passes_only_where_it_was_done_fails_and_what_passes_elsewhere_counts(tmp_path: Path) -> None:
    origin = make_remote(tmp_path, FILES).path
    with mesh(tmp_path, lease_s=30.0, heartbeat_s=1.0) as running:
        running.start_sidecar("Maker", "--host", "one")
        running.start_sidecar("Twin", "--host", "one")
        running.wait_agents("Maker", "Twin")
        kept = running.submit(**work(HONEST, origin, clean_room="always"))
        self_proven, free = (running.submit(**work(HIDES, origin, clean_room=mode)) for mode in ("never", "auto"))
        for done in running.wait(self_proven, free):  # a path of one machine is in nobody else's reach
            assert (done["state"], done["verified"], done["proof"]) == ("completed", True, None), done
        until(lambda: (running.task(kept)["proof"] or {}).get("state") == "waits", "it waits for another machine")
        why = running.call("GET", f"/api/v1/tasks/{kept}/explain")
        assert why["summary"].startswith("its checks passed on one, and another machine has to prove it"), why
        assert why["unblock"][0].startswith("start a sidecar on a machine other than one"), why
        assert {"is on the machine that did the work, and another one has to prove it"} == {
            reason for agent in why["agents"] for reason in agent["reasons"]
        }

        running.start_sidecar("Other", "--host", "two")
        (proven,) = running.wait(kept)
        assert (proven["state"], proven["verified"], proven["agent"] in {"Maker", "Twin"}) == ("completed", True, True)
        proof, result = proven["proof"], proven["result"]
        assert (proof["state"], proof["host"], proof["by_host"], proof["by_agent"]) == ("proven", "one", "two", "Other")
        assert [found["passed"] for found in proof["report"]] == [True]
        assert result["pushed"]
        assert [attempt["accepted"] for attempt in proven["attempts"]] == [True, False]
        assert kinds(running, kept) == ["task_proving", "task_proven"]

        hidden = running.submit(**work(HIDES, origin, clean_room="always"))
        (refuted,) = running.wait(hidden)
        assert (refuted["state"], refuted["verified"], refuted["result"]["verified"]) == ("failed", False, False)
        assert (refuted["proof"]["state"], refuted["proof"]["host"] != refuted["proof"]["by_host"]) == ("refuted", True)
        assert "hidden" in str(refuted["proof"]["report"]), refuted["proof"]
        assert refuted["reason"].startswith("its checks passed on "), refuted["reason"]
        assert kinds(running, hidden) == ["task_proving", "task_refuted"]


@pytest.mark.timeout(240)
def test_by_default_another_machine_that_is_there_proves_what_was_pushed(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as server:
        env = {"AGENTCOM_GIT_CA_FILE": str(server.ca_file)}
        with mesh(tmp_path, lease_s=30.0, heartbeat_s=1.0, hub_env=env) as running:
            running.call("POST", "/api/v1/projects", {"name": "site", "repository": server.with_login()})
            check = {"type": "command_succeeds", "command": "test -e made"}
            spec = {"project": "site", "command": "touch made", "verification": [check], "max_retries": 0}
            running.start_sidecar("Maker", "--host", "one")
            running.wait_agents("Maker")
            (alone,) = running.wait(running.submit(**spec))
            assert (alone["state"], alone["proof"]) == ("completed", None), "one machine is believed, as ever"

            running.start_sidecar("Other", "--host", "two")
            running.wait_agents("Maker", "Other")
            (kept,) = running.wait(running.submit(**spec, clean_room="never"))
            assert (kept["state"], kept["proof"]) == ("completed", None)
            task = running.submit(**spec)
            (proven,) = running.wait(task)
            proof = proven["proof"]
            assert (proven["state"], proven["verified"], proof["state"]) == ("completed", True, "proven")
            assert {proof["host"], proof["by_host"]} == {"one", "two"}
            assert server.remote.tip(proven["result"]["branch"]) == proven["result"]["commit"]
            pushed = [branch for branch in server.remote.branches() if task in branch]
            assert pushed == [proven["result"]["branch"]], "a proof pushes nothing"
