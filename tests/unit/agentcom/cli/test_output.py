"""Promises of :mod:`agentcom.cli.output`."""

from datetime import UTC, datetime, timedelta

import pytest

from agentcom.cli import output


def test_a_pipe_gets_plain_aligned_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("id", "state"), [("1", "completed"), ("2222", "x")])

    assert capsys.readouterr().out == "id    state\n1     completed\n2222  x\n"


def test_an_empty_table_says_what_to_do_and_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("id",), [], empty="no tasks")

    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "no tasks\n")


def test_other_peoples_words_cannot_move_the_cursor() -> None:
    assert output.printable("a\x1b[2Jb\nc") == "a [2Jb c"
    assert output.harmless("a\x1b[2Jb\n\tc\r") == "a[2Jb\n\tc"


@pytest.mark.parametrize(
    "seconds, words",
    [
        (None, ""),
        (0.004, "0.00 s"),
        (9.99, "9.99 s"),
        (12.34, "12.3 s"),
        (125, "2m05s"),
        (3599.9, "1h00m"),
        (7320, "2h02m"),
    ],
)
def test_durations_are_short(seconds: float | None, words: str) -> None:
    assert output.duration(seconds) == words


@pytest.mark.parametrize("seconds, words", [(-5, "0s"), (4, "4s"), (60, "1m"), (7300, "2h"), (200_000, "2d")])
def test_ages_are_short(seconds: float, words: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert output.age(now - timedelta(seconds=seconds), now) == words


@pytest.mark.parametrize("count, words", [(None, ""), (512, "512 B"), (1536, "1.5 KiB"), (2**40 * 3, "3.0 TiB")])
def test_sizes_have_units(count: float | None, words: str) -> None:
    assert output.size(count) == words


def test_only_checks_make_a_result_verified() -> None:
    assert [output.verdict(v) for v in (None, True, False)] == ["unverified", "verified", "not verified"]
