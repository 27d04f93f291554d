"""A repair by a coding agent of somebody else, from submission to the pushed branch: red, fix, green, in a sandbox."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from sidecar.sandbox.cell import Level
from tests.support.claude_server import COST_USD, KEY, claude_server
from tests.support.levels import need
from tests.support.mesh import Mesh, until, work_of
from tests.support.repositories import CALC, TEST_OF_CALC, make_remote

AGENT: Final = Path(__file__).parents[1] / "support" / "acp_agent.py"
TESTS: Final = [{"type": "test_passes", "command": "python3 -m unittest -q"}]


pytestmark = pytest.mark.timeout(300)  # what plays the agent takes a second of processor time to start


class Stage(Mesh):
    """A mesh whose sidecar has one scripted agent, and the key of a model for it."""

    claude = "http://127.0.0.1:9"

    def offer(self, name: str, *prompts: list[dict[str, Any]], **more: Any) -> None:
        """Start a sidecar that has it."""
        folder = self.folder.parent / f"script-{name}"
        folder.mkdir()
        self.script = folder / "script.json"
        self.play(*prompts, **more)
        command = json.dumps([sys.executable, str(AGENT), str(self.script)])
        config = folder / "sidecar.toml"
        claude = f'[[endpoints]]\nid = "claude"\nkind = "anthropic"\nurl = "{self.claude}"\napi_key = "{KEY}"\n'
        agent = f'[[agents]]\nname = "scripted"\ncommand = {command}\n'
        config.write_text(f'sandbox_endpoints = ["claude"]\n{claude}{agent}')
        # Where the tests and the package that plays the agent lie; an agent that is installed needs none of it.
        seen = {AGENT.parents[2], *(Path(each) for each in sys.path if each.endswith("site-packages"))}
        reads = [flag for folder in sorted(seen) for flag in ("--sandbox-read", str(folder))]
        self.start_sidecar(name, "--config", str(config), *reads)
        self.wait_agents(name)

    def play(self, *prompts: list[dict[str, Any]], **more: Any) -> None:
        """What it does from its next start on."""
        self.script.write_text(json.dumps({"prompts": prompts, **more}))

    def heard(self, what: str) -> list[dict[str, Any]]:
        """What the agent has noted."""
        lines = (self.script.parent / "heard.jsonl").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry["what"] == what]


def test_a_coding_agent_of_somebody_else_repairs_a_repository_and_never_sees_the_key(tmp_path: Path) -> None:
    need(Level.BUBBLEWRAP)
    origin = make_remote(tmp_path, {"calc.py": CALC, "test_calc.py": TEST_OF_CALC})
    running, ask = Stage(tmp_path / "mesh", heartbeat_s=2.0, lease_s=60.0), {"model": "claude-sonnet-5"}
    boast = {"count": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}}
    with claude_server() as (running.claude, asked):
        try:
            running.start_hub()
            running.offer(
                "One",
                [ask, boast, {"say": "I have looked."}],
                [
                    ask,
                    boast,
                    {"replace": {"path": "calc.py", "old": "a - b", "new": "a + b"}},
                    {"run": {"command": "python3 -m unittest -q; code=$?; env; exit $code"}},
                    {"say": "Mended."},
                ],
                resume=True,
            )
            task = running.submit(
                title="Repair add",
                executor="acp",
                needs=["agent:scripted"],
                context={"repo": str(origin.path)},
                verification=TESTS,
                budget={"usd": 1.0},
            )
            (done,) = running.wait(task, timeout_s=240)
        finally:
            running.stop()

    result, usage = done["result"], done["result"]["usage"]
    assert done["state"] == "completed", f"{result}\n{running.logs()}"
    assert result["verified"] is True
    assert [iteration["passed"] for iteration in result["iterations"]] == [False, True]
    assert result["branch"] == f"agentcom/one/repair-add-{task}-e1"
    assert "a + b" in origin.show(result["branch"], "calc.py")
    assert origin.tip(result["branch"]) == result["commit"]
    assert len(running.heard("resume")) == 1  # the second iteration went on with the session of the first
    assert "FAILED (1):" in running.heard("prompt")[1]["text"]
    assert running.heard("ran")[0]["code"] == 0
    assert done["routing"]["reason"].startswith("acp work is done by a program that asks models by itself")
    # What the server has counted, not what the agent says.
    assert asked == ["claude-sonnet-5"] * 2
    assert (usage["model"], usage["input_tokens"], usage["output_tokens"]) == ("claude-sonnet-5", 3_000, 200)
    assert usage["cost_usd"] == pytest.approx(2 * COST_USD)
    assert KEY not in running.heard("ran")[0]["output"]
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert [path.name for path in holders] == ["sidecar.toml"]  # where its owner has put it


def test_an_agent_that_dies_or_is_stopped_leaves_nothing_and_is_never_taken_for_done(tmp_path: Path) -> None:
    wanted = {"executor": "acp", "prompt": "x", "max_retries": 0, "budget": {"fix_attempts": 0}}
    begun = [{"write": {"path": "made.txt", "content": "half\n"}}, {"say": "half way"}]
    running = Stage(tmp_path / "mesh", heartbeat_s=2.0, lease_s=60.0)
    try:
        running.start_hub()
        running.offer("One", [*begun, {"crash": 7}])
        (died,) = running.wait(
            running.submit(**wanted, verification=[{"type": "file_exists", "path": "whole.txt"}]), timeout_s=240
        )
        running.play([*begun, {"hang": False}])
        stopped = running.submit(**wanted)
        until(lambda: len(running.heard("prompt")) > 1, "the agent is at work", timeout_s=240)
        running.call("POST", f"/api/v1/tasks/{stopped}/cancel")
        (cancelled,) = running.wait(stopped, timeout_s=240)
        until(lambda: not work_of(stopped), "nothing of it is left", timeout_s=240)
    finally:
        running.stop()

    assert (died["state"], cancelled["state"]) == ("failed", "cancelled"), running.logs()
    assert (died["result"]["verified"], died["result"]["execution_ok"]) == (False, False)
    assert died["result"]["error_code"] == "agent_crashed"
    assert "exit code 7" in died["result"]["iterations"][0]["summary"]
    assert "half way" in died["result"]["output"]
    assert not (cancelled["result"] or {}).get("verified")
