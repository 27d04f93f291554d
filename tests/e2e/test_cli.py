"""The command line against real processes: what a person and a script see, from ``agentcom up`` to the proof."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from agentcom import Client, NotFound

PATIENCE_S: Final = 60.0
CLEAN: Final = {
    **{
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("AGENTCOM_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "OPENAI_", "OLLAMA_"))
    },
    # A port that nothing listens on: these tests must not find the Ollama of whoever runs them.
    "OLLAMA_HOST": "http://127.0.0.1:9",
}


def until(fact: Callable[[], bool], what: str) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < ends_at, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.02)


def words_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty for one that has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class Up:
    """``agentcom up`` in a data directory of its own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.data_dir = folder / "data"
        self.said = folder / "up.txt"
        self.shared = folder / "shared"
        self.shared.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "agentcom", "up", "--data-dir", str(self.data_dir), "--port", "0", *flags]
        with self.said.open("wb") as file:
            env = CLEAN | {"AGENTCOM_SANDBOX_WRITE": str(self.shared)}
            self.process = subprocess.Popen(command, stdout=file, stderr=file, env=env)

    def until_welcome(self) -> None:
        until(lambda: "Stop" in self.text or self.process.poll() is not None, "the welcome")
        assert self.process.poll() is None, self.text

    @property
    def text(self) -> str:
        return self.said.read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        return [p for p in psutil.Process(self.process.pid).children() if {"hub", "sidecar"} & set(words_of(p))]

    def child(self, kind: str) -> psutil.Process:
        return next(p for p in self.children() if kind in words_of(p)[:4])

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def cli(self, *arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agentcom", *arguments]
        env = CLEAN | {"AGENTCOM_DATA_DIR": str(self.data_dir)} | env
        return subprocess.run(command, capture_output=True, text=True, input=stdin, env=env, timeout=60, check=False)

    def json(self, *arguments: str, **env: str) -> Any:  # noqa: ANN401 - any answer
        said = self.cli(*arguments, "--json", **env)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    found = Up(tmp_path_factory.mktemp("up"), "--sidecars", "2")
    found.until_welcome()
    yield found
    found.end()


@pytest.fixture
def start_up(tmp_path: Path) -> Iterator[Callable[[], Up]]:
    """Starts ``agentcom up``, always on the same data, and ends what the test did not."""
    started: list[Up] = []

    def start() -> Up:
        started.append(Up(tmp_path))
        started[-1].until_welcome()
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_up_tells_where_everything_is(up: Up) -> None:
    assert "Hub        http://127.0.0.1:" in up.text
    assert "/?ticket=" in up.text
    assert len(up.json("agents")["agents"]) == 2
    assert oct(up.data_dir.stat().st_mode)[-3:] == "700"


def test_a_new_link_opens_the_page_once(up: Up) -> None:
    link = up.cli("login-link").stdout.strip()
    in_json = up.json("login-link")

    def follow(url: str) -> int:
        try:
            with urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(url) as page:
                return int(page.status)
        except urllib.error.HTTPError as exc:
            return exc.code

    assert [follow(link), follow(link), follow(in_json["url"])] == [200, 401, 200]


def test_a_task_is_submitted_and_its_id_is_all_that_stdout_holds(up: Up) -> None:
    said = up.cli("submit", "--shell", "true")

    task = said.stdout.strip()
    assert said.returncode == 0
    assert len(task) == 26
    assert up.json("tasks", "show", task[-8:])["id"] == task


def test_waiting_exits_0_for_work_that_was_proven(up: Up) -> None:
    said = up.cli("submit", "--shell", "echo hello > a.txt; cat a.txt", "--verify", "test -s a.txt", "--wait")

    assert said.returncode == 0, said.stderr
    assert "result   verified" in said.stdout
    assert "passed" in said.stdout
    assert "  hello" in said.stdout


@pytest.mark.parametrize("flags", [("--verify", "false", "--fix-attempts", "0"), ()], ids=["check", "work"])
def test_waiting_exits_1_for_work_that_failed(up: Up, flags: tuple[str, ...]) -> None:
    command = "true" if flags else "exit 3"

    assert up.cli("submit", "--shell", command, "--max-retries", "0", *flags, "--wait").returncode == 1


def test_waiting_with_json_prints_the_task_and_nothing_else(up: Up) -> None:
    found = up.json("submit", "--shell", "echo x", "--wait")

    assert (found["state"], found["result"]["output"].strip(), found["usage"]["model"]) == ("completed", "x", "none")


def test_following_shows_output_on_stdout_and_states_on_stderr(up: Up) -> None:
    command = 'echo "round $AGENTCOM_ITERATION"; test "$AGENTCOM_ITERATION" = 2 && touch done; :'

    said = up.cli("submit", "--shell", command, "--verify", "test -f done", "--follow")

    assert said.returncode == 0, said.stderr
    assert said.stdout.index("round 1") < said.stdout.index("round 2")
    assert "assigned to" in said.stderr
    assert "FAIL" in said.stderr
    assert "completed" in said.stderr


def test_a_batch_is_taken_whole_and_waited_for_whole(up: Up) -> None:
    batch = json.dumps({"tasks": [{"command": "true"}, {"command": "false", "max_retries": 0}]})

    said = up.cli("submit", "--spec", "-", "--wait", "--json", stdin=batch)

    assert said.returncode == 1
    assert [task["state"] for task in json.loads(said.stdout)["tasks"]] == ["completed", "dead"]


def test_a_task_that_nobody_can_do_explains_itself_and_can_be_cancelled(up: Up) -> None:
    task = up.cli("submit", "--shell", "true", "--needs", "moon").stdout.strip()

    explained = up.cli("tasks", "explain", task)
    cancelled = up.cli("tasks", "cancel", task[-6:], "--reason", "no moon")
    again = up.cli("tasks", "cancel", task)

    assert "moon" in explained.stdout
    assert "cancelled" in cancelled.stdout
    assert up.json("tasks", "show", task)["reason"] == "no moon"
    assert again.returncode == 2
    assert "cancelled" in again.stderr


def test_someone_who_waits_in_the_queue_is_told_why(up: Up) -> None:
    command = [
        sys.executable,
        "-m",
        "agentcom",
        "submit",
        "--shell",
        "true",
        "--needs",
        "sun",
        "--label",
        "k=v",
        "--wait",
    ]
    env = CLEAN | {"AGENTCOM_DATA_DIR": str(up.data_dir)}
    # A shell that starts the tests in the background has SIGINT ignored, and children inherit that.
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    signal.signal(signal.SIGINT, was)
    with waiting:
        assert waiting.stderr is not None
        assert "submitted" in waiting.stderr.readline()
        why = waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        status = waiting.wait(PATIENCE_S)
        rest = waiting.stderr.read()
    for task in up.json("tasks", "ls", "--label", "k=v")["tasks"]:
        up.cli("tasks", "cancel", task["id"])

    assert "still queued" in why
    assert status == 130
    assert "Traceback" not in rest


def test_a_dead_task_is_run_again_by_a_person(up: Up) -> None:
    flag = up.shared / "flag"
    task = up.json("submit", "--shell", f"test -f {flag}", "--max-retries", "0", "--label", "again=yes")["id"]
    with Client(data_dir=str(up.data_dir)) as hub:
        assert hub.wait(task).state == "dead"
        flag.touch()
        said = up.cli("tasks", "retry", task)
        assert hub.wait(task, timeout_s=PATIENCE_S).state == "completed"

    assert said.returncode == 0


def test_ambiguous_and_unknown_ids_are_told(up: Up) -> None:
    ids = [up.json("submit", "--shell", "true")["id"] for _ in range(2)]

    ambiguous = up.cli("tasks", "show", ids[0][:4])
    unknown = up.cli("tasks", "show", "zzzzzzzz", "--json")

    assert ambiguous.returncode == 2
    assert "give more of the id" in ambiguous.stderr
    assert (unknown.returncode, json.loads(unknown.stderr)["code"]) == (2, "not_found")


def test_output_of_a_task_can_be_read_later(up: Up) -> None:
    task = up.json("submit", "--shell", "echo out; echo err >&2", "--wait")["id"]

    said = up.cli("tasks", "logs", task)

    assert "out" in said.stdout
    assert "err" in said.stderr


def test_an_agent_is_drained_and_comes_back(up: Up) -> None:
    name = up.json("agents")["agents"][0]["name"]

    drained = up.json("agents", "drain", name)
    resumed = up.json("agents", "resume", name)

    assert (drained["state"], resumed["state"]) == ("draining", "idle")
    assert up.cli("agents", "show", "Nobody").returncode == 2


def test_a_token_has_its_role_and_an_end(up: Up) -> None:
    made = up.cli("token", "create", "--role", "viewer", "--label", "test")
    token = made.stdout.strip()
    row = next(t for t in up.json("token")["tokens"] if t["label"] == "test")

    reads = up.cli("tasks", AGENTCOM_TOKEN=token)
    writes = up.cli("submit", "--shell", "true", "--json", AGENTCOM_TOKEN=token)
    checked = up.cli("doctor", AGENTCOM_TOKEN=token)
    up.cli("token", "revoke", row["id"])
    after = up.cli("tasks", AGENTCOM_TOKEN=token)

    assert token.startswith("acm_")
    assert (reads.returncode, writes.returncode, after.returncode) == (0, 4, 4)
    assert json.loads(writes.stderr)["code"] == "forbidden"
    assert "role viewer" in checked.stdout
    assert "error: " in after.stderr


def test_a_token_without_a_role_is_a_command_for_a_new_machine(up: Up) -> None:
    made = up.cli("token", "create", "--ttl", "30m", "--uses", "2", "--label", "rack")
    (row,) = up.json("token", "ls", "--join")["join_tokens"]
    wrong = up.cli("token", "create", "--role", "viewer", "--uses", "2")
    bad = up.cli("token", "create", "--ttl", "soon")
    gone = up.cli("token", "revoke", row["id"])
    shown = up.cli("token", "ls", "--join")

    assert re.fullmatch(r"agentcom join http://127\.0\.0\.1:\d+ --token acj1\.open\.\S+", made.stdout.splitlines()[0])
    assert "leads nowhere from another machine" in made.stderr
    assert (row["label"], row["state"], row["uses"], row["used"]) == ("rack", "good", 2, 0)
    assert (wrong.returncode, bad.returncode, gone.returncode) == (2, 2, 0)
    assert "revoked" in shown.stdout
    assert up.json("machines") == {"join_requests": [], "next_cursor": None}
    assert up.cli("machines", "approve", "abcde-fghij").returncode == 2


def test_a_wrong_token_is_refused_with_the_way_in(up: Up) -> None:
    said = up.cli("tasks", AGENTCOM_TOKEN="acm_wrong")

    assert said.returncode == 4
    assert "--token-file" in said.stderr


def test_an_endpoint_that_is_down_is_not_added(up: Up) -> None:
    down = up.cli("endpoints", "add", "ollama", "http://127.0.0.1:9")
    wrong = up.cli("endpoints", "add", "olama", "http://127.0.0.1:9")

    assert down.returncode != 0
    assert wrong.returncode == 2
    assert "did you mean 'ollama'" in wrong.stderr
    added = [endpoint for endpoint in up.json("endpoints")["endpoints"] if endpoint["host"] is None]
    assert added == []  # beside the one that its sidecar looks for


def test_top_prints_machines_and_tasks_once_where_nobody_watches(up: Up) -> None:
    task = up.cli("submit", "--shell", "true", "--title", "seen from the top", "--wait", "--json")
    text, told = up.cli("top").stdout, up.json("top")

    assert json.loads(task.stdout)["state"] == "completed"
    for part in ("\u25cf live", "MACHINES", "TASKS", "seen from the top"):
        assert part in text, text
    assert {task["title"] for task in told["tasks"].values()} >= {"seen from the top"}
    assert len(told["agents"]) == 2


def test_events_are_one_line_each(up: Up) -> None:
    said = up.cli("events", "--limit", "3", "--json")

    assert [json.loads(line)["seq"] for line in said.stdout.splitlines()] == [1, 2, 3]


def test_doctor_finds_a_healthy_mesh(up: Up) -> None:
    found = {each["name"]: each for each in up.json("doctor")["checks"]}

    assert found["hub"]["state"] == "ok"
    assert found["token"]["detail"].startswith("role admin")
    assert found["agents"]["detail"] == "2 of 2 online"


def test_tables_have_no_colours_in_a_pipe(up: Up) -> None:
    assert "\x1b" not in up.cli("tasks").stdout


def test_the_client_says_what_is_not_there(up: Up) -> None:
    with Client(data_dir=str(up.data_dir)) as hub, pytest.raises(NotFound, match="no task"):
        hub.task("01m7ychhzmsefnyay68aqh999n")


def test_a_second_up_on_the_same_data_says_where_the_first_is(up: Up) -> None:
    said = up.cli("up", "--data-dir", str(up.data_dir), "--port", "0")

    assert said.returncode == 2
    assert "runs on" in said.stderr
    assert "http://127.0.0.1:" in said.stderr


def test_a_port_that_is_taken_is_told(up: Up, tmp_path: Path) -> None:
    port = json.loads((up.data_dir / "hub.json").read_text())["url"].rsplit(":", 1)[1]

    said = up.cli("up", "--data-dir", str(tmp_path), "--port", port)

    assert said.returncode == 2
    assert f"--port: {port} is taken" in said.stderr


def test_a_sidecar_that_crashes_is_started_again_under_its_name_and_the_end_is_orderly(
    start_up: Callable[[], Up],
) -> None:
    up = start_up()
    (agent,) = up.json("agents")["agents"]
    killed = up.child("sidecar")
    killed.kill()

    until(lambda: any(p.pid != killed.pid and "sidecar" in words_of(p) for p in up.children()), "another sidecar")
    until(lambda: up.json("agents")["agents"][0]["boot_epoch"] > agent["boot_epoch"], "the agent is back")
    family = up.children()
    status = up.end()

    assert f"agent {agent['name']} ended with status -9" in up.text
    assert status == 0
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)


def test_a_hub_that_is_killed_is_started_again_and_work_goes_on(start_up: Callable[[], Up]) -> None:
    up = start_up()
    task = up.cli("submit", "--shell", "sleep 4; echo done").stdout.strip()
    until(lambda: up.json("tasks", "show", task)["state"] == "running", "the task runs")
    killed = up.child("hub")
    killed.kill()

    until(lambda: any(p.pid != killed.pid and "hub" in words_of(p)[:4] for p in up.children()), "another hub")
    with Client(data_dir=str(up.data_dir)) as hub:
        ended = hub.wait(task, timeout_s=PATIENCE_S)
    assert (ended.state, len(ended.attempts)) == ("completed", 1)
    assert "the hub ended with status -9, again in 1 s" in up.text
    assert up.end() == 0


def test_up_ends_with_1_when_its_hub_cannot_start_again(start_up: Callable[[], Up]) -> None:
    up = start_up()
    family = up.children()
    with (up.data_dir / "hub.lock").open("a") as lock:
        # It waits for the hub's lock, so it has it as soon as the hub is gone: the next one finds it taken.
        thief = threading.Thread(target=fcntl.flock, args=(lock, fcntl.LOCK_EX))
        thief.start()
        up.child("hub").kill()
        thief.join()
        status = up.process.wait(PATIENCE_S)

    assert status == 1
    assert "the hub ended with status 2 and is not started again" in up.text
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)


def test_when_up_is_killed_its_children_end(start_up: Callable[[], Up]) -> None:
    up = start_up()
    up.cli("submit", "--shell", "sleep 600")
    family = up.children()
    up.process.kill()
    up.process.wait(PATIENCE_S)

    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family), "they have ended")


def test_up_again_has_the_same_agents_and_tasks(start_up: Callable[[], Up]) -> None:
    names = []
    count = 0
    for _ in range(2):
        up = start_up()
        names.append([agent["name"] for agent in up.json("agents")["agents"]])
        up.cli("submit", "--shell", "true", "--wait")
        count = len(up.json("tasks")["tasks"])
        assert up.end() == 0

    assert names[0] == names[1]
    assert count == 2
