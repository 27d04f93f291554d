"""What a command needs of its machine: the first program, as long as that is no file of the work."""

import pytest

from sidecar.core.proving import probes


@pytest.mark.parametrize(
    "command, names",
    [
        ("pytest -q", ["pytest"]),
        ("CI=1 A='b c' pytest -q && rm x", ["pytest"]),
        ("python3 -m pytest -q", ["python3", "pytest for python3"]),
        ("python3.12 -m unittest", ["python3.12", "unittest for python3.12"]),
        ("python3 -m mine.tests", ["python3"]),
        ("python3 -m", ["python3"]),
        ("./check.sh", []),
        (".venv/bin/pytest -q", []),
        ("", []),
        ("A=1", []),
        ("echo 'open", []),
    ],
)
def test_the_first_program_has_to_be_there(command: str, names: list[str]) -> None:
    assert [probe.name for probe in probes(command)] == names


def test_nothing_of_a_command_is_run_to_find_out() -> None:
    (probe,) = probes("'a; rm -rf b' c")

    assert probe.command == "command -v 'a; rm -rf b'"
