from pathlib import Path

import pytest

from tests.support.attempts import Bench, bench


@pytest.fixture(name="bench")
def a_bench(tmp_path: Path) -> Bench:
    return bench(tmp_path)
