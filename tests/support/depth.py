"""Trees deeper than anything of ours may be."""

import os
from pathlib import Path

DEEP = 2_500
"""Deeper than calls may be nested, and than a path may be long."""


def dig(folder: Path, levels: int = DEEP) -> None:
    """Directories in directories, with a file in the last one."""
    folder.mkdir(exist_ok=True)
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
