"""Rows T3, T4, T5, T7, T18 and T34: sidecars that die, stand still, leave, come twice or are killed by their work."""

import shutil
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from protocol.limits import MAX_DEATHS
from tests.support.escapers import escaper, survivors
from tests.support.history import assert_nothing_lost, wait_ended
from tests.support.mesh import FINAL, Mesh, mesh, until
from tests.support.repositories import Remote, make_remote


def children_of(name: str, *, epoch: int | None = None) -> list[int]:
    """Live processes of the work of a sidecar, by what their environment says of them."""
    wanted = {f"AGENTCOM_SIDECAR={name}"} | ({f"AGENTCOM_EPOCH={epoch}"} if epoch is not None else set())
    found = []
    for here in Path("/proc").glob("[0-9]*"):
        try:
            if wanted <= set((here / "environ").read_bytes().decode(errors="replace").split("\0")):
                found.append(int(here.name))
        except OSError:
            continue  # it has ended, or it is a zombie
    return found


# --- T3 ---------------------------------------------------------------------------------------------------------------


def test_t03_the_work_of_a_killed_sidecar_dies_with_it_and_runs_again_once(tmp_path: Path) -> None:
    """kill -9 of a sidecar while its work runs: no process of it is left, the task is queued again once."""
    with mesh(tmp_path, "Doomed") as running:
        command = "[ $AGENTCOM_EPOCH = 1 ] || exit 0; (setsid env -i sleep 600 &); trap '' TERM; sleep 600"
        task = running.submit(command=command)
        running.wait_state(task, "running")
        until(lambda: len(children_of("Doomed")) >= 2, "the work has begun")
        running.kill(running.sidecars["Doomed"])
        killed_at = time.monotonic()
        until(lambda: not children_of("Doomed"), "nothing of the work is left")
        gone_s = time.monotonic() - killed_at
        running.start_sidecar("Doomed")
        (ended,) = running.wait(task)

        assert (ended["state"], ended["epoch"]) == ("completed", 2)
        assert [attempt["state"] for attempt in ended["attempts"]] == ["lost", "passed"]
        assert len(running.events("task_requeued")) == 1
        assert ended["retries_left"] == ended["spec"].get("max_retries", 3)  # a lost machine costs the work nothing
        print(f"\nT3: nothing left {gone_s:.2f} s after the kill, run again after {time.monotonic() - killed_at:.1f} s")


# --- T4 ---------------------------------------------------------------------------------------------------------------


def reports_on_disk(state: Path) -> int:
    with sqlite3.connect(f"file:{state / 'journal.db'}?mode=ro", uri=True) as journal:
        (count,) = journal.execute("SELECT count(*) FROM attempts WHERE report IS NOT NULL").fetchone()
    journal.close()
    return int(count)


def results_outlive_the_sidecar(folder: Path, count: int) -> None:
    said = folder / "said"
    said.mkdir(parents=True)
    with mesh(folder, "Keeper", flags=("--slots", str(count)), lease_s=120.0, heartbeat_s=1.0) as running:
        command = f"echo begun >>{said}/$AGENTCOM_TASK; while [ ! -e {folder}/go ]; do sleep 0.2; done; echo the tail"
        tasks = running.submit_all([{"command": command}] * count)
        for task in tasks:
            running.wait_state(task, "running", timeout_s=120)
        until(lambda: len(list(said.iterdir())) == count, "all of them have begun", timeout_s=120)
        running.kill(running.hub)
        (folder / "go").touch()
        until(lambda: reports_on_disk(folder / "state-Keeper") == count, "all reports are on disk", timeout_s=120)
        running.kill(running.sidecars["Keeper"])
        running.start_hub()
        running.start_sidecar("Keeper", "--slots", str(count))
        ended = running.wait(*tasks, timeout_s=120)

        assert [view["state"] for view in ended] == ["completed"] * count
        assert {view["epoch"] for view in ended} == {1}
        assert {view["result"]["output"] for view in ended} == {"the tail\n"}
        assert {file.read_text() for file in said.iterdir()} == {"begun\n"}  # nothing ran twice
        assert_nothing_lost(running, tasks)
        print(f"\nT4: {count} of {count} results came after their sidecar had been killed; nothing ran again")


def test_t04_a_result_outlives_the_sidecar_that_made_it(tmp_path: Path) -> None:
    """kill -9 of the sidecar when its work has ended and the hub has not confirmed it: delivered, not run again."""
    results_outlive_the_sidecar(tmp_path, 4)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_t04_soak_a_hundred_results_outlive_their_sidecar(tmp_path: Path) -> None:
    """As above, 100 of 100."""
    results_outlive_the_sidecar(tmp_path, 100)


def test_t04_the_last_output_of_work_that_died_with_its_sidecar_is_not_lost(tmp_path: Path) -> None:
    """kill -9 of the sidecar in the middle of the work: what was written until then is in the report of its loss."""
    with mesh(tmp_path, "Keeper", lease_s=60.0, heartbeat_s=1.0) as running:
        task = running.submit(command="[ $AGENTCOM_EPOCH = 1 ] || exit 0; echo last words; sleep 600")
        running.wait_state(task, "running")
        tail = tmp_path / "state-Keeper" / "tails"
        until(lambda: any(b"last words" in file.read_bytes() for file in tail.glob("*")), "the output is on disk")
        running.kill(running.sidecars["Keeper"])
        running.start_sidecar("Keeper")
        (ended,) = running.wait(task)

        assert ended["attempts"][0]["result"]["output"] == "last words\n"
        assert ended["attempts"][0]["suspect"] is True
        assert list(tail.glob("*")) == []


# --- T5 ---------------------------------------------------------------------------------------------------------------

LEASE_S = 6.0


def zombies(folder: Path, count: int, sequence: int, running: Mesh, remote: Remote) -> dict[str, Any]:
    """Stop a sidecar at work for longer than its leases, let another do it again, and wake the first one up."""
    name = f"Zombie{sequence}"
    running.start_sidecar(name, "--slots", str(count))
    running.wait_agents(name)
    begun = folder / f"begun{sequence}"
    begun.mkdir()
    # Every other one ends by itself while its sidecar stands still, with a result to deliver; the others go on.
    work = f"touch {begun}/$AGENTCOM_TASK; echo $AGENTCOM_EPOCH >out; while [ $AGENTCOM_EPOCH = 1 -a ! -e {folder}/%s ]"
    work += "; do sleep 0.2; done"
    ends = (f"stopped{sequence}", "never")
    specs = [{"command": work % ends[n % 2], "context": {"repo": str(remote.path)}} for n in range(count)]
    tasks = running.submit_all(specs)
    for task in tasks:
        running.wait_state(task, "running", timeout_s=120)
    until(lambda: len(list(begun.iterdir())) == count, "all of them have begun", timeout_s=120)
    sidecar = running.sidecars[name]
    sidecar.send_signal(signal.SIGSTOP)
    (folder / ends[0]).touch()
    try:
        until(lambda: len(running.events("attempt_lost")) >= count * sequence, "the leases are over", timeout_s=120)
        alive = children_of(name)
        running.start_sidecar(f"Heir{sequence}", "--slots", str(count))
        ended = running.wait(*tasks, timeout_s=240)
        branches = remote.branches()
    finally:
        sidecar.send_signal(signal.SIGCONT)
    running.wait_agents(name, timeout_s=120)  # it lives, is connected, and holds nothing
    running.sidecars.pop(name).terminate()
    sidecar.wait(60)
    for heir in (f"Heir{sequence}",):
        running.sidecars[heir].terminate()
        running.sidecars[heir].wait(60)
    return {"tasks": tasks, "ended": ended, "alive": alive, "before": branches, "after": remote.branches()}


def zombies_change_nothing(folder: Path, *, rounds: int, each: int) -> None:
    remote = make_remote(folder)
    accepted = effects = 0
    every: list[str] = []
    with mesh(folder / "mesh", lease_s=LEASE_S, heartbeat_s=1.0) as running:
        for sequence in range(1, rounds + 1):
            found = zombies(folder, each, sequence, running, remote)
            every += found["tasks"]
            assert found["alive"] == [], "work of a stopped sidecar was alive when its task was given away"
            for view in (running.task(task) for task in found["tasks"]):
                assert (view["state"], view["epoch"]) == ("completed", 2)
                assert view["result"]["branch"].endswith("-e2")
                assert [attempt["suspect"] for attempt in view["attempts"]] == [False, False]  # it was alive after all
                accepted += view["attempts"][0]["accepted"]
            effects += len(set(found["after"]) ^ set(found["before"]))
            assert not [branch for branch in found["after"] if branch.endswith("-e1")]
        assert_nothing_lost(running, every)
    print(
        f"\nT5: {len(every)} zombies: {accepted} late results accepted, {effects} side effects after the fence,"
        f" {len(remote.branches()) - 1} branches, one a task"
    )
    assert (accepted, effects) == (0, 0)


def test_t05_what_a_sidecar_does_that_stood_still_past_its_lease_counts_for_nothing(tmp_path: Path) -> None:
    """SIGSTOP past the lease, SIGCONT: its work was dead before the task was given away, no late result, no push."""
    zombies_change_nothing(tmp_path, rounds=1, each=4)


def test_t05_an_assignment_that_reaches_a_sidecar_after_its_lease_starts_nothing(tmp_path: Path) -> None:
    """SIGSTOP an idle sidecar, then give it work: the assignment waits in its socket until the lease is long over."""
    with mesh(tmp_path, "Zombie", lease_s=LEASE_S, heartbeat_s=1.0) as running:
        sidecar = running.sidecars["Zombie"]
        sidecar.send_signal(signal.SIGSTOP)
        try:
            task = running.submit(command=f"touch {tmp_path}/begun-$AGENTCOM_EPOCH; sleep 0.5")
            assert running.wait_state(task, "assigned", "running")["agent"] == "Zombie"
            until(lambda: running.events("attempt_lost"), "the lease is over", timeout_s=60)
            running.start_sidecar("Heir")
            (ended,) = running.wait(task)
        finally:
            sidecar.send_signal(signal.SIGCONT)
        running.wait_agents("Zombie", "Heir", timeout_s=60)
        other = running.submit_all([{"command": "true"}] * 4)  # it is of use again
        running.wait(*other)

        assert ended["epoch"] == 2
        assert [file.name for file in tmp_path.glob("begun-*")] == ["begun-2"]


def test_t05_work_that_resists_is_dead_before_its_lease_ends(tmp_path: Path) -> None:
    """The hub falls silent while work runs that is slow to kill: all of it is gone before a lease has passed."""
    program = escaper(tmp_path)
    with mesh(tmp_path / "mesh", "Host", flags=("--slots", "4"), lease_s=10.0, heartbeat_s=1.0) as running:
        for trick in ("bomb", "hydra", "deaf", "far-comet"):
            running.wait_state(running.submit(command=f"exec {program} {trick} 120"), "running")
        until(lambda: len(survivors(program, "bomb")) > 100, "the bomb has gone off")
        assert running.hub is not None
        running.hub.send_signal(signal.SIGSTOP)
        silent_at = time.monotonic()
        try:
            until(lambda: not survivors(program), "nothing is left", timeout_s=60)
            gone_s = time.monotonic() - silent_at
        finally:
            running.hub.send_signal(signal.SIGCONT)

        print(f"\nT5: the last of them was gone {gone_s:.1f} s after the hub's last word; the lease is 10 s")
        assert gone_s < 10.0


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_t05_soak_two_hundred_zombies(tmp_path: Path) -> None:
    """As above, 200 of them."""
    zombies_change_nothing(tmp_path, rounds=10, each=20)


# --- T7 ---------------------------------------------------------------------------------------------------------------


def assignments_after(running: Mesh, kind: str, agent: str) -> list[dict[str, Any]]:
    """What the agent was given after the event that says it takes nothing, until the one that says it does again."""
    given, is_closed = [], False
    for event in running.events():
        if event["agent"] == agent and event["kind"] in {kind, "agent_resumed", "agent_joined"}:
            is_closed = event["kind"] == kind
        elif is_closed and event["kind"] == "task_assigned" and event["agent"] == agent:
            given.append(event)
    return given


def load(running: Mesh, count: int) -> list[str]:
    return running.submit_all(
        [{"command": "sleep 0.05"}] * (count // 10) + [{"executor": "noop", "title": "x"}] * count
    )


def drains_under_load(folder: Path, *, rounds: int, tasks: int) -> None:
    every: list[str] = []
    with mesh(folder, "Stays", "Leaves", flags=("--slots", "8"), lease_s=20.0, heartbeat_s=0.5) as running:
        for _ in range(rounds):
            every += load(running, tasks)
            running.call("POST", "/api/v1/agents/Leaves/drain")
            every += load(running, tasks)
            running.call("POST", "/api/v1/agents/Leaves/resume")
            every += load(running, tasks)
            leaving = running.sidecars.pop("Leaves")
            leaving.terminate()
            assert leaving.wait(60) == 0
            running.start_sidecar("Leaves", "--slots", "8")
            every += load(running, tasks)
            hub = running.hub
            assert hub is not None
            hub.terminate()
            assert hub.wait(60) == 0
            running.start_hub()
            wait_ended(running, every, timeout_s=240)
        history = assert_nothing_lost(running, every)
        given = assignments_after(running, "agent_draining", "Leaves") + assignments_after(
            running, "agent_leaving", "Leaves"
        )
        lost = running.events("attempt_lost")

    print(f"\nT7: {history}; {len(given)} claims after a drain mark, {len(lost)} attempts lost")
    assert given == []
    assert history.states == {"completed": len(every)}


def test_t07_nothing_is_given_to_a_sidecar_that_leaves_and_nothing_is_lost(tmp_path: Path) -> None:
    """Drain, SIGTERM of a sidecar, SIGTERM of the hub, all under load: 0 claims after the mark, 0 tasks lost."""
    drains_under_load(tmp_path, rounds=1, tasks=200)


@pytest.mark.soak
@pytest.mark.timeout(1_200)
def test_t07_soak_ten_times(tmp_path: Path) -> None:
    """As above, ten times and with more load."""
    drains_under_load(tmp_path, rounds=10, tasks=900)


# --- T18 --------------------------------------------------------------------------------------------------------------


def agent(running: Mesh, name: str) -> dict[str, Any]:
    return dict(running.call("GET", f"/api/v1/agents/{name}"))


def copied(folder: Path, name: str) -> Path:
    """A copy of a sidecar's state directory, as a cloned disk would be one."""
    copy = folder / f"copy-of-{name}"
    shutil.copytree(folder / f"state-{name}", copy, ignore=shutil.ignore_patterns("work", "scratch"))
    return copy


def test_t18_of_a_sidecar_and_its_copy_one_is_active_and_an_alarm_is_raised(tmp_path: Path) -> None:
    """Copy the state directory, start it elsewhere: the older start is evicted, and stays so when it is restarted."""
    with mesh(tmp_path, "Twin", lease_s=20.0) as running:
        first = running.sidecars["Twin"]
        task = running.submit(command="[ $AGENTCOM_EPOCH -gt 1 ] || sleep 600")
        running.wait_state(task, "running")
        running.start_sidecar("Twin", "--state-dir", str(copied(tmp_path, "Twin")))
        second = running.sidecars["Twin"]
        assert first.wait(60) == 2
        (ended,) = running.wait(task)
        assert second.poll() is None
        assert not children_of("Twin", epoch=1)
        assert ended["state"] == "completed"
        assert len([attempt for attempt in ended["attempts"] if attempt["accepted"]]) == 1
        (alarm,) = running.events("agent_cloned")
        assert alarm["facts"]["was"] == "evicted"
        assert "another sidecar of this name" in agent(running, "Twin")["alarm"]
        health = running.call("GET", "/api/v1/health")["components"]["agents"]
        assert health["state"] == "degraded"
        assert "more than one sidecar is named Twin" in health["detail"]

        # A supervisor starts the first one again and again: it goes away by itself, and evicts nobody.
        for _ in range(2):
            running.start_sidecar("Twin")
            again = running.sidecars["Twin"]
            assert again.wait(60) == 2
        assert second.poll() is None
        assert len(running.events("agent_cloned")) == 1
        assert f"remove {tmp_path / 'state-Twin' / 'evicted'} to take the name back" in running.logs()
        running.sidecars["Twin"] = second
        running.wait_agents("Twin")


def test_t18_a_stranger_does_not_get_the_name_of_a_sidecar_at_work(tmp_path: Path) -> None:
    """Another machine is given the same --name by mistake: it is turned away, and the work goes on."""
    with mesh(tmp_path, "Taken") as running:
        task = running.submit(command=f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done")
        running.wait_state(task, "running")
        first = running.sidecars["Taken"]
        for _ in range(2):
            running.start_sidecar("Taken", "--state-dir", str(tmp_path / "elsewhere"))
            assert running.sidecars["Taken"].wait(60) == 2
        running.sidecars["Taken"] = first
        (tmp_path / "go").touch()
        (ended,) = running.wait(task)

        assert (ended["state"], ended["epoch"]) == ("completed", 1)
        assert [event["facts"]["was"] for event in running.events("agent_cloned")] in (
            ["turned away"],
            ["turned away", "turned away"],  # each of the two was another boot
        )
        assert "another sidecar named 'Taken' is at work on" in running.logs()


# --- T34 --------------------------------------------------------------------------------------------------------------


def test_t34_a_task_that_kills_its_sidecar_is_a_dead_letter_after_three_and_all_others_are_done(tmp_path: Path) -> None:
    """The work does kill -9 on the sidecar, which somebody starts again: three deaths, with evidence, no bystander."""
    deaths, flags = 0, ("--slots", "4", "--sandbox", "unsafe")  # confined, it does not reach its sidecar
    with mesh(tmp_path, "Victim", flags=flags, lease_s=20.0) as running:
        others = running.submit_all([{"command": "sleep 1"}] * 6)
        poison = running.submit(command="kill -9 $PPID", title="poison")
        others += running.submit_all([{"command": "sleep 1"}] * 6)
        deadline = time.monotonic() + 100
        while any(running.task(task)["state"] not in FINAL for task in (poison, *others)):
            assert time.monotonic() < deadline, running.logs()
            if running.sidecars["Victim"].poll() is not None:
                deaths += 1
                running.start_sidecar("Victim", *flags)
            time.sleep(0.05)
        view = running.task(poison)
        (event,) = running.events("task_dead")

        print(f"\nT34: {deaths} deaths; {view['reason']}")
        assert deaths == MAX_DEATHS
        assert view["state"] == "dead"
        assert [attempt["suspect"] for attempt in view["attempts"]] == [True] * MAX_DEATHS
        assert "3 sidecars died while they ran it" in view["reason"]
        assert [death["agent"] for death in event["facts"]["deaths"]] == ["Victim"] * MAX_DEATHS
        assert len({death["boot"] for death in event["facts"]["deaths"]}) == MAX_DEATHS
        assert {running.task(task)["state"] for task in others} == {"completed"}
        assert_nothing_lost(running, [poison, *others])
