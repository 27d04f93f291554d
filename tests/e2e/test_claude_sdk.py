"""The Claude Agent SDK, where it is installed, repairs a repository; only its maker's server is a stand-in."""

import importlib.util
from pathlib import Path

import pytest

from sidecar.sandbox.cell import Level
from tests.support.claude_server import COST_USD, KEY, claude_server
from tests.support.levels import need
from tests.support.mesh import Mesh
from tests.support.repositories import CALC, TEST_OF_CALC, make_remote

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("claude_agent_sdk") is None, reason="the extra 'claude' (400 MB) is not installed"
    ),
]


def test_the_claude_agent_sdk_repairs_a_repository_and_never_sees_the_key(tmp_path: Path) -> None:
    need(Level.BUBBLEWRAP)
    command = {"command": "sed -i 's/a - b/a + b/' calc.py && env", "description": "Mend it"}
    origin = make_remote(tmp_path, {"calc.py": CALC, "test_calc.py": TEST_OF_CALC})
    running = Mesh(tmp_path / "mesh", heartbeat_s=2.0, lease_s=60.0)
    with claude_server({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": command}) as (url, asked):
        try:
            running.start_hub()
            env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url}
            running.start_sidecar("One", "--sandbox-endpoint", "claude", env=env)
            running.wait_agents("One")
            task = running.submit(
                title="Repair add",
                executor="acp",
                needs=["agent:claude-sdk"],
                model="claude-sonnet-5",
                context={"repo": str(origin.path)},
                verification=[{"type": "test_passes", "command": "python3 -m unittest -q"}],
                budget={"usd": 1.0},
            )
            (done,) = running.wait(task, timeout_s=280)
        finally:
            running.stop()

    result, usage = done["result"], done["result"]["usage"]
    assert done["state"] == "completed", f"{result}\n{running.logs()}"
    assert result["verified"] is True
    assert "a + b" in origin.show(result["branch"], "calc.py")
    assert "> Bash sed -i" in result["output"]
    assert "Mended." in result["output"]
    assert (usage["model"], usage["endpoint"]) == ("claude-sonnet-5", "claude")
    assert (usage["input_tokens"], usage["output_tokens"]) == (1_500 * len(asked), 100 * len(asked))
    assert set(asked) != {"claude-sonnet-5"} or usage["cost_usd"] == pytest.approx(len(asked) * COST_USD)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
