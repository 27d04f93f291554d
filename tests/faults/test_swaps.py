"""A path that somebody swaps for a link while it is used leads nowhere, with openat2 and without."""

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.tree import Tree

OUTSIDE = b"the canary outside"
SWAPPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
print("ready", flush=True)
while True:
    libc.renameat2(-100, b"way", -100, b"other", 2)
"""


@pytest.fixture
def swapped(tmp_path: Path) -> Iterator[Path]:
    """A directory in which ``way`` is a directory and a link to another place by turns, as fast as can be."""
    if not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("names cannot be exchanged in one step here")
    for folder, text in (("root/way", b"inside"), ("outside", OUTSIDE)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_bytes(text)
    (tmp_path / "outside" / "only-there").write_bytes(OUTSIDE)
    (tmp_path / "root" / "other").symlink_to(tmp_path / "outside")
    swapper = subprocess.Popen([sys.executable, "-c", SWAPPER, str(tmp_path / "root")], stdout=subprocess.PIPE)
    assert swapper.stdout is not None
    assert swapper.stdout.readline() == b"ready\n"
    yield tmp_path
    swapper.kill()
    swapper.wait()
    swapper.stdout.close()


def try_all(folder: Path, tries: int, *, walks: bool) -> tuple[int, int]:
    """Read, write, list, look and remove; how often it led out, and how often it worked at all."""
    tree = Tree(folder / "root", walks=walks)
    led_out = worked = 0
    for number in range(tries):
        try:
            match number % 5:
                case 0:
                    led_out += tree.read_bytes("way/file") == OUTSIDE
                case 1:
                    tree.write_bytes("way/planted", b"x")
                case 2:
                    led_out += ("only-there", "file") in tree.entries("way")
                case 3:
                    led_out += tree.exists("way/only-there")
                case _:
                    tree.remove("way/planted")
            worked += 1
        except BadInput:
            continue
    outside = {path.name: path.read_bytes() for path in (folder / "outside").iterdir()}
    led_out += outside != {"file": OUTSIDE, "only-there": OUTSIDE}
    return led_out, worked


@pytest.mark.parametrize("walks", [False, True])
def test_a_swap_between_look_and_use_leads_nowhere(swapped: Path, *, walks: bool) -> None:
    led_out, worked = try_all(swapped, 3_000, walks=walks)

    assert led_out == 0
    assert worked > 0


@pytest.mark.soak
@pytest.mark.parametrize("walks", [False, True])
def test_a_hundred_thousand_swaps_lead_nowhere(swapped: Path, *, walks: bool) -> None:
    led_out, worked = try_all(swapped, 100_000, walks=walks)

    print(f"worked {worked} of 100,000 times, led out {led_out}")
    assert led_out == 0
