"""Checks from the command line to the report, by a sidecar that confines what it runs."""

from pathlib import Path

from tests.support.mesh import mesh
from tests.support.repositories import make_remote

CALC = "def add(a, b):\n    return a - b\n"
TESTS = """import unittest
from calc import add
class TestCalc(unittest.TestCase):
    def test_add(self): self.assertEqual(add(2, 3), 5)
    def test_zero(self): self.assertEqual(add(0, 0), 0)
"""
CHECKS = [
    {"type": "test_passes", "command": "python3 -m unittest -q"},
    {"type": "diff_limits", "max_files": 1},
    {"type": "file_contains", "path": "calc.py", "pattern": "a [+] b"},
    {"type": "file_absent", "path": "calc.py.bak"},
    {"type": "no_placeholders"},
]


def test_a_repair_is_proven_and_a_weakened_test_is_not(tmp_path: Path) -> None:
    remote = make_remote(tmp_path, {"calc.py": CALC, "test_calc.py": TESTS}).path
    work = {"context": {"repo": str(remote), "branch": "main"}, "budget": {"fix_attempts": 0}, "max_retries": 0}
    with mesh(tmp_path, "Host") as running:
        good = running.submit(command="sed -i 's/a - b/a + b/' calc.py", verification=CHECKS, **work)
        bad = running.submit(
            command="sed -i 's/a - b/a + b/' calc.py; sed -i /test_zero/d test_calc.py", verification=CHECKS[:1], **work
        )
        (repaired,) = running.wait(good)
        cheated = running.wait_state(bad, "waiting")

    assert (repaired["state"], repaired["result"]["verified"]) == ("completed", True), repaired["result"]["report"]
    assert repaired["result"]["report"][0]["detail"] == "unittest: 2 passed"
    assert len(repaired["checks"]) == 64
    assert repaired["checks"] == repaired["result"]["checks"] != cheated["checks"]
    (doubted,) = cheated["attempts"][0]["result"]["report"]
    assert (cheated["verified"], doubted["doubtful"]) == (False, True)
    assert doubted["detail"].startswith("1 tests ran, 2 before the work")
