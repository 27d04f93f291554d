import os
import sys
from pathlib import Path

from sidecar.bundled import RUNNER, resolved
from sidecar.core.programs import AgentProgram


def test_an_agent_that_comes_as_a_package_is_started_by_our_interpreter_and_seen_inside() -> None:
    found = resolved(AgentProgram("claude-sdk", reads=("/opt/x",)), package="json")  # any package stands for it

    assert found is not None
    site = str(Path(os.__file__).parent)
    assert found.command == (os.path.realpath(sys.executable), "-I", str(RUNNER), site)
    assert found.reads == ("/opt/x", site, str(RUNNER))
    assert RUNNER.is_file()


def test_without_its_package_it_is_not_here_and_others_stay_as_they_are() -> None:
    mine = AgentProgram("mine", ("mine",))

    assert resolved(AgentProgram("claude-sdk"), package="no_such_package") is None
    assert resolved(mine) is mine
    other = AgentProgram("claude-sdk", ("another", "program"))
    assert resolved(other) is other
