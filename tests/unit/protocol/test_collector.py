"""The promise of the spared collector: what is there already is never walked through again, what comes rarely."""

import subprocess
import sys

LOOK = """
import gc
from protocol.collector import spare_the_collector
before = gc.get_threshold()
spare_the_collector()
print(gc.get_freeze_count() > 1_000, gc.isenabled(), gc.get_threshold()[0] > 10 * before[0])
"""


def test_what_was_there_at_the_start_is_left_alone_and_cycles_are_looked_for_rarely() -> None:
    found = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, timeout=60)

    assert found.stdout.split() == ["True", "True", "True"]
