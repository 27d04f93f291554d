import msgspec
import pytest

from sidecar.acp.shapes import Counts, Initialized, Prompted, Session, ToRead, read, read_leniently


@pytest.mark.parametrize(
    "counts, tokens",
    [
        ({"totalTokens": 15}, (10, 5, 0)),
        # Each for itself, as Anthropic counts.
        ({"totalTokens": 120, "cachedReadTokens": 100, "cachedWriteTokens": 5}, (115, 5, 100)),
        # One within the other, as OpenAI counts.
        ({"totalTokens": 115, "inputTokens": 110, "cachedReadTokens": 100, "thoughtTokens": 3}, (110, 5, 100)),
        ({"totalTokens": 18, "thoughtTokens": 3}, (10, 8, 0)),
        ({"cachedReadTokens": None}, (10, 5, 0)),
        ({"inputTokens": -10}, (0, 5, 0)),
    ],
)
def test_tokens_are_counted_whichever_way_an_agent_counts_them(
    counts: dict[str, int | None], tokens: tuple[int, int, int]
) -> None:
    usage = read({"inputTokens": 10, "outputTokens": 5, **counts}, Counts).usage

    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == tokens
    assert usage.cost_usd is None


def test_what_is_missing_or_new_hurts_nobody() -> None:
    assert read({"protocolVersion": 1, "novelty": {}}, Initialized).agent_capabilities is None
    assert read({"protocolVersion": "1", "agentCapabilities": {"loadSession": None}}, Initialized).protocol_version == 1
    assert read({"stopReason": "end_turn", "usage": None}, Prompted).usage is None
    assert read({}, Session).session_id == ""


@pytest.mark.parametrize("found", [None, [], "text", {}, {"path": 5}, {"path": "a", "line": "x"}])
def test_what_makes_no_sense_is_told(found: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(found, ToRead)
    assert read_leniently(found, ToRead) is None
