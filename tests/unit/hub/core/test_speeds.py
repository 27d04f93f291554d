"""What is expected of a model before it was measured, and what measuring changes."""

import pytest

from hub.core.measures import MAX_KEPT, Measure
from hub.core.routing import Requirements
from hub.core.speeds import CLOUD_USD, FIRST_DEMAND, GIGA, OTHER_DEMAND, Demand, Speeds, expected, guessed_size
from protocol.machine import GpuReport, HostReport
from protocol.model import EndpointKind, EndpointReport, ModelReport, Strategy
from tests.support.machines import host

GB = 10**9
OLLAMA = EndpointReport(id="o", kind=EndpointKind.OLLAMA, url="http://127.0.0.1:1", local=True)
CLAUDE = EndpointReport(id="c", kind=EndpointKind.ANTHROPIC, url="https://a.invalid", local=False)
MODEL = ModelReport(name="m", size_bytes=6 * GB)


@pytest.mark.parametrize("name, gb_s", [("NVIDIA H200", 4_800), ("NVIDIA GeForce RTX 3090", 936), ("Other", 400)])
def test_a_model_is_expected_to_be_as_fast_as_the_memory_of_its_gpu(name: str, gb_s: float) -> None:
    found = expected(OLLAMA, MODEL, host(GpuReport(name=name)))

    assert found.decode_tokens_per_s == pytest.approx(0.6 * gb_s / 6)
    assert found.load_s == pytest.approx(6.0)
    assert not found.is_measured


def test_the_best_of_several_gpus_counts_and_main_memory_where_there_is_none() -> None:
    two = host(GpuReport(name="Tesla T4"), GpuReport(name="NVIDIA L4"))

    assert expected(OLLAMA, MODEL, two).decode_tokens_per_s == pytest.approx(0.6 * 320 / 6)
    assert expected(OLLAMA, MODEL, host()).decode_tokens_per_s == pytest.approx(0.6 * 40 / 6)
    assert expected(OLLAMA, None, None).decode_tokens_per_s == pytest.approx(0.6 * 40 / 5)


def test_a_speed_that_the_endpoint_tells_counts_more_than_a_guess() -> None:
    told = ModelReport(name="m", size_bytes=6 * GB, tokens_per_s=33.0)

    assert expected(OLLAMA, told, None).decode_tokens_per_s == 33.0


@pytest.mark.parametrize(
    "name, size_gb",
    [
        ("qwen3:8b", 4.8),
        ("smollm2:135m", 0.081),
        ("Llama-3.1-70B-Instruct-Q4_K_M", 42.0),
        ("mixtral:8x7b", 33.6),
        ("qwen3-30b-a3b", 18.0),
        ("phi4", 5.0),  # says nothing
        ("gpt-4b1t", 5.0),
    ],
)
def test_a_model_of_unknown_size_is_as_large_as_its_name_says(name: str, size_gb: float) -> None:
    assert guessed_size(name) == pytest.approx(size_gb * GIGA)


def test_a_cloud_model_is_never_loaded() -> None:
    assert expected(CLAUDE, None, None).load_s == 0.0


def test_the_first_measurement_replaces_the_guess_and_later_ones_move_it() -> None:
    speeds, server = Speeds(), ("h", "o")
    before = speeds.of(server, OLLAMA, MODEL, None)
    speeds.took(server, "m", before, load_s=10.0, prefill=(1_000, 2.0), decode=(100, 4.0))
    first = speeds.of(server, OLLAMA, MODEL, None)
    speeds.took(server, "m", before, load_s=20.0, decode=(100, 8.0))
    second = speeds.of(server, OLLAMA, MODEL, None)

    assert (first.load_s, first.prefill_tokens_per_s, first.decode_tokens_per_s) == pytest.approx((10.0, 500.0, 25.0))
    assert first.is_measured
    assert second.load_s == pytest.approx(12.0)
    assert second.prefill_tokens_per_s == pytest.approx(500.0)
    assert 1 / second.decode_tokens_per_s == pytest.approx(0.04 + 0.2 * 0.04)


@pytest.mark.parametrize("nothing", [(0, 1.0), (5, 0.0), None])
def test_what_was_not_measured_changes_nothing(nothing: tuple[int, float] | None) -> None:
    speeds, server = Speeds(), ("h", "o")
    before = speeds.of(server, OLLAMA, MODEL, None)
    speeds.took(server, "m", before, prefill=nothing, decode=nothing)

    after = speeds.of(server, OLLAMA, MODEL, None)
    assert (after.prefill_tokens_per_s, after.decode_tokens_per_s) == pytest.approx(
        (before.prefill_tokens_per_s, before.decode_tokens_per_s)
    )


def test_servers_of_one_name_on_two_hosts_are_two_servers() -> None:
    speeds = Speeds()
    speeds.took(("one", "o"), "m", expected(OLLAMA, MODEL, None), decode=(100, 1.0))

    assert not speeds.of(("two", "o"), OLLAMA, MODEL, None).is_measured


def test_a_kind_of_task_asks_for_what_its_last_ones_used() -> None:
    speeds = Speeds()
    first = speeds.demand("class", "chat"), speeds.demand("class", "strange")
    speeds.used("class", 1_000, 10)
    speeds.used("class", 2_000, 20)

    assert first == (FIRST_DEMAND["chat"], OTHER_DEMAND)
    assert speeds.demand("class", "chat").input_tokens == pytest.approx(1_200)
    assert speeds.demand("class", "chat").output_tokens == pytest.approx(12)
    assert speeds.demand("other", "chat") == FIRST_DEMAND["chat"]


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    speeds = Speeds()
    for number in range(MAX_KEPT + 1):
        speeds.used(f"class {number}", 1, 1)

    assert speeds.demand("class 0", "chat") == FIRST_DEMAND["chat"]
    assert speeds.demand("class 1", "chat").input_tokens == 1


def test_a_host_report_is_what_agents_send() -> None:
    assert isinstance(host(), HostReport)


def test_one_load_tells_how_fast_the_disk_is_for_all_models_there_and_a_guess_for_other_machines() -> None:
    speeds = Speeds()
    speeds.took(("one", "o"), "x", expected(OLLAMA, MODEL, None), load_s=20.0, size_bytes=5 * GB)

    assert speeds.of(("one", "o"), OLLAMA, MODEL, None).load_s == pytest.approx(24.0)
    assert speeds.of(("two", "o"), OLLAMA, MODEL, None).load_s == pytest.approx(24.0)


def test_prices_are_what_was_paid_and_before_that_a_guess() -> None:
    speeds, demand = Speeds(), Demand(1_000.0, 100.0)
    assert speeds.usd(("", "c"), CLAUDE, "x", demand) == pytest.approx(CLOUD_USD * 1_500)
    assert speeds.usd(("a", "o"), OLLAMA, "x", demand) == 0.0

    speeds.paid(("", "c"), "x", 0.3, (1_000, 100))
    assert speeds.usd(("", "c"), CLAUDE, "x", demand) == pytest.approx(0.3)
    speeds.paid(("", "c"), "x", 0.0, (0, 0))
    assert speeds.usd(("", "c"), CLAUDE, "x", demand) == pytest.approx(0.3)


def test_what_a_task_asks_for_comes_from_its_kind_and_from_itself() -> None:
    speeds = Speeds()
    asked = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), context=4_096, repo="r")
    speeds.used(asked.kind, 100, 10, 5.0)

    assert speeds.asked(asked, asked.kind) == Demand(100.0, 10.0, 5.0, asked.kind, 4_096, 8_192, "r")


def test_what_was_learnt_is_told_once_and_can_be_recalled() -> None:
    old, new = Speeds(), Speeds()
    server = ("a", "o")
    old.used("k", 300, 30, 2.0)
    old.lasted("k", 7.0)
    old.paid(server, "m", 1.5, (100, 10))
    before = old.of(server, OLLAMA, MODEL, None)
    old.took(server, "m", before, at=99.0, size_bytes=6 * GB, load_s=3.0, decode=(100, 2.0))
    measures = old.changes()
    new.recall(measures)

    assert old.changes() == []
    assert sorted(each.about for each in measures) == ["demand", "disk", "length", "price", "speed"]
    assert new.demand("k", "chat") == old.demand("k", "chat")
    assert new.lasts("k") == 7.0
    assert new.usd(server, OLLAMA, "m", Demand(100, 10)) == pytest.approx(1.5)
    found = new.of(server, OLLAMA, MODEL, None)
    assert (found.load_s, found.decode_tokens_per_s, found.is_measured) == (3.0, 50.0, True)
    assert found.used_at == float("-inf")  # the clock of another boot says nothing
    assert new.of(("b", "o"), OLLAMA, MODEL, None).load_s == pytest.approx(3.0)  # disks of the fleet are alike


def test_what_cannot_be_read_any_more_is_left_out() -> None:
    speeds = Speeds()
    speeds.recall([Measure("demand", "k", b"\xc1"), Measure("unheard-of", "k", b"")])

    assert speeds.demand("k", "chat") == FIRST_DEMAND["chat"]
