import pytest

from protocol.model import EndpointKind
from sidecar.llm.pricing import TokenCounts, cost_usd

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
