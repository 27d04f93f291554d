"""Promises of :mod:`sidecar.gpus.apple`, against programs that print what ``ioreg`` prints."""

import plistlib
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.gpus.apple import Apple
from sidecar.gpus.base import SeenGpu, Sight


def ioreg(tmp_path: Path, output: bytes, code: int = 0) -> list[str]:
    """A program that prints this."""
    (tmp_path / "out").write_bytes(output)
    program = f"import sys; sys.stdout.buffer.write(open({str(tmp_path / 'out')!r}, 'rb').read()); sys.exit({code})"
    return [sys.executable, "-c", program]


@pytest.mark.parametrize(
    "entry, name, load",
    [
        ({"model": b"Apple M4 Max\0", "PerformanceStatistics": {"Device Utilization %": 63}}, "Apple M4 Max", 63),
        ({"model": "Apple M1", "PerformanceStatistics": {"Device Utilization %": 163}}, "Apple M1", None),
        ({"IOClass": "AGXAcceleratorG13G", "PerformanceStatistics": 7}, "AGXAcceleratorG13G", None),
        ({}, "Apple GPU", None),
    ],
)
def test_the_gpu_of_the_chip_has_a_name_and_a_load(
    tmp_path: Path, entry: dict[str, Any], name: str, load: int | None
) -> None:
    seen = SeenGpu(vendor="apple", index=0, name=name, unified=True, utilization=load)

    assert Apple(ioreg(tmp_path, plistlib.dumps([entry]))).look() == Sight((seen,))


@pytest.mark.parametrize("output", [b"", plistlib.dumps([]), plistlib.dumps({"a": 1})])
def test_a_machine_without_a_gpu_says_so(tmp_path: Path, output: bytes) -> None:
    assert Apple(ioreg(tmp_path, output)).look() == Sight((), "ioreg tells of no GPU")


@pytest.mark.parametrize("output, code", [(b"nonsense", 0), (b"<plist><", 0), (b"", 3)])
def test_a_program_that_fails_is_no_gpu_and_says_why(tmp_path: Path, output: bytes, code: int) -> None:
    sight = Apple(ioreg(tmp_path, output, code)).look()

    assert (sight.gpus, sight.trouble.startswith("ioreg: ")) == ((), True)


def test_a_machine_without_the_program_says_so(tmp_path: Path) -> None:
    assert "No such file" in Apple([str(tmp_path / "none")]).look().trouble
