"""Simulated work that is checked: difficulties are the same for all, failures climb, and cheap models pay."""

import json
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from hub.simulate import CHECKED, Checking, Report, simulate
from hub.simulate.checked import Checked, Lots
from hub.simulate.engine import run
from hub.simulate.fleet import FleetPlan, read_fleet
from hub.simulate.trace import Job, read_trace
from protocol.choice import Effort, LearningMode
from protocol.errors import BadInput
from protocol.model import Tier
from tests.bench.placement import HOSTED, placed, verified

FLEET: Final = Path(__file__).parents[4] / "docs" / "examples" / "fleets" / "checked.toml"
SHADOW, ON = Checking(), Checking(learning=LearningMode.ON, usd_s=36_000.0)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Three hundred requests, short and long."""
    lines = [
        {"timestamp": n * 2_000, "input_length": 400 + (n * 7_919) % 6_000, "output_length": 20 + (n * 104_729) % 300}
        for n in range(300)
    ]
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def ran(trace: Path, policy: str = "ours", checking: Checking = SHADOW, fleet: Path = FLEET) -> Report:
    return simulate(fleet, trace, policy, load=0.5, checking=checking)


@pytest.mark.parametrize("checking", [SHADOW, ON], ids=["shadow", "on"])
def test_a_verified_result_costs_at_most_six_tenths_of_always_asking_the_hosted_model(
    trace: Path, checking: Checking
) -> None:
    ours, always = ran(trace, checking=checking), ran(trace, "always_hosted")

    assert ours.usd_per_verified is not None
    assert always.usd_per_verified is not None
    assert ours.usd_per_verified <= 0.6 * always.usd_per_verified
    assert ours.verified_rate >= always.verified_rate > 0.9
    assert ours.hosted < always.hosted == always.attempts
    assert ours.attempts > ours.jobs == 300


def test_the_table_of_what_must_hold_says_the_same(trace: Path) -> None:
    for _, cost, fewer in verified(trace, 0.5, None):
        assert fewer.holds
        assert cost.most != HOSTED or cost.holds
    figures = placed(FLEET.with_name("mixed.toml"), trace, 0.7, 100)

    assert figures["again"].holds
    assert str(figures["bound"]._replace(value=1.2)) == "1.20!"


@pytest.mark.parametrize("policy", CHECKED)
def test_the_same_seed_gives_the_same_report(trace: Path, policy: str) -> None:
    assert ran(trace, policy) == ran(trace, policy)


def test_who_is_stronger_passes_all_that_a_weaker_one_passes() -> None:
    fleet = read_fleet(FLEET)
    lots = Lots(fleet.checks, 1)
    jobs = [
        Job(number=number, at_s=0.0, input_tokens=1, output_tokens=10, model=fleet.models[0]) for number in range(400)
    ]
    small, large, hosted = (
        {job.number for job in jobs if lots.passes(job, model, Effort.NORMAL)}
        for model in (*fleet.models, *fleet.hosted)
    )
    harder = {job.number for job in jobs if lots.passes(job, fleet.models[0], Effort.HIGH)}
    tiers = Counter(lots.tier(job) for job in jobs)

    assert small < large < hosted
    assert small < harder
    assert 0.5 < tiers[Tier.STANDARD] / 400 < 0.7
    assert lots.attempt(jobs[0], fleet.models[1], Effort.HIGH).output_tokens == 20


def hopeless(tmp_path: Path) -> Path:
    """The fleet, where the first model passes nothing, nor does more effort make anybody pass more."""
    text = FLEET.read_text(encoding="utf-8").replace("[checks]", "[checks]\neffort = 0.0")
    path = tmp_path / "fleet.toml"
    path.write_text(text.replace("{trivial = 0.9, standard = 0.6, complex = 0.25}", "{}\nsuccess = 0.0"), "utf-8")
    return path


def begun_with(trace: Path, fleet: FleetPlan, learning: LearningMode) -> list[str]:
    """Models that the last third of the jobs has begun with."""
    jobs = read_trace(trace, fleet, seed=1, load=0.3)
    checking = Checking(learning=learning, usd_s=36_000.0)
    done, _ = run(jobs, (*fleet.hosts, *fleet.makers), Checked(fleet, 1, checking))
    first = {request.job.number: request.job.model.name for request in reversed(done)}
    return [first[number] for number in range(200, 300)]


def test_a_model_that_passes_nothing_is_left_if_learning_is_on_and_not_in_shadow(trace: Path, tmp_path: Path) -> None:
    fleet = read_fleet(hopeless(tmp_path))

    assert begun_with(trace, fleet, LearningMode.ON).count("qwen3:8b") <= 20
    assert begun_with(trace, fleet, LearningMode.SHADOW).count("qwen3:8b") >= 60


def test_checked_work_needs_a_hosted_model_and_a_policy_that_knows_it(trace: Path) -> None:
    with pytest.raises(BadInput, match="at least one"):
        ran(trace, fleet=FLEET.with_name("even.toml"))
    with pytest.raises(BadInput, match="one of ours, always_hosted"):
        ran(trace, "least_busy")


def test_everything_that_is_wrong_with_shares_is_told(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(
        """
models = [{name = "a", size_gb = 1, success_by_tier = {hard = 0.5}}]
hosts = [{name = "h"}]
hosted = [{name = "a", success = 2, decode_tokens_per_s = 0}]
checks = {tiers = {standard = 0, complex = -1}}
""",
        encoding="utf-8",
    )
    with pytest.raises(BadInput) as caught:
        read_fleet(path)

    assert [problem.path for problem in caught.value.problems] == [
        "models",
        "models[0].success_by_tier",
        "hosted[0].decode_tokens_per_s",
        "hosted[0].success",
        "checks.tiers.complex",
    ]
