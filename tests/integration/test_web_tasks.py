"""Submitting and asking for tasks over real HTTP: what is answered, and that nothing bad is ever half done."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.api import PROBLEM_TYPE
from protocol.limits import MAX_BODY_BYTES
from protocol.version import NEWEST, OLDEST
from tests.support.running_hub import RunningHub, running_hub

UNKNOWN = "01hzzzzzzzzzzzzzzzzzzzzzzz"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def submit(hub: RunningHub, body: object, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = await hub.ask("POST", "/api/v1/tasks", data=io.BytesIO(json.dumps(body).encode()), headers=sent)
    return answer.status, await answer.json(content_type=None), dict(answer.headers)


async def count(hub: RunningHub) -> int:
    return len((await (await hub.ask("GET", "/api/v1/tasks?limit=500")).json())["tasks"])


@pytest.mark.parametrize("body", [{"title": "x"}, {"command": "true"}, {"prompt": "say hi"}])
async def test_one_minimal_task_answers_its_summary_and_where_it_is(hub: RunningHub, body: dict[str, str]) -> None:
    status, told, headers = await submit(hub, body)

    assert (status, told["state"]) == (201, "queued")
    assert headers["Location"] == f"/api/v1/tasks/{told['id']}"
    assert (await (await hub.ask("GET", headers["Location"])).json())["spec"] == body


async def test_a_batch_answers_its_tasks_in_order(hub: RunningHub) -> None:
    status, told, _ = await submit(hub, {"tasks": [{"title": "a"}, {"title": "b"}, {"title": "c"}]})

    assert status == 201
    assert [task["title"] for task in told["tasks"]] == ["a", "b", "c"]


async def test_every_problem_of_every_task_is_in_one_answer_and_nothing_is_stored(hub: RunningHub) -> None:
    bad = {
        "tasks": [
            {"title": "fine"},
            {"titel": "x"},
            {"title": "y", "priority": "asap", "verification": [{"type": "file_exists"}]},
        ]
    }

    status, told, headers = await submit(hub, bad)

    assert (status, told["code"]) == (422, "bad_input")
    assert headers["Content-Type"].startswith(PROBLEM_TYPE)
    assert {problem["path"] for problem in told["errors"]} >= {
        "tasks[1].titel",
        "tasks[2].priority",
        "tasks[2].verification[0].path",
    }
    assert await count(hub) == 0


@pytest.mark.parametrize(
    "body, path",
    [
        ({"tasks": []}, "tasks"),
        ({"tasks": "x"}, "tasks"),
        ({"tasks": [{"title": "x"}] * 1001}, "tasks"),
        ({"tasks": [{"title": "x"}], "priority": "high"}, "priority"),
        ({"tasks": [3]}, "tasks[0]"),
        ([{"title": "x"}], ""),
        ("x", ""),
        (None, ""),
        ({}, ""),
        ({"title": "x", "depends_on": [UNKNOWN]}, "depends_on[0]"),
        ({"prompt": "x" * 2_000_000}, "prompt"),
    ],
)
async def test_a_body_that_is_no_task_is_422_with_the_place(hub: RunningHub, body: object, path: str) -> None:
    status, told, _ = await submit(hub, body)

    assert status == 422
    assert path in {problem["path"].removeprefix("tasks[0].") for problem in told["errors"]}
    assert await count(hub) == 0


@pytest.mark.parametrize(
    "raw, where",
    [
        (b'{"title": }', "line 1, column 11"),
        (b'{\n "title": "x",\n}', "line 3, column 1"),
        (b"", "line 1, column 1"),
        (b'{"title": "\xff"}', "line 1, column"),
        (b"[" * 100_000, "line 1, column"),
        (b'{"title": "x"} trailing', "line 1, column"),
        (b'{"budget": {"usd": NaN}, "title": "x"}', "line 1, column"),
    ],
)
async def test_what_is_not_json_is_400_with_line_and_column(hub: RunningHub, raw: bytes, where: str) -> None:
    answer = await hub.ask("POST", "/api/v1/tasks", data=raw, headers={"Content-Type": "application/json"})
    told = await answer.json(content_type=None)

    assert (answer.status, told["code"]) == (400, "invalid_json")
    assert where in told["detail"]


async def test_choices_are_counted_under_the_same_filters_as_the_list(hub: RunningHub) -> None:
    many = [{"title": "Ärger", "priority": "urgent", "labels": {"team": "x"}}, {"command": "true"}, {"command": "true"}]
    await submit(hub, {"tasks": [*many, {"prompt": "say hi", "model": "tiny:1b", "complexity": "complex"}]})

    async def told(query: str) -> dict[str, Any]:
        answer = await hub.ask("GET", f"/api/v1/tasks/facets?{query}")
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found

    everything, complex_ = await told(""), await told("tier=complex&state=queued,running")
    assert everything["total"] == 4
    assert everything["facets"]["state"] == {"queued": 4}
    assert everything["facets"]["priority"] == {"normal": 3, "urgent": 1}
    assert everything["facets"]["model"] == {"tiny:1b": 1}
    assert everything["facets"]["label"] == {"team:x": 1}
    assert complex_["total"] == complex_["facets"]["model"]["tiny:1b"] == 1
    assert complex_["facets"]["tier"]["trivial"] == 2
    assert (await told("q=ÄRGER&label=team:x"))["total"] == 1
    assert (await told("priority=low"))["facets"]["priority"] == {"normal": 3, "urgent": 1}
    assert (await hub.ask("GET", "/api/v1/tasks/facets?tier=hard")).status == 422
    listed = await (await hub.ask("GET", "/api/v1/tasks?priority=urgent,high&tier=standard&q=ärger")).json()
    assert [(task["title"], task["tier"], task["model"]) for task in listed["tasks"]] == [("Ärger", "standard", "")]


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8", "application/vnd.x+json"],
)
async def test_json_is_json_whatever_a_simple_client_calls_it(hub: RunningHub, kind: str) -> None:
    answer = await hub.ask(
        "POST", "/api/v1/tasks", data=b'{"title": "x", "title": "y"}', headers={"Content-Type": kind}
    )

    assert answer.status == 201


@pytest.mark.parametrize(
    "kind, raw",
    [
        ("application/xml", b"<task/>"),
        ("application/msgpack", b"\x81"),
        ("application/x-www-form-urlencoded", b"title=x"),
    ],
)
async def test_another_format_is_415(hub: RunningHub, kind: str, raw: bytes) -> None:
    answer = await hub.ask("POST", "/api/v1/tasks", data=raw, headers={"Content-Type": kind})

    assert answer.status == 415
    assert (await answer.json(content_type=None))["code"] == "wrong_media_type"


async def test_a_body_that_is_not_packed_as_its_headers_say_is_400(hub: RunningHub) -> None:
    status, told, headers = await submit(hub, {"title": "x"}, Content_Encoding="gzip")

    assert (status, told["code"], headers["Content-Type"]) == (400, "bad_request", PROBLEM_TYPE)
    assert "Content-Encoding" in told["detail"]
    assert await count(hub) == 0


async def test_a_body_over_the_limit_is_413(hub: RunningHub) -> None:
    answer = await hub.ask(
        "POST",
        "/api/v1/tasks",
        data=io.BytesIO(b" " * (MAX_BODY_BYTES + 1)),
        headers={"Content-Type": "application/json"},
    )

    assert answer.status == 413
    assert (await answer.json(content_type=None))["code"] == "body_too_large"


async def test_the_same_key_and_body_make_one_task(hub: RunningHub) -> None:
    first = await submit(hub, {"title": "x", "priority": "high"}, Idempotency_Key="k 1")
    again = await submit(hub, {"priority": "high", "title": "x"}, Idempotency_Key="k 1")

    assert (first[0], again[0]) == (201, 201)
    assert first[1] == again[1]
    assert "Idempotency-Replayed" not in first[2]
    assert again[2]["Idempotency-Replayed"] == "true"
    assert again[2]["Location"] == first[2]["Location"]
    assert await count(hub) == 1


async def test_the_same_key_with_another_body_is_409(hub: RunningHub) -> None:
    await submit(hub, {"title": "x"}, Idempotency_Key="k")

    status, told, _ = await submit(hub, {"title": "y"}, Idempotency_Key="k")

    assert (status, told["code"]) == (409, "idempotency_conflict")
    assert await count(hub) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "h\u00e9"])
async def test_a_key_that_cannot_be_is_422(hub: RunningHub, key: str) -> None:
    status, told, _ = await submit(hub, {"title": "x"}, Idempotency_Key=key)

    assert status == 422
    assert told["errors"][0]["path"] == "header Idempotency-Key"


async def test_tasks_are_found_by_state_and_label_and_page_by_page(hub: RunningHub) -> None:
    await submit(hub, {"tasks": [{"title": f"t{number}", "labels": {"odd": str(number % 2)}} for number in range(5)]})
    all_of_them = (await (await hub.ask("GET", "/api/v1/tasks")).json())["tasks"]
    await hub.ask("POST", f"/api/v1/tasks/{all_of_them[0]['id']}/cancel")

    odd = await (await hub.ask("GET", "/api/v1/tasks?label=odd:1")).json()
    ended = await (await hub.ask("GET", "/api/v1/tasks?state=cancelled,failed&state=dead")).json()
    first = await (await hub.ask("GET", "/api/v1/tasks?limit=3")).json()
    rest = await (await hub.ask("GET", f"/api/v1/tasks?limit=3&cursor={first['next_cursor']}")).json()

    assert [task["title"] for task in all_of_them] == ["t4", "t3", "t2", "t1", "t0"]
    assert [task["title"] for task in odd["tasks"]] == ["t3", "t1"]
    assert [task["title"] for task in ended["tasks"]] == ["t4"]
    assert [task["title"] for task in first["tasks"] + rest["tasks"]] == ["t4", "t3", "t2", "t1", "t0"]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "query, said",
    [
        ("limit=0", "from 1 to 500"),
        ("limit=501", "from 1 to 500"),
        ("limit=ten", "from 1 to 500"),
        ("limit=1&limit=2", "given 2 times"),
        ("state=done", "expected blocked, queued"),
        ("label=x", "expected key:value"),
        ("stat=queued", "did you mean 'state'"),
        ("cursor=zzz", "cursor"),
        ("limit=0&stat=x", "2 problems"),
    ],
)
async def test_a_query_that_is_not_understood_is_422(hub: RunningHub, query: str, said: str) -> None:
    answer = await hub.ask("GET", f"/api/v1/tasks?{query}")

    assert answer.status == 422
    assert said in (await answer.json(content_type=None))["detail"]


async def test_a_cancelled_task_is_answered_whole_and_cannot_be_cancelled_again(hub: RunningHub) -> None:
    _, made, _ = await submit(hub, {"title": "x"})

    first = await hub.ask("POST", f"/api/v1/tasks/{made['id']}/cancel", json={"reason": "not needed"})
    again = await hub.ask("POST", f"/api/v1/tasks/{made['id']}/cancel")

    assert (first.status, (await first.json())["state"]) == (200, "cancelled")
    assert again.status == 409


@pytest.mark.parametrize("path", ["", "/events", "/logs", "/explain", "/cancel", "/retry"])
@pytest.mark.parametrize("task", [UNKNOWN, "x", "%00", "..%2f..%2fetc", "'%20or%201=1"])
async def test_an_unknown_task_is_404_everywhere(hub: RunningHub, task: str, path: str) -> None:
    answer = await hub.ask("POST" if path in {"/cancel", "/retry"} else "GET", f"/api/v1/tasks/{task}{path}")

    assert answer.status == 404
    assert (await answer.json(content_type=None))["code"] == "not_found"


async def test_a_waiting_task_is_explained(hub: RunningHub) -> None:
    await submit(hub, {"command": "true"})  # of another class, and before it all the same
    await submit(hub, {"command": "true", "needs": ["gpu"], "priority": "low"})
    _, made, _ = await submit(hub, {"command": "true", "needs": ["gpu"]})

    told = await (await hub.ask("GET", f"/api/v1/tasks/{made['id']}/explain")).json()

    assert told["task"] == made["id"]
    assert told["summary"]
    assert (told["position"], told["starts_in_s"]) == (1, None)


async def test_an_unknown_path_says_what_is_near_and_a_wrong_method_what_works(hub: RunningHub) -> None:
    lost = await hub.ask("GET", "/api/v1/task")
    wrong = await hub.ask("PUT", "/api/v1/tasks")

    assert (lost.status, wrong.status) == (404, 405)
    assert "did you mean '/api/v1/tasks'" in (await lost.json(content_type=None))["detail"]
    assert wrong.headers["Allow"] == "GET,HEAD,POST" or set(wrong.headers["Allow"].replace(" ", "").split(",")) == {
        "GET",
        "HEAD",
        "POST",
    }


@pytest.mark.parametrize("path", ["/api/v1/agents/nobody", "/api/v1/endpoints/none"])
async def test_what_does_not_exist_is_404(hub: RunningHub, path: str) -> None:
    assert (await hub.ask("GET", path)).status == 404


@pytest.mark.parametrize(
    "path",
    ["/api/v1/agents", "/api/v1/hosts", "/api/v1/endpoints", "/api/v1/models", "/api/v1/health", "/api/v1/tokens"],
)
async def test_lists_answer_json_and_take_no_unknown_parameter(hub: RunningHub, path: str) -> None:
    good, bad = await hub.ask("GET", path), await hub.ask("GET", path + "?x=1")

    assert (good.status, bad.status) == (200, 422)
    assert isinstance(await good.json(), dict)


async def test_every_answer_has_an_id_and_the_security_headers(hub: RunningHub) -> None:
    for path in ("/healthz", "/api/v1/tasks", "/nothing", "/", "/docs", "/openapi.json"):
        answer = await hub.ask("GET", path, headers={"X-Request-Id": "mine-1"})

        assert answer.headers["X-Request-Id"] == "mine-1"
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_metrics_are_prometheus_text(hub: RunningHub) -> None:
    answer = await hub.ask("GET", "/metrics")

    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "agentcom_agents" in await answer.text()


async def test_a_tier_that_looks_wrong_counts_and_what_was_found_is_kept(hub: RunningHub) -> None:
    race = {"prompt": "Fix the race"}
    _, task, _ = await submit(hub, {**race, "complexity": "trivial"}, Idempotency_Key="k")
    await submit(hub, {**race, "complexity": "trivial"}, Idempotency_Key="k")  # the same task again
    await submit(hub, {**race, "complexity": "complex"})
    await submit(hub, race)

    tier = (await (await hub.ask("GET", f"/api/v1/tasks/{task['id']}")).json())["routing"]["tier"]
    assert tier == {
        "explicit": "trivial",
        "inferred": "complex",
        "effective": "trivial",
        "confidence": 1.0,
        "inferred_confidence": 0.8,
        "signals": ["complex words: race"],
    }
    told = (await (await hub.ask("GET", "/metrics")).text()).splitlines()
    assert [line for line in told if line.startswith("agentcom_tier") and "_total{" in line] == [
        'agentcom_tiers_named_total{explicit="complex",inferred="complex"} 1.0',
        'agentcom_tiers_named_total{explicit="trivial",inferred="complex"} 1.0',
        'agentcom_tier_disagreements_total{explicit="trivial",inferred="complex"} 1.0',
    ]


async def test_a_hub_that_is_ready_says_so(hub: RunningHub) -> None:
    assert (await hub.ask("GET", "/readyz", role=None)).status == 200
    assert json.loads(await (await hub.ask("GET", "/healthz", role=None)).text()) == {
        "status": "ok",
        "protocol": [OLDEST, NEWEST],
    }


async def bulk(hub: RunningHub, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = await hub.ask("POST", "/api/v1/tasks/bulk", json=body)
    return answer.status, await answer.json()


async def states(hub: RunningHub) -> dict[str, str]:
    told = await (await hub.ask("GET", "/api/v1/tasks?limit=500")).json()
    return {task["title"]: task["state"] for task in told["tasks"]}


async def test_what_is_done_to_many_is_counted_first_and_done_to_no_other(hub: RunningHub) -> None:
    await submit(hub, {"tasks": [{"title": f"old {n}", "labels": {"team": "x"}} for n in range(3)]})
    await submit(hub, {"tasks": [{"title": "old of others"}, {"title": "new", "labels": {"team": "x"}}]})
    wanted = {"verb": "cancel", "q": "old", "label": "team:x"}
    seen = await bulk(hub, **wanted, preview=True)
    before = await states(hub)
    done = await bulk(hub, **wanted, expect=3, reason="no more")

    assert seen == (200, {"matched": 3, "done": 0, "refused": [], "more": False})
    assert set(before.values()) == {"queued"}
    assert done == (200, {"matched": 3, "done": 3, "refused": [], "more": False})
    assert await states(hub) == {
        "old 0": "cancelled", "old 1": "cancelled", "old 2": "cancelled", "old of others": "queued", "new": "queued",
    }  # fmt: skip


async def test_more_than_were_expected_are_left_alone(hub: RunningHub) -> None:
    await submit(hub, {"tasks": [{"title": "a"}, {"title": "b"}]})
    status, told = await bulk(hub, verb="cancel", expect=1)

    assert (status, told["code"]) == (409, "conflict")
    assert set((await states(hub)).values()) == {"queued"}


async def test_a_priority_is_changed_for_one_and_for_many(hub: RunningHub) -> None:
    _, one, _ = await submit(hub, {"title": "one"})
    await submit(hub, {"tasks": [{"title": "two"}, {"title": "three"}]})
    changed = await hub.ask("PATCH", f"/api/v1/tasks/{one['id']}", json={"priority": "urgent"})
    _, many = await bulk(hub, verb="prioritise", priority="low", q="t")
    told = await (await hub.ask("GET", "/api/v1/tasks")).json()

    assert (await changed.json())["priority"] == "urgent"
    assert many["done"] == 2
    assert {task["title"]: task["priority"] for task in told["tasks"]} == {
        "one": "urgent",
        "two": "low",
        "three": "low",
    }


async def test_what_makes_no_sense_for_many_is_told_at_once(hub: RunningHub) -> None:
    await submit(hub, {"title": "a"})
    status, told = await bulk(hub, verb="cancel", label="team", priority="low")

    assert status == 422
    assert [problem["path"] for problem in told["errors"]] == ["label", "priority"]
    assert (await bulk(hub, verb="prioritise"))[0] == 422
    assert (await bulk(hub, verb="explode"))[0] == 422
    assert (await bulk(hub, verb="retry", expect=0))[1]["matched"] == 0
    status, told = await bulk(hub, verb="cancel")  # of everybody, and nobody has said how many
    assert (status, [problem["path"] for problem in told["errors"]]) == (422, ["expect"])
    assert set((await states(hub)).values()) == {"queued"}


async def test_readiness_is_told_part_by_part_to_who_wants_it(hub: RunningHub) -> None:
    answer = await hub.ask("GET", "/readyz?verbose", role=None)
    found = await answer.json()

    assert (answer.status, found["status"]) == (200, "ok")
    assert {name: part["state"] for name, part in found["parts"].items()} == dict.fromkeys(
        ("store", "schema", "sweeper", "serving"), "ok"
    )
    health = await (await hub.ask("GET", "/api/v1/health")).json()
    assert {health["components"][name]["state"] for name in ("sweeper", "audit")} == {"ok"}
