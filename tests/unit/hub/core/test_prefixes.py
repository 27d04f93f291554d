"""How prompts begin: what is known of them, which server has read them, and that none of it grows without end."""

from hypothesis import given
from hypothesis import strategies as st

from hub.core.prefixes import (
    BLOCK_CHARS,
    BLOCK_TOKENS,
    MAX_BLOCKS,
    MAX_PLACES,
    MAX_READ,
    MAX_TURNS,
    MAX_WAITING,
    Blocks,
    Prefixes,
    blocks_of,
    keep,
)
from protocol.model import Context, TaskSpec

SERVER = ("box", "ollama")
RULES = "Write as our house does: " + "x" * (3 * BLOCK_CHARS)


def test_prompts_that_begin_alike_have_the_same_first_blocks() -> None:
    one, two = blocks_of(TaskSpec(prompt=RULES + "1")), blocks_of(TaskSpec(prompt=RULES + "2" * 2 * BLOCK_CHARS))

    assert len(one) == 3
    assert two[:3] == one
    assert blocks_of(TaskSpec(prompt="2" + RULES))[0] != one[0]
    assert blocks_of(TaskSpec(title="Two", prompt=RULES))[0] != one[0], "the title comes first in what a model reads"


def test_a_short_prompt_has_no_blocks_and_a_long_one_only_so_many() -> None:
    assert blocks_of(TaskSpec(prompt="x" * (BLOCK_CHARS - 1))) == ()
    assert blocks_of(TaskSpec(command="make", context=Context(notes=""))) == ()
    assert len(blocks_of(TaskSpec(prompt="x" * BLOCK_CHARS * (MAX_BLOCKS + 9)))) == MAX_BLOCKS


def test_a_server_knows_what_it_has_read_last_as_often_as_it_answers_at_a_time() -> None:
    prefixes = Prefixes()
    for task, blocks in (("a", (1, 2, 3)), ("b", (7,)), ("c", (8,)), ("d", (1, 2, 9))):
        prefixes.expect(task, blocks)
    known = [prefixes.known_tokens((1, 2, 9), SERVER, "m")]
    prefixes.read("a", SERVER, "m", 2, is_loaded=True)
    known.append(prefixes.known_tokens((1, 2, 9), SERVER, "m"))
    prefixes.read("b", SERVER, "m", 2, is_loaded=False)
    known.append(prefixes.known_tokens((1, 2, 9), SERVER, "m"))
    prefixes.read("c", SERVER, "m", 2, is_loaded=False)
    known.append(prefixes.known_tokens((1, 2, 9), SERVER, "m"))

    assert known == [0, 2 * BLOCK_TOKENS, 2 * BLOCK_TOKENS, 0]
    assert prefixes.known_tokens((8,), SERVER, "m") == BLOCK_TOKENS
    assert prefixes.known_tokens((8,), SERVER, "other") == prefixes.known_tokens((8,), ("b", "ollama"), "m") == 0


def test_nothing_is_known_any_more_once_the_model_was_loaded_again() -> None:
    prefixes = Prefixes()
    prefixes.expect("a", (1, 2))
    prefixes.read("a", SERVER, "m", 4, is_loaded=False)
    prefixes.read("stranger", SERVER, "m", 4, is_loaded=True)

    assert prefixes.known_tokens((1, 2), SERVER, "m") == 0


def test_a_prompt_takes_the_place_of_the_one_that_it_goes_on_from() -> None:
    prompts: list[Blocks] = [(1, 2), (7, 8)]

    assert keep(prompts, (1, 2, 3), 2) == 2
    assert prompts == [(7, 8), (1, 2, 3)]
    assert keep(prompts, (9,), 2) == 0
    assert prompts == [(1, 2, 3), (9,)]


BLOCKS = st.lists(st.integers(0, 3), max_size=6).map(tuple)


@given(st.lists(st.tuples(BLOCKS, st.integers(0, 2), st.integers(0, 4), st.booleans())))
def test_no_server_is_believed_to_know_more_than_it_was_given(
    history: list[tuple[Blocks, int, int, bool]],
) -> None:
    prefixes, read = Prefixes(), dict[int, list[Blocks]]()
    for number, (blocks, server, turns, is_loaded) in enumerate(history):
        prefixes.expect(str(number), blocks)
        prefixes.read(str(number), (str(server), "x"), "m", turns, is_loaded=is_loaded)
        read[server] = [*([] if is_loaded else read.get(server, [])), blocks]
    for server, given_to in read.items():
        for blocks in given_to:
            tokens = prefixes.known_tokens(blocks, (str(server), "x"), "m")
            begun = {each[:count] for each in given_to for count in range(len(each) + 1)}
            assert blocks[: tokens // BLOCK_TOKENS] in begun


def test_what_is_remembered_is_bounded() -> None:
    prefixes, most = Prefixes(), tuple(range(MAX_BLOCKS))
    for number in range(MAX_WAITING // MAX_BLOCKS + 500):
        prefixes.expect(str(number), most)
        prefixes.expect(str(number), most)
    assert len(prefixes) <= MAX_WAITING
    assert prefixes.of("0") == ()
    assert prefixes.of(str(number)) == most

    for server in range(MAX_PLACES + 100):
        prefixes.read("0", (str(server), "x"), "m", 10**6, is_loaded=False)
    for _ in range(MAX_TURNS + 50):
        prefixes.read(str(number), SERVER, "m", 10**6, is_loaded=False)
        prefixes.read("0", SERVER, "m", 10**6, is_loaded=False)
    assert len(prefixes) <= MAX_WAITING + MAX_TURNS * MAX_BLOCKS

    for server in range(MAX_READ // MAX_BLOCKS + 100):
        prefixes.read(str(number), (str(server), "y"), "m", 1, is_loaded=False)
    assert MAX_READ - MAX_BLOCKS < len(prefixes) - MAX_WAITING <= MAX_READ + MAX_BLOCKS
