"""A disk whose power can be cut: a file system of its own on a loop device. Needs root.

The cut is the file system's own (FS_IOC_SHUTDOWN without a flush): what was not synced is gone, as if the plug had been
pulled; what happens to a process that goes on meanwhile is an error at its next sync.
"""

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.bad_disk import need_programs

FS_IOC_SHUTDOWN: Final = 0x8004587D
NO_FLUSH: Final = 2
DISK_MIB: Final = 192
PATIENCE_S: Final = 30.0


class PowerDisk:
    """A small disk mounted at ``place``."""

    def __init__(self, image: Path, place: Path) -> None:
        self._image, self.place = image, place
        self._number = 0  # of the times that it was switched on

    def mount(self) -> None:
        """Switch it on; what its journal holds is put in order first.

        It is a copy that is switched on. Whoever began a mount namespace meanwhile, a sandbox of another test say,
        still holds the disk that was cut, and the kernel would hand out that one again, which answers with errors only.
        """
        self._number += 1
        cut, self._image = self._image, self._image.with_suffix(f".{self._number}")
        _run("cp", "--sparse=always", str(cut), str(self._image))
        cut.unlink()
        _run("mount", "-o", "loop", str(self._image), str(self.place))

    def make(self) -> None:
        """Make the file system, empty."""
        with self._image.open("wb") as file:
            file.truncate(DISK_MIB << 20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def cut(self, process: "subprocess.Popen[bytes] | None") -> None:
        """Pull the plug of the machine that ``process`` runs on.

        The process stands still first and is killed afterwards: a sync that is under way at the cut may come back as if
        it had succeeded, and on a machine without power nobody acts on that.
        """
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + PATIENCE_S
        while not _stands_still(process.pid):
            assert time.monotonic() < deadline, "it does not stop"
        handle = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, FS_IOC_SHUTDOWN, struct.pack("I", NO_FLUSH))
        finally:
            os.close(handle)
        process.kill()
        process.wait()

    def unmount(self) -> None:
        """Take it away, as soon as nobody has a file of it open."""
        deadline = time.monotonic() + PATIENCE_S
        while (done := _try("umount", str(self.place))).returncode and time.monotonic() < deadline:
            time.sleep(0.01)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def power_disk(image: Path, place: Path) -> Iterator[PowerDisk]:
    """A fresh disk, mounted until the context ends."""
    need_programs("mkfs.ext4", "e2fsprogs")
    need_programs("mount")
    image.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True)
    disk = PowerDisk(image, place)
    disk.make()
    try:
        yield disk
    finally:
        _try("umount", "-l", str(place))


def _stands_still(pid: int) -> bool:
    """Every thread is stopped, or in the middle of a call that it will not come back from."""
    stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(stat.rpartition(") ")[2][0] in "tTD" for stat in stats)


def _try(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _run(*command: str) -> None:
    done = _try(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
