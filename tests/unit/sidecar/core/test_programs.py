import pytest

from protocol.errors import BadInput
from sidecar.core.programs import KNOWN, AgentProgram, usual, wanted_in


def test_a_known_agent_needs_no_command_and_any_other_does() -> None:
    assert AgentProgram("opencode").command == ("opencode", "acp")
    assert AgentProgram("opencode", ("mine",)).command == ("mine",)
    assert AgentProgram("mine", ("mine",)).capability == "agent:mine"
    assert [program.name for program in usual()] == list(KNOWN)


@pytest.mark.parametrize(
    "fields, paths",
    [
        ({"name": "mine"}, ["command"]),
        ({"name": "a b", "command": ("x",)}, ["name"]),
        ({"name": "x" * 41, "command": ("",)}, ["name", "command"]),
        ({"name": "mine", "command": ("x", "a\0b")}, ["command"]),
        ({"name": "codex", "env": {"A=B": "x", "": "y", "C": "a\0"}}, ["env", "env", "env"]),
        ({"name": "codex", "denies": ("edit", "everything")}, ["denies"]),
        ({"name": "codex", "silence_s": 0.5}, ["silence_s"]),
        ({"name": "codex", "silence_s": float("nan")}, ["silence_s"]),
    ],
)
def test_what_cannot_work_is_refused_all_at_once(fields: dict[str, object], paths: list[str]) -> None:
    with pytest.raises(BadInput) as refused:
        AgentProgram(**fields)  # type: ignore[arg-type]  # fields by name

    assert [problem.path for problem in refused.value.problems] == paths


def test_a_task_names_agents_among_its_needs() -> None:
    assert wanted_in(("gpu", "agent:mine", "agent", "agent:")) == ("mine", "")
