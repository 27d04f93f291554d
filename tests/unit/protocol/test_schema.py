"""The promise of bad input: one answer that names every problem, its place and the way out; good input passes."""

import itertools
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import limits
from protocol.model import TaskSpec, Tier
from protocol.schema import EXECUTORS, read_spec, spec_problems, utc

ID = "01hzy0m5k3v8f6c2q9w4e7r1t0"
EVERYTHING: dict[str, Any] = {
    "title": "Add a flag",
    "prompt": "Add --dry-run.",
    "command": "make",
    "executor": "agent",
    "priority": "urgent",
    "complexity": "trivial",
    "model": "qwen3:8b",
    "context": {"repo": "../r", "branch": "main", "files": ["src/a.py", "b"], "notes": "n"},
    "success_criteria": ["it works"],
    "verification": [
        {"type": "file_exists", "path": "x", "name": "there", "timeout_s": 5},
        {"type": "test_passes", "command": "pytest -q"},
        {"type": "git_clean"},
        {"type": "command_succeeds", "command": "make"},
    ],
    "needs": ["gpu", "cuda:12"],
    "budget": {"tokens": None, "usd": 0.5, "seconds": 900, "fix_attempts": 2},
    "max_retries": 3,
    "complete_by": "2026-01-31T12:00:00Z",
    "run_after": "2026-01-30T12:00:00+01:00",
    "ttl_s": 60,
    "depends_on": [ID],
    "parent": ID,
    "labels": {"team/x": "a b"},
    "save_as": "out/answer.md",
    "artifacts": ["dist/*.whl", "logs/**"],
    "project": "site",
    "escalation": "model",
    "clean_room": "always",
    "secrets": [{"name": "TOKEN", "env": "NPM_TOKEN"}],
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "learning": False,
}


def problems(value: object, path: str = "") -> dict[str, str]:
    """What is wrong, by place."""
    spec, found = read_spec(value, path)
    assert (spec is None) == bool(found)
    assert len({p.path for p in found}) == len(found), found
    return {p.path: p.problem for p in found}


@pytest.mark.parametrize(
    "value",
    [{"title": "x"}, {"command": "true"}, {"prompt": "p"}, EVERYTHING, {"title": "x", "executor": "noop"}],
    ids=["title", "command", "prompt", "everything", "noop"],
)
def test_a_good_spec_is_taken_whole(value: dict[str, Any]) -> None:
    spec, found = read_spec(value)

    assert found == []
    assert spec is not None
    assert all(getattr(spec, name) != getattr(TaskSpec(), name) or name == "max_retries" for name in value)


def test_every_field_of_a_spec_is_in_the_good_example() -> None:
    assert set(EVERYTHING) == set(TaskSpec.__struct_fields__)


def test_every_problem_is_named_at_once_whatever_its_kind() -> None:
    found = problems(
        {
            "titel": "x",
            "prompt": 5,
            "priority": "hihg",
            "complexity": "hard",
            "context": {"files": ["/etc/passwd", 7], "brnch": "x"},
            "verification": [
                {"type": "file_exist", "path": "x"},
                {"type": "file_exists"},
                {},
                5,
                {"type": "git_clean", "x": 1},
            ],
            "needs": ["a b"],
            "max_retries": 99,
            "budget": {"tokens": True, "seconds": "long"},
            "complete_by": "tomorrow",
            "labels": {"a": 1},
            "depends_on": "x",
            "parent": "x",
            "success_criteria": [["x"]],
            "executor": "shel",
        }
    )

    assert sorted(found) == sorted(
        [
            "titel",
            "prompt",
            "priority",
            "complexity",
            "context.files[1]",
            "context.brnch",
            "verification[0].type",
            "verification[1].path",
            "verification[2].type",
            "verification[3]",
            "verification[4].x",
            "needs[0]",
            "max_retries",
            "budget.tokens",
            "budget.seconds",
            "complete_by",
            "labels.a",
            "depends_on",
            "parent",
            "success_criteria[0]",
            "executor",
        ]
    )
    assert found["titel"].endswith("did you mean 'title'?")
    assert found["priority"] == "expected one of urgent, high, normal, low, found 'hihg'; did you mean 'high'?"
    assert found["context.brnch"] == "unknown field; known: branch, files, notes, repo; did you mean 'branch'?"
    assert found["verification[0].type"].endswith("found 'file_exist'; did you mean 'file_exists'?")
    assert found["verification[2].type"].endswith("it is missing")
    assert found["executor"].endswith("did you mean 'shell'?")
    assert found["budget.tokens"] == "expected a whole number, found True"
    assert found["success_criteria[0]"] == "expected a string, found a list"


@pytest.mark.parametrize(
    "field, wrong, says",
    [
        ("title", None, "expected a string, found null"),
        ("prompt", {}, "expected a string, found an object"),
        ("context", [], "expected an object, found a list"),
        ("context", None, "expected an object, found null"),
        ("verification", {}, "expected a list, found an object"),
        ("needs", "gpu", "expected a list, found a string"),
        ("labels", [1], "expected an object, found a list"),
        ("max_retries", 1.5, "expected a whole number, found 1.5"),
        ("ttl_s", "1", "expected a number, found '1'"),
        ("ttl_s", False, "expected a number, found False"),
        ("complete_by", 5, "expected a time like 2026-01-31T12:00:00Z, found 5"),
        ("run_after", [], "expected a time like 2026-01-31T12:00:00Z, found a list"),
        ("parent", 5, "expected a string, found 5"),
        ("complexity", 5, "expected one of trivial, standard, complex, found 5"),
    ],
)
def test_a_wrong_type_says_what_was_expected_and_what_was_found(field: str, wrong: object, says: str) -> None:
    assert problems({"title": "x", field: wrong})[field] == says


RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"title": " ", "prompt": "\n", "command": "\t"}, "", "nothing to do: give a title, a prompt or a command"),
    ({}, "", "nothing to do: give a title, a prompt or a command"),
    ({"prompt": "x" * (limits.MAX_PROMPT_BYTES + 1)}, "prompt", "262,145 bytes; at most 262,144"),
    ({"prompt": "é" * 131_073}, "prompt", "262,146 bytes"),
    ({"command": "x" * (limits.MAX_COMMAND_BYTES + 1)}, "command", "at most 65,536"),
    ({"context": {"notes": "x" * 262_145}}, "context.notes", "at most 262,144"),
    ({"title": "x" * 201}, "title", "201 characters; at most 200: put the rest into prompt"),
    ({"verification": [{"type": "git_clean"}] * 51}, "verification", "51 entries; at most 50"),
    ({"success_criteria": ["x"] * 51}, "success_criteria", "51 entries; at most 50"),
    ({"context": {"files": ["x"] * 501}}, "context.files", "501 entries; at most 500"),
    ({"labels": {f"l{n}": "" for n in range(51)}}, "labels", "51 entries; at most 50"),
    ({"needs": ["gpu"] * 21}, "needs", "21 entries; at most 20"),
    ({"depends_on": [ID] * 101}, "depends_on", "101 entries; at most 100"),
    ({"title": "a\0b"}, "title", "contains a NUL character"),
    ({"command": "a\0b"}, "command", "contains a NUL character"),
    ({"context": {"repo": "\0"}}, "context.repo", "contains a NUL character"),
    ({"context": {"branch": "\0"}}, "context.branch", "contains a NUL character"),
    ({"executor": "x" * 99}, "executor", "no executor 'xxx"),
    ({"executor": "shell"}, "command", "executor 'shell' needs a command"),
    ({"executor": "chat", "title": "", "command": "x"}, "prompt", "executor 'chat' needs a prompt"),
    ({"executor": "agent", "title": "", "command": "x"}, "prompt", "executor 'agent' needs a prompt"),
    ({"executor": "acp", "title": "", "command": "x"}, "prompt", "executor 'acp' needs a prompt"),
    ({"save_as": "../x"}, "save_as", "leaves the workspace; give a path inside it, like src/a.py"),
    ({"save_as": " "}, "save_as", "is empty"),
    ({"artifacts": ["a", "../x"]}, "artifacts[1]", "leaves the workspace; give a path inside it, like src/a.py"),
    ({"artifacts": ["x"] * 101}, "artifacts", "101 entries; at most 100"),
    ({"context": {"files": ["a", "/etc/passwd"]}}, "context.files[1]", "'/etc/passwd' leaves the workspace"),
    ({"context": {"files": ["~/x"]}}, "context.files[0]", "leaves the workspace"),
    ({"context": {"files": ["a/../../b"]}}, "context.files[0]", "leaves the workspace"),
    ({"context": {"files": ["a\\..\\b"]}}, "context.files[0]", "leaves the workspace"),
    ({"context": {"files": ["a\0"]}}, "context.files[0]", "at most 1024 characters, none of them NUL"),
    ({"context": {"files": ["a" * 1_025]}}, "context.files[0]", "at most 1024 characters"),
    ({"verification": [{"type": "file_exists", "path": ""}]}, "verification[0].path", "is empty"),
    ({"verification": [{"type": "file_exists", "path": "/x"}]}, "verification[0].path", "leaves the workspace"),
    ({"verification": [{"type": "test_passes", "command": " "}]}, "verification[0].command", "is empty"),
    ({"verification": [{"type": "command_succeeds", "command": "a\0"}]}, "verification[0].command", "none of them NUL"),
    ({"verification": [{"type": "test_passes", "command": "x" * 65_537}]}, "verification[0].command", "at most 65,536"),
    ({"verification": [{"type": "git_clean", "timeout_s": 0}]}, "verification[0].timeout_s", "0; more than 0"),
    ({"verification": [{"type": "git_clean", "timeout_s": 86_401}]}, "verification[0].timeout_s", "at most 86400"),
    ({"max_retries": -1}, "max_retries", "-1; from 0 to 20"),
    ({"max_retries": 21}, "max_retries", "21; from 0 to 20"),
    ({"budget": {"fix_attempts": 21}}, "budget.fix_attempts", "21; from 0 to 20"),
    ({"budget": {"tokens": 0}}, "budget.tokens", "0; from 1 to 1e+09"),
    ({"budget": {"usd": -0.01}}, "budget.usd", "-0.01; from 0 to 1e+06"),
    ({"budget": {"seconds": 0}}, "budget.seconds", "0; from 0.1 to 604800"),
    ({"ttl_s": 0}, "ttl_s", "0; from 0.001 to"),
    ({"complete_by": "2026-01-31T12:00:00"}, "complete_by", "has no time zone; write it like 2026-01-31T12:00:00Z"),
    ({"run_after": "2026-01-31T12:00:00"}, "run_after", "has no time zone"),
    (
        {"complete_by": "2026-01-31T12:00:00Z", "run_after": "2026-01-31T12:00:00Z"},
        "complete_by",
        "is not after run_after",
    ),
    ({"needs": ["gpu", "a b"]}, "needs[1]", "not a capability name: 'a b'"),
    ({"depends_on": ["x" * 99]}, "depends_on[0]", f"not a task id: {'x' * 60!r}"),
    ({"parent": "abc"}, "parent", "not a task id: 'abc'"),
    ({"labels": {"a b": "x"}}, "labels.a b", "a key of letters, digits and ._:/-"),
    ({"labels": {"a": "x" * 201}}, "labels.a", "at most 200 characters"),
    (
        {"prompt": "x" * 262_144, "context": {"notes": "x" * 262_144}},
        "",
        "bytes as a whole; at most 524,288: put bulk into the repository",
    ),
    ({"model": "x" * 201}, "model", "201 characters; at most 200"),
    ({"title": "\ud800"}, "title", "contains a half of a character pair"),
    ({"prompt": "a\udfffb"}, "prompt", "contains a half of a character pair"),
    ({"success_criteria": ["ok", "\ud800"]}, "success_criteria[1]", "contains a half of a character pair"),
    ({"context": {"notes": "\ud800"}}, "context.notes", "contains a half of a character pair"),
    ({"labels": {"a": "\ud800"}}, "labels.a", "contains a half of a character pair"),
    ({"verification": [{"type": "file_absent", "path": "../x"}]}, "verification[0].path", "leaves the workspace"),
    ({"verification": [{"type": "file_contains", "path": "a"}]}, "verification[0]", "nothing to look for"),
    (
        {"verification": [{"type": "file_contains", "path": "a", "pattern": "a\nb"}]},
        "verification[0].pattern",
        "is for one line",
    ),
    (
        {"verification": [{"type": "file_contains", "path": "a", "text": "x" * 4_097}]},
        "verification[0].text",
        "at most 4,096",
    ),
    (
        {"verification": [{"type": "json_schema", "path": "a", "schema": {"type": "nonsense"}}]},
        "verification[0].schema",
        'is no JSON schema: "nonsense"',
    ),
    (
        {"verification": [{"type": "json_schema", "path": "a", "schema": {"$ref": "http://example.org/s"}}]},
        "verification[0].schema",
        "is no JSON schema",
    ),
    (
        {"verification": [{"type": "json_schema", "path": "a", "schema": {"const": 10**30}}]},
        "verification[0].schema",
        "is no JSON schema",
    ),
    (
        {"verification": [{"type": "json_schema", "path": "a", "schema": {"const": "\0"}}]},
        "verification[0].schema",
        "contains a NUL character",
    ),
    ({"verification": [{"type": "diff_limits"}]}, "verification[0]", "no limit: give one of max_files"),
    ({"verification": [{"type": "diff_limits", "max_files": -1}]}, "verification[0].max_files", "-1; 0 to"),
    ({"verification": [{"type": "protected_paths", "paths": []}]}, "verification[0].paths", "is empty"),
    (
        {"verification": [{"type": "test_passes", "command": "x", "may_edit": ["/etc/**"]}]},
        "verification[0].may_edit[0]",
        "leaves the workspace",
    ),
    ({"verification": [{"type": "no_placeholders", "ignore": [""]}]}, "verification[0].ignore[0]", "is empty"),
    (
        {"verification": [{"type": "http_ok", "command": "x", "url": "http://example.org/"}]},
        "verification[0].url",
        "is no address like http://localhost:8000/health",
    ),
    (
        {"verification": [{"type": "http_ok", "command": " ", "url": "http://localhost"}]},
        "verification[0].command",
        "is empty",
    ),
    (
        {"verification": [{"type": "http_ok", "command": "x", "url": "http://localhost", "status": 99}]},
        "verification[0].status",
        "99; from 100 to 599",
    ),
    (
        {"verification": [{"type": "coverage_not_lower", "command": "x", "report": "/tmp/x"}]},
        "verification[0].report",
        "leaves the workspace",
    ),
    (
        {"verification": [{"type": "coverage_not_lower", "command": "x", "may_drop": -1}]},
        "verification[0].may_drop",
        "-1; from 0 to 100 percent",
    ),
    (
        {"verification": [{"type": "git_clean"}, {"type": "judge", "question": " "}]},
        "verification[1].question",
        "is empty",
    ),
    ({"verification": [{"type": "judge", "question": "?"}]}, "verification", "proves nothing by itself"),
    ({"verification": [{"type": "plugin", "plugin": "a b"}]}, "verification[0].plugin", "is no name of a plug-in"),
    (
        {"verification": [{"type": "plugin", "plugin": "a", "settings": {"x": "\0"}}]},
        "verification[0].settings",
        "contains a NUL character",
    ),
    ({"verification": [{"type": "git_clean", "name": "\ud800"}]}, "verification[0].name", "half of a character pair"),
    ({"secrets": [{"name": "../x"}]}, "secrets[0].name", "not the name of a secret: '../x'"),
    ({"secrets": [{"name": "A", "env": "A\0"}]}, "secrets[0].env", "not the name of a variable: 'A\\x00'"),
    ({"secrets": [{"name": "A", "env": "AGENTCOM_X"}]}, "secrets[0].env", "are AgentCom's own"),
    ({"project": "a b"}, "project", "not the name of a project: 'a b'"),
    ({"traceparent": "00-0-0-01"}, "traceparent", "not one of W3C Trace Context: '00-0-0-01'"),
]
FREE = {"priority", "complexity", "escalation", "learning", "clean_room"}
"""Fields of which the type says all."""


@pytest.mark.parametrize("value, path, says", RULES, ids=[f"{path}-{says[:30]}" for _, path, says in RULES])
def test_each_rule_names_the_place_and_the_way_out(value: dict[str, Any], path: str, says: str) -> None:
    whole = value if value in ({}, RULES[0][0]) else {"title": "x", **value}

    found = problems(whole)

    assert list(found) == [path]
    assert says in found[path]


def test_every_other_field_has_a_rule_that_is_asked_of_the_shortest_spec_too() -> None:
    ruled = {re.split(r"[.\[]", path)[0] for _, path, _ in RULES if path}

    assert ruled | FREE == set(TaskSpec.__struct_fields__)


@pytest.mark.parametrize(
    "value",
    [
        {"title": "x" * 200},
        {"prompt": "x" * limits.MAX_PROMPT_BYTES},
        {"title": "x", "max_retries": 0, "budget": {"tokens": 1, "usd": 0, "seconds": 0.1, "fix_attempts": 0}},
        {"title": "x", "max_retries": 20, "ttl_s": 0.001},
        {"title": "x", "verification": [{"type": "git_clean", "timeout_s": 86_400}]},
        {"title": "x", "verification": [{"type": "file_contains", "path": "a", "pattern": "^x$"}]},
        {"title": "x", "verification": [{"type": "json_schema", "path": "a", "schema": {"type": "object"}}]},
        {"title": "x", "verification": [{"type": "test_passes", "command": "x", "may_edit": ["tests/**"]}]},
        {"title": "x", "verification": [{"type": "diff_limits", "max_files": 0}, {"type": "no_placeholders"}]},
        {"title": "x", "verification": [{"type": "protected_paths", "paths": ["*.lock"]}]},
        {"title": "x", "verification": [{"type": "http_ok", "command": "x", "url": "http://[::1]:80/a?b=c"}]},
        {"title": "x", "verification": [{"type": "coverage_not_lower", "command": "x", "report": "cover.out"}]},
        {"title": "x", "verification": [{"type": "plugin", "plugin": "a", "settings": {"x": [1, None]}}]},
        {"title": "x", "context": {"files": ["a..b", "..a", ".hidden", "a/b/c"]}},
    ],
)
def test_what_is_just_within_a_limit_passes(value: dict[str, Any]) -> None:
    assert problems(value) == {}


def test_a_prompt_of_two_megabytes_is_refused_with_its_size() -> None:
    assert problems({"prompt": "x" * (2 << 20)}) == {
        "prompt": "2,097,152 bytes; at most 262,144: put long material into a file of the repository",
        "": "2,097,167 bytes as a whole; at most 524,288: put bulk into the repository",
    }


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_refused(number: float) -> None:
    assert list(problems({"title": "x", "ttl_s": number})) == ["ttl_s"]
    assert list(problems({"title": "x", "budget": {"seconds": number}})) == ["budget.seconds"]
    nested = {"title": "x", "verification": [{"type": "git_clean", "timeout_s": number}]}
    assert list(problems(nested)) == ["verification[0].timeout_s"]


@pytest.mark.parametrize("number", [2**64, -(2**64), 10**21, 10**400, -(10**400)], ids="abcde")
@pytest.mark.parametrize(
    "path", ["max_retries", "ttl_s", "budget.tokens", "budget.usd", "budget.seconds", "budget.fix_attempts"]
)
def test_a_number_beyond_all_rows_and_floats_is_one_problem_and_no_crash(path: str, number: int) -> None:
    first, _, second = path.partition(".")

    assert list(problems({"title": "x", first: {second: number} if second else number})) == [path]


def test_a_problem_whose_place_cannot_be_cut_out_is_still_told() -> None:
    assert problems({"labels": {"a.b": 1}}) == {"labels.a.b": "expected a string, found 1"}


def test_the_path_of_a_batch_stands_before_every_problem() -> None:
    found = problems({"titel": "x", "verification": [5]}, "tasks[3]")

    assert list(found) == ["tasks[3].titel", "tasks[3].verification[0]"]
    assert list(problems({}, "tasks[0]")) == ["tasks[0]"]
    assert list(problems(5, "tasks[0]")) == ["tasks[0]"]


@pytest.mark.parametrize("value", [None, 5, "x", [], True])
def test_what_is_no_object_is_no_spec(value: object) -> None:
    assert next(iter(problems(value).values())).startswith("expected an object, found ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*EVERYTHING, "titel", "type"]), JSON, max_size=6) | JSON)
def test_whatever_is_sent_gets_a_spec_or_problems(value: object) -> None:
    spec, found = read_spec(value)

    assert (spec is None) == bool(found)


@pytest.mark.parametrize("pair", list(itertools.combinations(sorted(EVERYTHING), 2))[::17])
def test_two_wrong_fields_are_both_named(pair: tuple[str, str]) -> None:
    found = problems({**EVERYTHING, pair[0]: object(), pair[1]: object()})

    assert set(found) == set(pair)


def test_a_time_that_is_already_one_needs_no_reading() -> None:
    at = datetime(2026, 1, 31, 13, tzinfo=UTC)

    assert problems({"title": 5, "complete_by": at}) == {"title": "expected a string, found 5"}
    assert utc(datetime.fromisoformat("2026-01-31T14:00:00+01:00")) == at


def test_the_executors_are_those_of_the_contract() -> None:
    assert EXECUTORS == ("auto", "noop", "shell", "chat", "agent", "acp")


def test_problems_of_a_typed_spec_can_be_asked_for() -> None:
    assert list(spec_problems(TaskSpec(title="x", complexity=Tier.COMPLEX))) == []
    assert msgspec.to_builtins(next(spec_problems(TaskSpec()))) == {
        "path": "",
        "problem": "nothing to do: give a title, a prompt or a command",
    }
