"""The promise: work that a limit ended says so, and nothing else is taken for that."""

import pytest

from sidecar.core.cause import cause


@pytest.mark.parametrize(
    "exit_code, output, counted, expected",
    [
        (-9, "", {"oom_kills": 1}, "out_of_memory"),
        (137, "", {"oom_kills": 2}, "out_of_memory"),
        (1, "Traceback ...\nMemoryError\n", {}, "out_of_memory"),
        (1, "terminate called after throwing an instance of 'std::bad_alloc'", {}, "out_of_memory"),
        (1, "sh: 1: Cannot fork\n", {}, "too_many_processes"),
        (254, "bash: fork: retry: Resource temporarily unavailable", {}, "too_many_processes"),
        (1, "RuntimeError: can't start new thread", {}, "too_many_processes"),
        (1, "it went wrong", {"refused_forks": 3}, "too_many_processes"),
        (-9, "", {}, "killed"),
        (137, "", {}, "killed"),
    ],
)
def test_a_limit_that_ended_the_work_is_named(
    exit_code: int, output: str, counted: dict[str, int], expected: str
) -> None:
    found = cause(exit_code, output, **counted)

    assert found is not None
    assert found[0] == expected


@pytest.mark.parametrize(
    "exit_code, output, counted",
    [
        (0, "MemoryError", {"oom_kills": 1}),  # it has succeeded all the same
        (None, "MemoryError", {}),  # we ended it
        (1, "plain failure", {}),
        (-15, "", {}),
        (1, "MemoryError" + "x" * 5_000, {}),  # long ago
    ],
)
def test_what_no_limit_has_ended_is_not_blamed_on_one(
    exit_code: int | None, output: str, counted: dict[str, int]
) -> None:
    assert cause(exit_code, output, **counted) is None
