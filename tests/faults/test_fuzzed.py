"""Row T45 once more, led by coverage: the decoder and the session, by inputs that look for new ways through them.

``./run soak`` installs Atheris where there is a wheel of it. ``FUZZ_RUNS`` inputs are tried, a hundred thousand unless
it says otherwise. What it finds is kept beside the corpus, and its bytes are told.
"""

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = int(os.environ.get("FUZZ_RUNS", "100000"))
FUZZER = Path(__file__).parents[1] / "fuzz" / "frames.py"


@pytest.mark.soak
@pytest.mark.timeout(3_300)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="Atheris is not there: ./run soak installs it")
def test_t45_inputs_that_look_for_new_ways_find_typed_errors_only(tmp_path: Path) -> None:
    """Whatever comes is read or refused, in order, each number once; what can be read may be sent."""
    seed = random.SystemRandom().randrange(1, 1 << 31)
    arguments = [f"-runs={RUNS}", f"-seed={seed}", f"-artifact_prefix={tmp_path}/", "-rss_limit_mb=2048"]
    done = subprocess.run(
        [sys.executable, str(FUZZER), str(tmp_path / "corpus"), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=3_200,
        check=False,
    )

    found = [file.read_bytes().hex() for file in tmp_path.iterdir() if file.is_file()]
    said = done.stdout.splitlines()[-1:]
    print(f"\nT45 fuzzed, seed {seed}: {len(list((tmp_path / 'corpus').iterdir()))} in the corpus; {said}")
    assert done.returncode == 0, f"seed {seed}: {found}\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    assert f"Done {RUNS} runs" in done.stderr
