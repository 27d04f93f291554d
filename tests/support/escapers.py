"""A program of many tricks to outlive its cancellation, and who of it is still there (``escaper.c``)."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("escaper.c")
TRICKS: Final = (
    "tree",
    "daemon",
    "deaf",
    "bomb",
    "nohup",
    "hydra",
    "renamed",
    "closed",
    "orphan",
    "stopped",
    "traced",
    "reexec",
    "scrubbed",
    "comet",
    "far-comet",
    "untagged",
)
"""All that go on for ever; ``holder`` and ``idle`` are there besides."""


def escaper(folder: Path) -> Path:
    """The program, made in ``folder``; its path is a name that nothing else on the machine has."""
    program = folder / "escaper"
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler is needed: apt install gcc libc6-dev"
    subprocess.run([compiler, "-O1", "-o", str(program), str(SOURCE)], check=True)
    return program


def survivors(program: Path, trick: str = "") -> list[int]:
    """Processes of the program that are alive, all or those of one trick; zombies are not."""
    found = []
    for here in Path("/proc").glob("[0-9]*"):
        try:
            is_one = (here / "exe").readlink() == program
            words = (here / "cmdline").read_bytes().split(b"\0") if is_one else []
        except OSError:
            continue  # it has ended meanwhile
        if is_one and (not trick or trick.encode() in words):
            found.append(int(here.name))
    return found
