import pytest

from sidecar.llm.contexts import SIZES, UNKNOWN_MOST, context_for, most_of


@pytest.mark.parametrize(
    "prompt, wish, most, loaded, chosen",
    [
        (100, 500, 131_072, None, 4_096),
        (100, 4_196, 131_072, None, 8_192),
        (3_000, 16_384, 131_072, None, 16_384),
        (70_000, 74_096, 131_072, None, 131_072),
        (100, 90_000, 32_768, None, 32_768),  # a wish is no need
        (100, 90_000, 40_000, None, 40_000),  # the model's own limit, though it is none of the sizes
        (100, 500, 2_048, None, 2_048),
        (100, 16_384, 131_072, 8_192, 8_192),  # loaded with less than the wish, and enough for now
        (100, 500, 131_072, 65_536, 65_536),  # loaded with far more
        (100, 500, 131_072, 12_345, 12_345),  # loaded by somebody else
        (7_500, 11_596, 131_072, 8_192, 16_384),  # the usual answer would not fit
        (7_900, 7_950, 131_072, 8_192, 8_192),  # a short one does
        (8_000, 12_000, 131_072, 8_192, 16_384),
    ],
)
def test_the_context_is_one_of_few_sizes_or_the_loaded_one(
    prompt: int, wish: int, most: int, loaded: int | None, chosen: int
) -> None:
    assert context_for(prompt, wish, most=most, loaded=loaded) == chosen


@pytest.mark.parametrize("loaded", [None, 4_096])
def test_a_prompt_that_leaves_no_room_for_an_answer_does_not_fit(loaded: int | None) -> None:
    assert context_for(3_840, 4_000, most=4_096, loaded=loaded) == 4_096
    assert context_for(3_841, 4_000, most=4_096, loaded=loaded) is None


def test_a_growing_conversation_is_loaded_once_a_size_at_most() -> None:
    loaded, loads = None, 0
    for prompt in range(100, 120_000, 500):
        chosen = context_for(prompt, prompt + 4_096, most=131_072, loaded=loaded)
        loads += chosen != loaded
        loaded = chosen

    assert loads <= len(SIZES)


def test_the_longest_context_is_what_the_model_was_made_for() -> None:
    assert most_of(40_960) == 40_960
    assert most_of(1 << 20) == SIZES[-1]
    assert most_of(None) == UNKNOWN_MOST
