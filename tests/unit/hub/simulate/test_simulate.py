"""The simulator: what a machine does, what a bound is, and that our plan beats every simple rule on it."""

import json
from pathlib import Path

import pytest

from hub.simulate import POLICIES, Report, simulate
from hub.simulate.engine import Machine, Request, run
from hub.simulate.fleet import HostPlan, ModelPlan, read_fleet
from hub.simulate.report import lower_bound_s
from hub.simulate.rules import RULES
from hub.simulate.trace import Job, read_trace
from protocol.errors import BadInput

EXAMPLES = Path(__file__).parents[4] / "docs" / "examples" / "fleets"
SMALL = ModelPlan(name="small", size_gb=6.0, prefill_tokens_per_s=1_000.0)
LARGE = ModelPlan(name="large", size_gb=15.0, prefill_tokens_per_s=500.0)
TOWER = HostPlan(name="tower", vram_gb=20.0, bandwidth_gb_s=1_000.0, disk_gb_s=2.0)
"""Loads the small model in 3.5 s, reads 1,000 and writes 100 tokens a second with it."""


def job(number: int, model: ModelPlan = SMALL, *, at_s: float = 0.0, blocks: tuple[int, ...] = ()) -> Job:
    return Job(number=number, at_s=at_s, input_tokens=1_000, output_tokens=100, model=model, blocks=blocks)


def written(folder: Path, text: str, name: str = "fleet.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def trace(folder: Path, count: int = 300) -> Path:
    """Short and long prompts and answers, at times that are neither even nor bursts."""
    lines = []
    for number in range(count):
        at_ms = number * 1_000 + (number * 611_953) % 3_000
        read = 400 + (number * 7_919) % 6_000
        lines.append({"timestamp": at_ms, "input_length": read, "output_length": 20 + (number * 104_729) % 300})
    return written(folder, "\n".join(json.dumps(line) for line in lines), "trace.jsonl")


# --- machines -------------------------------------------------------------------------------------------------------


def test_a_request_takes_load_reading_and_writing() -> None:
    done, machines = run([job(0), job(1, at_s=100.0)], [TOWER], RULES["least_busy"](1))

    assert [round(request.completion_s, 6) for request in done] == [5.5, 2.0]
    assert machines[0].loads == 1


def test_a_machine_pushes_out_what_was_used_longest_ago_when_it_needs_the_room() -> None:
    done, machines = run([job(0), job(1, LARGE, at_s=50.0), job(2, at_s=100.0)], [TOWER], RULES["least_busy"](1))

    assert machines[0].loads == 3
    assert all(request.load_s > 0 for request in done)


def test_a_model_in_use_is_never_pushed_out() -> None:
    tower = HostPlan(name="tower", vram_gb=20.0, disk_gb_s=2.0, parallel=2)
    done, _ = run([job(0), job(1, LARGE)], [tower], RULES["least_busy"](1))

    assert done[1].begun_at == pytest.approx(done[0].ended_at)


def test_a_prompt_that_begins_like_the_last_one_is_read_faster() -> None:
    blocks = (1,)
    machine = Machine(TOWER)
    first = machine.begin(Request(job(0, blocks=blocks)), 0.0)
    machine.running.clear()
    second = machine.begin(Request(job(1, blocks=blocks)), 0.0)

    assert first - second == pytest.approx(3.5 + 0.512)


def test_no_rule_beats_the_bound() -> None:
    fleet = read_fleet(EXAMPLES / "mixed.toml")
    jobs = [job(number, fleet.models[number % 5], at_s=number * 0.4) for number in range(60)]
    bound_s = lower_bound_s(jobs, fleet)

    for rule in RULES.values():
        done, _ = run(jobs, fleet.hosts, rule(1))
        assert max(request.ended_at for request in done) >= bound_s


# --- the whole ------------------------------------------------------------------------------------------------------


def reports(folder: Path, fleet: str, load: float = 0.7) -> dict[str, Report]:
    path = trace(folder)
    return {policy: simulate(EXAMPLES / fleet, path, policy, load=load) for policy in POLICIES}


@pytest.mark.parametrize("fleet", ["even.toml", "mixed.toml", "cold.toml"])
def test_our_plan_ends_work_sooner_than_any_simple_rule(tmp_path: Path, fleet: str) -> None:
    found = reports(tmp_path, fleet)
    ours = found["ours"].mean_completion_s

    assert ours <= 0.8 * found["least_busy"].mean_completion_s
    assert ours <= 0.8 * found["power_of_two"].mean_completion_s
    assert ours <= found["earliest_completion"].mean_completion_s
    assert found["ours"].makespan_s <= 1.15 * found["ours"].lower_bound_s
    assert {each.jobs for each in found.values()} == {300}


def sessions(folder: Path, count: int = 240) -> Path:
    """Twelve conversations, each going on from itself by a block of 512 tokens a turn, at odd times."""
    lines = []
    for number in range(count):
        session, turn = (number * 5) % 12, number // 12
        blocks = [1_000 * session + block for block in range(6 + turn)]
        at_ms = number * 700 + (number * 611_953) % 900
        line = {"timestamp": at_ms, "input_length": 512 * len(blocks) + 40, "output_length": 60, "hash_ids": blocks}
        lines.append({**line, "model": "small"})
    return written(folder, "\n".join(json.dumps(line) for line in lines), "trace.jsonl")


def test_conversations_go_on_where_they_are_known(tmp_path: Path) -> None:
    fleet = written(
        tmp_path,
        """
        models = [{name = "small", size_gb = 6.0, prefill_tokens_per_s = 1000}]
        hosts = [{name = "box", count = 4, vram_gb = 12, bandwidth_gb_s = 1000, parallel = 4}]
        """,
    )
    found = {rule: simulate(fleet, sessions(tmp_path), rule, load=0.7) for rule in ("ours", "earliest_completion")}
    ours, simple = found["ours"], found["earliest_completion"]

    assert ours.reused > 0.6
    assert ours.reused > 2 * simple.reused
    assert ours.mean_completion_s < simple.mean_completion_s / 1.5


def test_the_same_arguments_give_the_same_report(tmp_path: Path) -> None:
    once, again = (simulate(EXAMPLES / "mixed.toml", trace(tmp_path, 80), "ours", seed=3) for _ in range(2))

    assert once == again


def test_another_seed_draws_other_models(tmp_path: Path) -> None:
    path = trace(tmp_path, 80)

    assert simulate(EXAMPLES / "even.toml", path, "random", seed=1) != simulate(
        EXAMPLES / "even.toml", path, "random", seed=2
    )


def test_late_answers_and_good_ones_are_counted(tmp_path: Path) -> None:
    fleet = written(
        tmp_path,
        '[[models]]\nname = "m"\nsize_gb = 5\nsuccess = 0.5\n[[hosts]]\nname = "h"\nusd_per_hour = 3600\n',
    )
    found = simulate(fleet, trace(tmp_path, 200), "ours", deadline_s=0.001)

    assert found.deadline_misses == 200
    assert 0.4 < found.verified_rate < 0.6
    assert found.cost_usd > 1


# --- files ----------------------------------------------------------------------------------------------------------


def test_the_columns_of_the_azure_traces_are_understood(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:05.0,7,8\n"
    jobs = read_trace(written(tmp_path, text, "a.csv"), read_fleet(EXAMPLES / "even.toml"), seed=1)

    assert [(each.input_tokens, each.output_tokens) for each in jobs] == [(4808, 10), (7, 8)]
    assert jobs[1].at_s == pytest.approx(1.0200400)


def test_a_trace_may_name_its_models_and_is_stretched_to_a_load(tmp_path: Path) -> None:
    lines = [{"timestamp": n * 10, "input_length": 100, "output_length": 50, "model": "qwen3:8b"} for n in range(50)]
    path = written(tmp_path, "\n".join(map(json.dumps, lines)), "a.jsonl")
    fleet = read_fleet(EXAMPLES / "even.toml")
    half, full = (read_trace(path, fleet, seed=1, load=load) for load in (0.5, 1.0))

    assert {each.model.name for each in half} == {"qwen3:8b"}
    assert half[-1].at_s == pytest.approx(2 * full[-1].at_s)


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("a.csv", "TIMESTAMP,ContextTokens\n2023-11-16 18:17:03,5\n", "request 1"),
        ("a.jsonl", '{"timestamp": 0, "input_length": 1, "output_length": 1}\n{"timestamp": 1}\n', "request 2"),
        ("a.jsonl", "no json", "request 1"),
        ("a.jsonl", '{"timestamp": 0, "input_length": 1, "output_length": 1, "model": "none"}', "request 1"),
        ("a.jsonl", "\n\n", "no requests"),
    ],
)
def test_a_trace_that_cannot_be_understood_names_the_request(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_trace(written(tmp_path, text, name), read_fleet(EXAMPLES / "even.toml"), seed=1)


def test_everything_that_is_wrong_with_a_fleet_is_told_at_once(tmp_path: Path) -> None:
    text = """
[[models]]
name = "a"
size_gb = 500
success = 1.5
[[models]]
name = "a"
size_gb = -1
[[hosts]]
name = "h"
vram_gb = 0
models = ["b"]
"""
    with pytest.raises(BadInput) as caught:
        read_fleet(written(tmp_path, text))

    assert {problem.path for problem in caught.value.problems} == {
        "models",
        "models[0].success",
        "models[1].size_gb",
        "hosts[0].vram_gb",
        "hosts[0].models",
    }


@pytest.mark.parametrize(
    "text", ["", "[[models]]\nname = 'a'\nsize_gb = 1\n", "[[models]", "[[models]]\nname = 'a'\nsize = 1\n"]
)
def test_a_file_that_is_no_fleet_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput):
        read_fleet(written(tmp_path, text))


def test_a_policy_that_does_not_exist_is_told_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="one of ours, round_robin"):
        simulate(EXAMPLES / "even.toml", trace(tmp_path, 1), "best")


def test_a_host_with_a_count_is_so_many_hosts() -> None:
    assert [host.name for host in read_fleet(EXAMPLES / "even.toml").hosts] == [f"tower-{n}" for n in range(1, 5)]
