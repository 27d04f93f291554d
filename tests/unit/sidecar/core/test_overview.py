import pytest

from sidecar.core.overview import MAX_NAMES, names_in, overview

FILES = {
    "README.md": (),
    "toolbox/numbers.py": ("mean", "median", "gcd"),
    "toolbox/text.py": ("slug", "wrap"),
    "tests/test_numbers.py": ("Mean", "Median", "test_median_1"),
    "web/src/Basket.ts": ("Basket", "totalPrice"),
}


@pytest.mark.parametrize(
    "text, names",
    [
        ("def a():\n    pass\n\nclass B:\n    async def c(self): ...\n", ("a", "B", "c")),
        ("export default async function load() {}\nexport class Shop {}\n  function load() {}\n", ("load", "Shop")),
        ("func (s *Server) Serve() error {\nfunc main() {\ntype x struct{}\n", ("Serve", "main")),
        (
            "pub(crate) fn parse(a: u8) {}\npub struct Row;\nenum Kind { A }\ntrait T {}\n",
            ("parse", "Row", "Kind", "T"),
        ),
        ("define = 1\n# def nothing\nclassy = 2\n", ()),
        ("def" * 50_000, ()),
    ],
)
def test_what_a_file_defines_is_read_in_most_languages(text: str, names: tuple[str, ...]) -> None:
    assert names_in(text) == names


@pytest.mark.parametrize(
    "about, first",
    [
        ("the median of an even count is wrong", "toolbox/numbers.py: mean, median, gcd"),
        ('File "/x/toolbox/text.py", line 3, in wrap', "toolbox/text.py: slug, wrap"),
        ("The basket shows the wrong price in total", "web/src/Basket.ts: Basket, totalPrice"),
        ("write a README.md", "README.md"),
        ("", "README.md"),
    ],
)
def test_what_the_task_speaks_of_comes_first(about: str, first: str) -> None:
    lines = overview(FILES, about, 4_096).splitlines()

    assert lines[0] == "Files of the workspace (5), those first that this seems to be about:"
    assert lines[1] == first
    assert len(lines) == 6


def test_a_large_tree_is_told_in_part_and_of_a_large_file_what_is_spoken_of() -> None:
    files = {f"pkg/mod{number}.py": tuple(f"name_{number}_{at}" for at in range(50)) for number in range(500)}

    text = overview(files, "name_77_49 does not work", 2_000)

    assert len(text) < 2_200
    assert " of 500)" in text.splitlines()[0]
    assert text.splitlines()[1].startswith("pkg/mod77.py: name_77_0, ")
    assert text.splitlines()[1].endswith(f"name_77_49, {50 - MAX_NAMES} more")


def test_without_files_there_is_no_map() -> None:
    assert overview({}, "anything", 4_096) == ""
