"""Memory for models: weights and cache, what is measured before what is guessed, GPUs that others use too."""

import pytest
from msgspec.structs import replace

from hub.core.hosts import USABLE
from hub.core.vram import kv_bytes, most_tokens, needed_bytes, overflow, room
from protocol.machine import GpuReport
from protocol.model import ModelReport, Residency
from tests.support.machines import GB, gpu, host, model, ollama

MEASURED = ModelReport(name="m", size_bytes=5 * GB, vram_bytes=6 * GB, context=8_192, kv_bytes_per_token=131_072)


def test_a_model_needs_its_weights_and_a_cache_for_every_request_at_a_time() -> None:
    told = ModelReport(name="m", size_bytes=5 * GB, kv_bytes_per_token=131_072)

    assert needed_bytes(told, 32_768, 4) == pytest.approx(1.05 * 5 * GB + 131_072 * 32_768 * 4)
    assert needed_bytes(told) == pytest.approx(1.15 * 5 * GB)  # never the weights alone


@pytest.mark.parametrize("size_gb, per_token", [(1.0, 28_672), (5.2, 131_072), (40.0, 327_680)])
def test_the_cache_of_an_unknown_model_is_guessed_within_a_factor_of_two(size_gb: float, per_token: int) -> None:
    guessed = kv_bytes(ModelReport(name="m", size_bytes=int(size_gb * GB)), 1)

    assert per_token / 2 <= guessed <= per_token * 2


def test_what_was_measured_counts_and_more_context_comes_on_top() -> None:
    assert needed_bytes(MEASURED, 8_192, 2) == 6 * GB
    assert needed_bytes(MEASURED, 16_384, 2) == 6 * GB + 131_072 * 8_192 * 2


def test_nobody_knows_the_size_of_a_model_that_is_not_listed() -> None:
    assert needed_bytes(None) == 0
    assert needed_bytes(ModelReport(name="m")) == 0


def test_memory_of_others_is_not_ours_gpu_by_gpu() -> None:
    warm = replace(model("m", 6.0), residency=Residency.WARM)
    free = room(ollama(warm), host(gpu(24, used_gb=6), gpu(24, used_gb=20)))

    assert free is not None
    assert free == pytest.approx((USABLE * 24 * GB, USABLE * 24 * GB - 20 * GB))


def test_the_driver_may_say_which_memory_is_ours() -> None:
    report = GpuReport(name="x", vram_total_bytes=24 * GB, vram_used_bytes=10 * GB, vram_ours_bytes=7 * GB)
    told = replace(report, vram_foreign_bytes=2 * GB)

    assert room(ollama(), host(report)) == pytest.approx((USABLE * 24 * GB - 3 * GB,))
    assert room(ollama(), host(told)) == pytest.approx((USABLE * 24 * GB - 3 * GB,))  # one more that nobody owns up to


def test_a_gpu_that_others_fill_has_no_room_rather_than_less_than_none() -> None:
    assert room(ollama(), host(gpu(24, used_gb=24))) == (0.0,)


def test_without_a_gpu_there_is_main_memory_and_without_figures_nothing_is_known() -> None:
    assert room(ollama(), host(ram_gb=10)) == pytest.approx((7 * GB,))
    assert room(ollama(), host(GpuReport(name="x"))) is None
    assert room(ollama(), None) is None


def test_a_prompt_of_a_bucket_overflows_never_perhaps_or_certainly() -> None:
    served = ModelReport(name="m", context=16_384)

    assert overflow(served, 8_192, grows=False) == 0.0
    assert 0 < overflow(served, 16_384, grows=False) < 1
    assert overflow(served, 65_536, grows=False) == 1.0


def test_where_the_context_grows_only_what_the_model_was_made_for_counts() -> None:
    loaded = ModelReport(name="m", context=8_192)

    assert overflow(loaded, 65_536, grows=True) == 0.0
    assert overflow(replace(loaded, max_context=16_384), 65_536, grows=True) == 1.0
    assert most_tokens(None, grows=False) == 0
    assert overflow(None, 65_536, grows=False) == 0.0
