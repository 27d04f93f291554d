"""The layer below the checksums: it ties each page of a store to its place in the file.

SQLite's checksum is one of the bytes of a page alone. A page of zeros (a hole in a file, a sector that was wiped) has
the checksum zero, and a page that was written to the wrong place has a right one. So the checksum lies in the file
mixed with the number of its page: neither fits any more. Only pages of stores with checksums are touched, and nothing
but the file itself; logs have checksums and places of their own. Caller: ``sqlite_file.py``.
"""

from typing import Final

import apsw

PAGE_BYTES: Final = 4096
CHECKSUM_BYTES: Final = 8
_MAGIC: Final = b"SQLite format 3\0"
_SPREAD: Final = 0x9E3779B97F4A7C15
"""An odd number without a pattern: neighbouring pages differ in all bits (Knuth, TAOCP 6.4)."""


class Pages(apsw.VFS):
    """The layer, called ``name``, over the way to open files that is called ``below``; lasts as long as it is held."""

    def __init__(self, name: str, below: str) -> None:
        self.vfs_name, self._below = name, below
        super().__init__(name, below)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        """A file; the store itself with its pages mixed."""
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return _Store(self._below, name, flags)
        return apsw.VFSFile(self._below, name, flags)


class _Store(apsw.VFSFile):
    """One open store."""

    def __init__(self, below: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._has_checksums = False
        super().__init__(below, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        data = super().xRead(amount, offset)
        if not offset and amount >= 100:  # noqa: PLR2004 - the header
            self._look_at(data)
        return self._mixed(data, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if not offset:
            self._look_at(data)
        super().xWrite(self._mixed(data, offset), offset)

    def _look_at(self, header: bytes) -> None:
        self._has_checksums = header[:16] == _MAGIC and header[20] == CHECKSUM_BYTES

    def _mixed(self, data: bytes, offset: int) -> bytes:
        if not self._has_checksums or len(data) != PAGE_BYTES:
            return data
        mixed = int.from_bytes(data[-CHECKSUM_BYTES:]) ^ ((offset // PAGE_BYTES + 1) * _SPREAD & 0xFFFFFFFFFFFFFFFF)
        return bytes(data[:-CHECKSUM_BYTES]) + mixed.to_bytes(CHECKSUM_BYTES)
