import math

import msgspec
import pytest

from protocol.model import EndpointKind, Timing, Usage
from protocol.prices import Price, read_price
from sidecar.llm.pricing import TokenCounts, billed, cost_usd, listed_price

CLAUDE = "https://api.anthropic.com"


def test_cached_tokens_cost_what_cached_tokens_cost() -> None:
    # claude-sonnet-5: 2 and 10 dollars a million; reading the cache a tenth, writing it 1.25 times the input price.
    tokens = TokenCounts(input=1000, output=100, cache_read=900, cache_write=30)

    cost = cost_usd(tokens, "claude-sonnet-5", kind=EndpointKind.ANTHROPIC, url=CLAUDE, local=False)

    assert cost == pytest.approx((70 * 2 + 900 * 0.2 + 30 * 2.5 + 100 * 10) / 1e6)


def test_a_long_prompt_is_charged_by_its_tier() -> None:
    def cost(tokens: int) -> float:
        counts = TokenCounts(input=tokens, output=0)
        found = cost_usd(counts, "claude-haiku-5-5", kind=EndpointKind.ANTHROPIC, url=CLAUDE, local=False)
        assert found is not None
        return found

    assert cost(200_000) > 2 * cost(100_000)


def test_openai_models_are_priced_by_their_address() -> None:
    tokens = TokenCounts(input=1_000_000, output=0)
    url = "https://api.openai.com/v1"

    assert cost_usd(tokens, "gpt-5", kind=EndpointKind.OPENAI, url=url, local=False) == pytest.approx(1.25)


@pytest.mark.parametrize(
    "kind, model, url",
    [
        (EndpointKind.ANTHROPIC, "no-such-model", CLAUDE),
        (EndpointKind.OPENAI, "qwen3:8b", "http://10.0.0.7:8000/v1"),
    ],
)
def test_what_nobody_knows_is_unknown_and_never_free(kind: EndpointKind, model: str, url: str) -> None:
    assert cost_usd(TokenCounts(1000, 1000), model, kind=kind, url=url, local=False) is None


def test_a_local_endpoint_costs_nothing_whatever_its_model_is_called() -> None:
    assert cost_usd(TokenCounts(1000, 1000), "gpt-5", kind=EndpointKind.OPENAI, url="http://x", local=True) == 0.0


def test_a_list_price_says_where_it_stands() -> None:
    price = listed_price("claude-sonnet-5", kind=EndpointKind.ANTHROPIC, url=CLAUDE)

    assert price is not None
    assert (price.input_usd, price.output_usd) == (pytest.approx(2.0), pytest.approx(10.0))
    assert price.source.startswith("genai-prices ")
    assert listed_price("no-such-model", kind=EndpointKind.ANTHROPIC, url=CLAUDE) is None


def test_the_price_of_the_hub_counts_before_the_list() -> None:
    usage, listed = Usage(input_tokens=1_000, output_tokens=100, cost_usd=9.0), Price(model="m", input_usd=1.0)

    ours = billed(usage, read_price("m=1/10"), listed, is_local=False)
    assert (ours.cost_usd, ours.bill and ours.bill.price) == (pytest.approx(0.002), read_price("m=1/10"))
    theirs = billed(usage, None, listed, is_local=False)
    assert (theirs.cost_usd, theirs.bill and theirs.bill.price) == (9.0, listed)


def test_local_work_is_priced_by_the_time_and_energy_of_its_gpu() -> None:
    usage = Usage(seconds=30.0, timing=Timing(model_s=25.0, queue_s=5.0))
    found = billed(usage, Price(gpu_hour_usd=3.6, kwh_usd=0.36), None, is_local=True, power_w=180.0)

    assert found.bill is not None
    assert (found.bill.gpu_s, found.bill.energy_wh) == (20.0, 1.0)
    assert found.cost_usd == pytest.approx(0.02 + 0.00036)


def test_local_work_without_a_price_costs_nothing_and_is_measured_all_the_same() -> None:
    found = billed(Usage(timing=Timing(model_s=2.0)), None, None, is_local=True)

    assert found.cost_usd == 0.0
    assert found.bill is not None
    assert (found.bill.gpu_s, found.bill.energy_wh) == (2.0, None)


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("count, cost", [(-1, -0.5), (10**30, math.inf), (-(2**70), math.nan)])
def test_what_no_server_can_have_counted_is_in_no_result(*, count: int, cost: float, is_local: bool) -> None:
    said = Usage(input_tokens=count, output_tokens=count, cached_input_tokens=count, cost_usd=cost, seconds=1.0)

    usage = billed(said, None, None, is_local=is_local)

    assert usage.cost_usd is None
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(usage), type=Usage) == usage
