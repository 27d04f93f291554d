"""The promises of the mesh to a stranger: an agent of plain MessagePack does its work, and cannot harm another's."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import websockets

from tests.support.foreign_agent import ForeignAgent, Plain, hello
from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import join, kinds, submit, task, until_state

MAX_FRAME_BYTES = 1 << 20


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as made:
        yield made


async def is_alive(hub: RunningHub) -> bool:
    """The hub still takes in work and gives it to agents."""
    agent = await join(hub, name="Witness", boot=99, capabilities=["executor:noop", "witness"])
    name = await submit(hub, needs=["witness"])
    await agent.work()
    await agent.leave()
    return bool((await task(hub, name))["state"] == "completed")


# --- doing work -------------------------------------------------------------------------------------------------------


async def test_a_stranger_joins_and_does_a_task(hub: RunningHub) -> None:
    agent = await join(hub)
    name = await submit(hub)
    attempt = await agent.work()

    assert agent.welcome["protocol"] == 1
    assert (agent.welcome["received"], agent.welcome.get("verdicts", [])) == (0, [])
    assert attempt == ["Foreign", 1, name, 1]
    done = await task(hub, name)
    assert (done["state"], done["agent"], done["result"]["output"]) == ("completed", "Foreign", "done")
    assert (done["execution_ok"], done["verified"]) == (True, None)
    assert await kinds(hub, name) == ["task_queued", "task_assigned", "task_started", "task_completed"]


async def test_what_the_submitter_said_arrives_whole(hub: RunningHub) -> None:
    agent = await join(hub, capabilities=["executor:shell", "gpu"])
    spec = {
        "title": "Add a flag",
        "prompt": "Add --dry-run.\n\u00e9\u4e16",
        "command": "make",
        "executor": "shell",
        "priority": "high",
        "context": {
            "repo": "https://example.org/r.git",
            "branch": "main",
            "files": ["a.py", "b/c.py"],
            "notes": "mind the tests",
        },
        "success_criteria": ["--dry-run changes nothing", "it is documented"],
        "verification": [
            {"type": "file_exists", "path": "x", "name": "there", "timeout_s": 5.0},
            {"type": "test_passes", "command": "pytest -q"},
            {"type": "git_clean"},
            {"type": "command_succeeds", "command": "make"},
        ],
        "needs": ["gpu"],
        "budget": {"tokens": 1_000, "usd": 0.5, "seconds": 60.0, "fix_attempts": 1},
        "labels": {"team": "a"},
    }
    name = await submit(hub, **spec)
    assign = await agent.until("assign")

    assert assign["spec"] == spec
    assert assign["routing"]["strategy"] == "trivial"
    assert assign["routing"]["agent"] == "Foreign"
    assert assign["lease_s"] == agent.welcome["lease_s"]
    assert (await task(hub, name))["spec"] == {**(await task(hub, name))["spec"], **spec}


async def test_a_hub_that_is_alone_sends_its_sidecars_to_no_other_address(hub: RunningHub) -> None:
    agent = await join(hub)

    assert agent.welcome.get("hubs", []) == []
    await agent.leave()


async def test_a_ping_is_answered_at_once_and_not_with_the_next_heartbeat(tmp_path: Path) -> None:
    async with running_hub(tmp_path, heartbeat_s=60.0, lease_s=600.0) as quiet:
        agent = await join(quiet)
        await agent.say({"t": "ping", "token": 7})

        assert (await agent.until("pong"))["token"] == 7
        await agent.leave()


async def test_a_violation_right_behind_work_to_answer_ends_the_line_at_once(tmp_path: Path) -> None:
    async with running_hub(tmp_path, heartbeat_s=60.0, lease_s=600.0) as quiet:
        for boot in range(1, 6):
            name = f"Foreign {boot}"  # one that does this again and again is shut out
            agent = await join(quiet, name=name, boot=boot)
            for _ in range(30):  # each is answered, which wakes the hub's writer
                await agent.report([name, boot, "0" * 26, 1])
            await agent.say({"t": "ack", "n": 99})

            assert await agent.closed() == 1008


async def test_several_tasks_come_and_go_in_one_frame(hub: RunningHub) -> None:
    agent = await join(hub)
    names = [await submit(hub) for _ in range(3)]
    attempts = [(await agent.until("assign"))["attempt"] for _ in names]
    told: list[Plain] = []
    for attempt in attempts:
        result = {"execution_ok": True, "verified": True}
        told.append({"t": "accept", "n": len(told) + 1, "attempt": attempt})
        told.append({"t": "report", "n": len(told) + 1, "attempt": attempt, "state": "passed", "result": result})
    await agent.say(*told)
    await agent.until_acknowledged(6)

    assert [(await task(hub, name))["state"] for name in names] == ["completed"] * 3


async def test_output_and_phases_are_seen_while_it_works(hub: RunningHub) -> None:
    agent = await join(hub)
    name = await submit(hub)
    attempt = await agent.take()
    await agent.tell("log", attempt, offset=0, stream="stdout", text="hello\n")
    await agent.until_acknowledged(await agent.tell("progress", attempt, state="verifying", iteration=1))

    logs = await (await hub.ask("GET", f"/api/v1/tasks/{name}/logs")).json()
    assert [piece["text"] for piece in logs["logs"]] == ["hello\n"]
    assert (await task(hub, name))["attempts"][0]["state"] == "verifying"


async def test_a_rejected_task_goes_to_another_agent(hub: RunningHub) -> None:
    first = await join(hub, name="First")
    name = await submit(hub)
    attempt = (await first.until("assign"))["attempt"]
    second = await join(hub, name="Second")
    await first.tell("reject", attempt, code="draining", reason="about to leave")

    assert (await second.until("assign"))["attempt"] == ["Second", 1, name, 2]


# --- what does not count ----------------------------------------------------------------------------------------------


async def test_a_report_from_an_older_attempt_changes_nothing(hub: RunningHub) -> None:
    agent = await join(hub)
    name = await submit(hub)
    old = await agent.take()
    await agent.report(old, "failed")
    new = await agent.take()
    assert new == [*old[:3], 2]
    before = await until_state(hub, name, "running")
    number = await agent.report(old, output="late")
    error = await agent.until("error")

    assert (error["code"], error["attempt"]) == ("stale", old)
    assert not error.get("fatal", False)
    await agent.until_acknowledged(number)
    assert await task(hub, name) == before
    await agent.until_acknowledged(await agent.report(new))
    assert (await task(hub, name))["state"] == "completed"


@pytest.mark.parametrize(
    "forged",
    [["Thief", 1, "", 1], ["Victim", 1, "", 1], ["Thief", 9, "", 1], ["Thief", 1, "", 2], ["Victim", 1, "", 2]],
    ids=lambda parts: f"{parts[0]}-{parts[1]}-{parts[3]}",
)
@pytest.mark.parametrize("kind", ["report", "accept", "progress", "log", "reject"])
async def test_nobody_speaks_for_the_attempt_of_another(hub: RunningHub, kind: str, forged: list[Any]) -> None:
    victim = await join(hub, name="Victim")
    name = await submit(hub)
    attempt = await victim.take()
    thief = await join(hub, name="Thief", capabilities=[])
    await until_state(hub, name, "running")
    before = await task(hub, name)
    fields: dict[str, Plain] = {
        "report": {"state": "passed", "result": {"execution_ok": True, "verified": True, "output": "stolen"}},
        "accept": {},
        "progress": {"state": "verifying"},
        "log": {"offset": 0, "stream": "stdout", "text": "forged"},
        "reject": {"code": "x", "reason": "y"},
    }
    number = await thief.tell(kind, [forged[0], forged[1], name, forged[3]], **fields[kind])
    if kind != "log":
        assert (await thief.until("error"))["code"] == "stale"
    await thief.until_acknowledged(number)

    assert await task(hub, name) == before
    assert (await (await hub.ask("GET", f"/api/v1/tasks/{name}/logs")).json())["logs"] == []
    await victim.until_acknowledged(await victim.report(attempt))
    assert (await task(hub, name))["state"] == "completed"


@pytest.mark.parametrize("kind, state", [("report", "running"), ("report", "assigned"), ("progress", "passed")])
async def test_an_attempt_cannot_be_put_into_a_state_that_it_does_not_have(
    hub: RunningHub, kind: str, state: str
) -> None:
    agent = await join(hub)
    name = await submit(hub)
    attempt = await agent.take()
    await until_state(hub, name, "running")
    more = {"result": {"execution_ok": True, "verified": None}} if kind == "report" else {}
    await agent.tell(kind, attempt, state=state, **more)

    assert (await agent.until("error"))["code"] == "bad_input"
    assert (await task(hub, name))["attempts"][0]["state"] == "accepted"
    await agent.until_acknowledged(await agent.report(attempt))


async def test_a_cancelled_task_is_taken_from_its_agent(hub: RunningHub) -> None:
    agent = await join(hub)
    name = await submit(hub)
    attempt = await agent.take()
    await until_state(hub, name, "running")
    answer = await hub.ask("POST", f"/api/v1/tasks/{name}/cancel", json={"reason": "no more"})
    cancel = await agent.until("cancel")

    assert answer.status == 200
    assert (cancel["attempt"], cancel["reason"]) == (attempt, "no more")
    await agent.report(attempt)
    assert (await agent.until("error"))["code"] == "stale"
    assert (await task(hub, name))["state"] == "cancelled"


async def test_a_heartbeat_learns_which_attempts_do_not_count(hub: RunningHub) -> None:
    agent = await join(hub)
    name = await submit(hub)
    attempt = await agent.take()
    ghost = ["Foreign", 1, attempt[2], 7]
    held = [{"attempt": a, "state": "running", "iteration": 1} for a in (attempt, ghost)]
    await agent.say({"t": "heartbeat", "sidecar": "Foreign", "boot": 1, "attempts": held})

    assert (await agent.until("cancel"))["attempt"] == ghost
    assert (await task(hub, name))["epoch"] == 1


# --- coming in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token, status", [("acm_wrong", 401), ("", 401)])
async def test_without_a_good_token_nobody_comes_in(hub: RunningHub, token: str, status: int) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await ForeignAgent.dial(hub.url, token)

    assert caught.value.response.status_code == status


@pytest.mark.parametrize("role", ["viewer", "submitter", "operator"])
async def test_a_role_that_may_not_join_is_turned_away(hub: RunningHub, role: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await ForeignAgent.dial(hub.url, hub.tokens[role])

    assert caught.value.response.status_code == 403


async def test_who_says_no_hello_in_time_is_shown_out(hub: RunningHub) -> None:
    silent = await ForeignAgent.dial(hub.url, hub.tokens["agent"])

    assert await silent.closed() != 0
    assert await is_alive(hub)


@pytest.mark.parametrize(
    "first, code",
    [
        (b"\xc1", "malformed_frame"),
        (b"", "malformed_frame"),
        (b"\xdd\xff\xff\xff\xff", "malformed_frame"),
        (b"\x91" * 100_000, "malformed_frame"),
        (msgpack.packb({"t": "ping", "token": 1}), "protocol_violation"),
        (msgpack.packb([]), "protocol_violation"),
        (msgpack.packb([hello(), hello()]), "protocol_violation"),
        (msgpack.packb(hello(protocol=[2, 9])), "version_mismatch"),
        (msgpack.packb(hello(name="../../etc")), "malformed_frame"),
        (msgpack.packb(hello(name="")), "malformed_frame"),
        (msgpack.packb(hello(slots=0)), "malformed_frame"),
        (msgpack.packb(hello(slots=10**6)), "malformed_frame"),
        (msgpack.packb(hello(boot=2**63)), "malformed_frame"),
        (msgpack.packb(hello(boot=-1)), "malformed_frame"),
        ("a text", "protocol_violation"),
    ],
)
async def test_a_bad_first_word_is_answered_and_the_door_closed(hub: RunningHub, first: bytes | str, code: str) -> None:
    agent = await ForeignAgent.dial(hub.url, hub.tokens["agent"])
    await agent.socket.send(first)
    error = await agent.next()

    assert (error["t"], error["code"], error["fatal"]) == ("error", code, True)
    assert await agent.closed() == 1008
    assert await is_alive(hub)


@pytest.mark.parametrize(
    "frame, code",
    [
        (b"\xc1", "malformed_frame"),
        (b"\x91" * 100_000, "malformed_frame"),
        (b"\xdd\x00\x0f\xff\x00" + b"\x80" * 0xFFF00, "malformed_frame"),
        (msgpack.packb({"t": "accept", "n": 1, "attempt": ["Foreign", 1, "t", 2**63]}), "malformed_frame"),
        (msgpack.packb({"t": "accept", "n": 7, "attempt": ["Foreign", 1, "t", 1]}), "protocol_violation"),
        (msgpack.packb({"t": "ack", "n": 7}), "protocol_violation"),
        (msgpack.packb(hello()), "protocol_violation"),
        (msgpack.packb({"t": "drain", "n": 1, "on": True}), "protocol_violation"),
        ("a text", "protocol_violation"),
    ],
)
async def test_a_bad_frame_ends_its_link_and_nothing_else(hub: RunningHub, frame: bytes | str, code: str) -> None:
    agent = await join(hub)
    await agent.socket.send(frame)
    error = await agent.until("error")

    assert (error["code"], error["fatal"]) == (code, True)
    assert await agent.closed() == 1008
    assert await is_alive(hub)


async def test_the_largest_frame_comes_through_and_a_larger_one_ends_the_link(hub: RunningHub) -> None:
    agent = await join(hub)
    ping: Plain = {"t": "ping", "token": 7, "padding": b""}
    empty = len(msgpack.packb(ping)) + 3  # the header of a large binary is three bytes longer
    ping["padding"] = b"x" * (MAX_FRAME_BYTES - empty)
    assert len(msgpack.packb(ping)) == MAX_FRAME_BYTES
    await agent.say(ping)
    assert (await agent.until("pong"))["token"] == 7

    await agent.say({**ping, "padding": b"x" * (MAX_FRAME_BYTES - empty + 1)})
    assert await agent.closed() in {1008, 1009}
    assert await is_alive(hub)
