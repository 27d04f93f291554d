from tests.docs.permissions import PAGE, page


def test_the_written_permissions_are_those_of_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.docs.permissions"
