"""Promises of the command as a whole: what a shell sees without any hub."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from agentcom.cli import COMMANDS


def agentcom(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AGENTCOM_")}
    nowhere = {"HOME": "/nonexistent", "AGENTCOM_HUB": "http://127.0.0.1:9", "AGENTCOM_TOKEN": "acm_x"}
    command = [sys.executable, "-m", "agentcom", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=clean | nowhere | env)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_is_there(name: str) -> None:
    found = import_module(COMMANDS[name][0]).command

    assert isinstance(found, click.Command)
    assert found.name == name


def test_help_starts_without_the_http_stack_and_without_tables() -> None:
    code = "import sys; from agentcom.cli import run; run(['--help']); print(*sys.modules, file=sys.stderr)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {"aiohttp", "rich", "asyncio", "structlog", "anthropic"} & set(said.stderr.split())
    assert all(name in said.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_does_nothing_for_it(name: str) -> None:
    said = agentcom(name, "--help")

    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"Usage: agentcom {name}")


def test_an_unknown_command_suggests_the_one_that_was_meant() -> None:
    said = agentcom("taks")

    assert said.returncode == 2
    assert "No such command 'taks'. Did you mean 'tasks'?" in said.stderr


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in COMMANDS
        if n
        not in {
            "up",
            "submit",
            "events",
            "top",
            "login-link",
            "fingerprint",
            "simulate",
            "hub",
            "sidecar",
            "doctor",
            "backup",
            "restore",
            "join",
            "rejoin",
            "leave",
            "upgrade",
        }
    ],
)
def test_no_line_about_a_verb_is_cut_at_80_columns(name: str) -> None:
    said = agentcom(name, "--help", COLUMNS="80")

    _, _, verbs = said.stdout.partition("Commands:")
    assert verbs
    assert "..." not in verbs


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("tasks", "show"),
        ("tasks", "nonsense"),
        ("tasks", "ls", "--limit", "0"),
        ("submit", "--shel", "x"),
        ("token", "create", "--ttl", "soon"),
        ("up", "--port", "70000"),
        ("events", "--after", "-1"),
        ("endpoints", "add", "ollama"),
        ("endpoints", "add", "--kind", "ollama"),
        ("endpoints", "add", "ollama", "http://x", "more"),
        ("endpoints", "add", "olama", "http://x"),
        ("hosts", "show"),
        ("hub", "--listen", "nonsense"),
        ("sidecar", "--slots", "many"),
    ],
)
def test_wrong_usage_exits_2_with_a_message_and_no_traceback(arguments: tuple[str, ...]) -> None:
    said = agentcom(*arguments)

    assert said.returncode == 2
    assert said.stderr
    assert "Traceback" not in said.stderr


def test_a_bad_task_is_refused_without_a_hub() -> None:
    said = agentcom("submit", "x", "--tier", "hard", "--priority", "soon")

    assert said.returncode == 2
    assert "  --priority: expected one of" in said.stderr
    assert "  --tier: expected one of" in said.stderr


@pytest.mark.parametrize("arguments", [("tasks",), ("submit", "x"), ("agents", "--json"), ("events", "--follow")])
def test_without_a_hub_the_exit_status_is_3_and_the_message_tells_the_way_out(arguments: tuple[str, ...]) -> None:
    said = agentcom(*arguments)

    assert (said.returncode, said.stdout) == (3, "")
    assert "cannot reach the hub at http://127.0.0.1:9: Connection refused" in said.stderr
    assert "agentcom up" in said.stderr


def test_errors_are_json_where_answers_are() -> None:
    said = agentcom("tasks", "--json")

    assert json.loads(said.stderr)["code"] == "hub_unreachable"


def test_the_settings_that_count_can_be_seen_without_a_hub() -> None:
    said = agentcom("tasks", "show", "--check-config", "--json")

    shown = json.loads(said.stdout)
    assert shown["hub"] == {"value": "http://127.0.0.1:9", "origin": "AGENTCOM_HUB"}


def test_the_settings_of_the_daemons_can_be_seen(tmp_path: Path) -> None:
    hub = json.loads(agentcom("hub", "--data-dir", str(tmp_path), "--check-config", "--json").stdout)
    token = tmp_path / "token"
    token.write_text("acm_x")
    said = agentcom("sidecar", "--token-file", str(token), "--slots", "3", "--check-config", "--json")

    assert hub["data_dir"] == {"value": str(tmp_path), "origin": "--data-dir"}
    assert json.loads(said.stdout)["slots"] == {"value": "3", "origin": "--slots"}
    assert list(tmp_path.iterdir()) == [token]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m agentcom --help | head -1; exit ${{PIPESTATUS[0]}}"

    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)

    assert (said.returncode, said.stderr) == (0, "")


def test_doctor_names_what_fails_and_exits_1() -> None:
    said = agentcom("doctor", "--json")

    found = {each["name"]: each for each in json.loads(said.stdout)["checks"]}
    assert said.returncode == 1
    assert (found["hub"]["state"], found["python"]["state"]) == ("fail", "ok")
    assert "agentcom up" in found["hub"]["fix"]


def test_the_version_is_told() -> None:
    assert agentcom("--version").stdout.startswith("agentcom 0.")


def test_simulate_prints_a_line_a_policy_and_json_a_report(tmp_path: Path) -> None:
    fleet, trace = tmp_path / "fleet.toml", tmp_path / "trace.jsonl"
    fleet.write_text('[[models]]\nname = "m"\nsize_gb = 4\n[[hosts]]\nname = "h"\n')
    trace.write_text('{"timestamp": 0, "input_length": 100, "output_length": 10}\n')
    arguments = ("simulate", "--fleet", str(fleet), "--trace", str(trace))

    table = agentcom(*arguments, "--policy", "all")
    report = agentcom(*arguments, "--json")
    wrong = agentcom(*arguments, "--policy", "best", "--json")

    assert [line.split()[0] for line in table.stdout.splitlines()[1:]][:2] == ["ours", "round_robin"]
    assert json.loads(report.stdout)["jobs"] == 1
    assert (wrong.returncode, json.loads(wrong.stderr)["code"]) == (2, "bad_input")


def test_simulate_checks_the_answers_if_asked(tmp_path: Path) -> None:
    fleet, trace = tmp_path / "fleet.toml", tmp_path / "trace.jsonl"
    fleet.write_text('[[models]]\nname = "m"\nsize_gb = 4\n[[hosts]]\nname = "h"\n[[hosted]]\nname = "claude"\n')
    trace.write_text('{"timestamp": 0, "input_length": 100, "output_length": 10}\n')
    arguments = ("simulate", "--fleet", str(fleet), "--trace", str(trace))

    table = agentcom(*arguments, "--checked", "--policy", "all", "--learning", "on")
    needless = agentcom(*arguments, "--learning", "on")

    assert [line.split()[0] for line in table.stdout.splitlines()[1:]] == ["ours", "always_hosted"]
    assert (needless.returncode, "need --checked" in needless.stderr) == (2, True)
