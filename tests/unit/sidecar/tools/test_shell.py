from typing import Any

import pytest

from sidecar.tools import tools
from sidecar.tools.base import Tool, clip
from tests.support.attempts import Bench


@pytest.fixture
def run(bench: Bench) -> Tool[Any]:
    return tools(bench.cell, seconds_left=lambda: 20.0, log=bench.log)["run"]


async def test_a_command_runs_in_the_workspace_and_shows_its_output(run: Tool[Any], bench: Bench) -> None:
    answer = await run.call({"command": "pwd; exit 3"})

    assert answer == f"exit code 3\n{bench.workspace}\n"
    assert str(bench.workspace) in bench.output


async def test_a_command_that_takes_too_long_is_ended(run: Tool[Any]) -> None:
    answer = await run.call({"command": "echo first; sleep 60", "timeout_s": 0.3})

    assert answer.startswith("ended after 0.3 s, it took too long\nfirst\n")


async def test_no_command_outlives_the_attempt(bench: Bench) -> None:
    short = tools(bench.cell, seconds_left=lambda: 0.2, log=bench.log)["run"]

    assert (await short.call({"command": "sleep 60"})).startswith("ended after 0.2 s")


async def test_of_long_output_the_end_is_shown(run: Tool[Any]) -> None:
    answer = await run.call({"command": "seq 1 100000"})

    assert answer.endswith("100000\n")
    assert "earlier bytes left out" in answer
    assert len(answer) <= 24 << 10


@pytest.mark.parametrize("arguments", [{"command": " ", "timeout_s": 0}, {"command": "a\0b", "timeout_s": 1e9}])
async def test_bad_arguments_are_all_named(run: Tool[Any], arguments: dict[str, Any]) -> None:
    answer = await run.call(arguments)

    assert answer.startswith("error: arguments has 2 problems: command: ")
    assert "timeout_s: " in answer


def test_a_text_is_cut_in_the_middle_and_stays_valid() -> None:
    cut = clip("é" * 1000, 500)

    assert len(cut.encode()) <= 500
    assert cut.startswith("é")
    assert cut.endswith("é")
    assert "left out" in cut
    assert clip("short") == "short"
    assert clip("half \ud800") == "half ?"
