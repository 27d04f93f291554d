from tests.docs.states import PAGE, page


def test_the_drawn_states_are_those_of_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.docs.states"
