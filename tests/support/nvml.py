"""A machine with NVIDIA GPUs that are not there: a library that speaks the real C interface, and the file it reads."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
MIB = 1 << 20


class FakeDriver:
    """A folder with ``libnvidia-ml.so.1`` for ``LD_LIBRARY_PATH``; what it tells may be changed at any time.

    Args:
        folder: made if it is not there.
        old: a library from before driver 510.
    """

    def __init__(self, folder: Path, *, old: bool = False) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            pytest.skip("the pretend GPU driver needs Linux and a C compiler")
        folder.mkdir(exist_ok=True)
        self.folder, self._state = folder, folder / "state"
        library = folder / "libnvidia-ml.so.1"
        flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *(["-DOLD"] if old else [])]
        subprocess.run([compiler, *flags, f'-DSTATE="{self._state}"', "-o", library, SOURCE], check=True)
        self.set()

    @property
    def env(self) -> dict[str, str]:
        """What makes a process load this library."""
        return {"LD_LIBRARY_PATH": str(self.folder)}

    def set(self, *lines: str) -> None:
        """The machine from now on; see ``fake_nvml.c`` for the lines."""
        new = self._state.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.replace(self._state)  # at once: the library may be reading


def gpu(index: int, **over: object) -> list[str]:
    """The lines of a GPU that has everything; ``None`` leaves a line out."""
    facts: dict[str, object] = {
        "name": f"Pretend GPU {index}",
        "uuid": f"GPU-{index}",
        "total_mib": 24576,
        "used_mib": 1024,
        "reserved_mib": 512,
        "load": 37,
        "heat_c": 55,
        "power_mw": 120_500,
        "limit_mw": 350_000,
        "computing": "",
        "drawing": "",
        "sharing": "",
    }
    return [f"{index} {name} {value}" for name, value in (facts | over).items() if value is not None]


def machine(*gpus: list[str], driver: str = "580.95.05") -> list[str]:
    """The lines of a machine with these GPUs."""
    return [f"driver {driver}", f"gpus {len(gpus)}", *(line for lines in gpus for line in lines)]
