"""The keys of the keystore: read from a file outside of the store, made when the first secret comes, exchanged.

``keystore.key`` holds one key a line, 32 bytes in base64. The first one seals, all of them open: while keys are being
exchanged both are there. The file is never copied into a backup. A file that somebody else looks after (a systemd
credential, a mounted secret) is read and never written. What is sealed, and as what, is ``hub/core/envelope.py``.
"""

import asyncio
import base64
import binascii
import os
import secrets
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from hub.core.envelope import KEY_BYTES, NONCE_BYTES, About, id_in, key_id, seal, unseal
from protocol.errors import BadInput, Conflict, Problem

log = structlog.get_logger(__name__)
KEY_FILE: Final = "keystore.key"
MOST_KEYS: Final = 16
_MOST_BYTES: Final = 4_096


class KeyLost(Conflict):
    """The store holds what was sealed with keys that are not here: a new one must not take their place unasked."""

    code = "key_lost"

    def __init__(self, file: str) -> None:
        self.file = file
        super().__init__(file)

    def __str__(self) -> str:
        where = f" into {self.file}" if self.file else ""
        return (
            f"the store holds secrets whose key is not here; copy it{where} (mode 0600) from where it was and start "
            "the hub again, or remove those secrets"
        )


class KeysGiven(Conflict):
    """The keys are not this hub's to change, and the first one seals everything already."""

    code = "keys_given"

    def __init__(self, file: str, *, is_shared: bool = False) -> None:
        self.file, self.is_shared = file, is_shared
        super().__init__(file, is_shared)

    def __str__(self) -> str:
        if self.is_shared:
            return "hubs that may share a store get their keys from a file that somebody looks after: set key_file"
        return f"{self.file} is not the hub's to write: put a new key before the others there and start the hub again"


class Vault:
    """The keys of a hub.

    Args:
        file: where they are kept; ``None``: in memory only (a hub that lives in simulated time).
        is_given: the file is somebody else's: it has to be there, and is never written.
        is_shared: other hubs may have the same store, and read keys from files of their own.
        random_bytes: so many random bytes.

    Attributes:
        changing: held from sealing to the commit, and while keys are exchanged: so no key goes that something needs.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        is_given: bool = False,
        is_shared: bool = False,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._file, self._random_bytes = file, random_bytes
        self.is_given, self.is_shared = is_given, is_shared
        self._keys: dict[str, bytes] = {}
        self._making, self.changing = asyncio.Lock(), asyncio.Lock()

    # --- keys ---------------------------------------------------------------------------------------------------------

    @property
    def current(self) -> str:
        """Id of the key that seals; empty: there is none yet."""
        return next(iter(self._keys), "")

    @property
    def known(self) -> tuple[str, ...]:
        """Ids of all keys, the one that seals first."""
        return tuple(self._keys)

    @property
    def shared(self) -> frozenset[str] | None:
        """Ids of the keys, if other hubs of the store may have keys of their own; ``None``: there are none."""
        return frozenset(self._keys) if self.is_shared else None

    def load(self) -> None:
        """Read the keys; without a file those that are known stay: they may be nowhere else.

        Raises:
            BadInput: the file cannot be used, or others can read it.
        """
        if self._file is None:
            return
        try:
            keys = _read(self._file, is_given=self.is_given)
        except FileNotFoundError:
            if self.is_given:
                raise _unusable(f"there is no {self._file}") from None
            return
        except OSError as exc:
            raise _unusable(f"cannot read {self._file}: {exc.strerror or exc}") from exc
        self._keys = {key_id(key): key for key in keys}

    async def ready(self, needed: Callable[[], Awaitable[frozenset[str]]]) -> None:
        """Have a key to seal with: that of the file, else a new one.

        Args:
            needed: tells with which keys the store holds something sealed; those are then not here.
        Raises:
            KeyLost: it does.
            BadInput: the file cannot be read, or written.
        """
        async with self._making:
            if self._keys:
                return
            await asyncio.to_thread(self.load)  # somebody may have put it there meanwhile
            if self._keys:
                return
            if await needed():
                raise KeyLost(str(self._file or ""))
            await self._keep([self._random_bytes(KEY_BYTES)])
            log.info("keystore_key_made", key=self.current, file=str(self._file or ""))

    async def renew(self) -> str:
        """Put a new key before the others, lasting, before anything is sealed with it; its id.

        Raises:
            KeysGiven: the file is not ours to write.
            Conflict: too many keys are about; the last exchange has to end first.
            BadInput: it cannot be written.
        """
        async with self._making:
            if self.is_given or self.is_shared:
                raise KeysGiven(str(self._file), is_shared=not self.is_given)
            if len(self._keys) >= MOST_KEYS:
                raise Conflict(f"{len(self._keys)} keys are in use already; some secrets cannot be opened with any")
            await self._keep([self._random_bytes(KEY_BYTES), *self._keys.values()])
            log.info("keystore_key_made", key=self.current, file=str(self._file or ""))
            return self.current

    async def drop_others(self) -> tuple[str, ...]:
        """Forget every key but the one that seals: nothing is sealed with them any more. Their ids; none if given."""
        async with self._making:
            current, *others = self._keys
            if self.is_given or not others:
                return ()
            await self._keep([self._keys[current]])
            log.info("keystore_keys_dropped", keys=others)
            return tuple(others)

    async def _keep(self, keys: list[bytes]) -> None:
        if self._file is not None:
            try:
                await asyncio.to_thread(_write, self._file, keys)
            except OSError as exc:
                raise _unusable(f"cannot write {self._file}: {exc.strerror or exc}") from exc
        self._keys = {key_id(key): key for key in keys}

    # --- values -------------------------------------------------------------------------------------------------------

    def seal(self, about: About, text: str) -> bytes:
        """``text``, sealed with the current key; :meth:`ready` comes first."""
        assert self._keys, "a vault is made ready before it seals"
        return seal(self._keys[self.current], about, text.encode(), self._random_bytes(NONCE_BYTES))

    async def unseal(self, about: About, sealed: bytes) -> str:
        """The text. A key that is not known yet may have come into the file: another hub of this store has made it.

        Raises:
            Unsealable: there is no such key here, or it was changed, or is another's.
            BadInput: the file cannot be used any more.
        """
        if id_in(sealed) not in self._keys:
            async with self._making:  # what was read before a change must not come in the place of what it made
                await asyncio.to_thread(self.load)
        return unseal(self._keys, about, sealed).decode()


def _read(file: Path, *, is_given: bool) -> list[bytes]:
    with file.open("rb") as there:
        found = os.fstat(there.fileno())
        # What systemd gives is guarded by its directory; its mode shows a mask of an access list.
        if not is_given and stat.S_IMODE(found.st_mode) & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise _unusable(f"others can read or write {file} (mode {mode:04o}): chmod 600 {file}, and rotate")
        if not is_given and found.st_uid not in {os.geteuid(), 0}:
            raise _unusable(f"{file} belongs to another user (uid {found.st_uid})")
        lines = there.read(_MOST_BYTES + 1).split()
    keys = []
    for number, line in enumerate(lines, 1):
        try:
            key = base64.b64decode(line, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise _unusable(f"line {number} of {file} is no key: {KEY_BYTES} bytes in base64, one key a line")
        keys.append(key)
    if len(keys) > MOST_KEYS:
        raise _unusable(f"{file} holds {len(keys)} keys; at most {MOST_KEYS}")
    if not keys:
        raise _unusable(f"{file} is empty; put the key there, or remove the file if nothing was ever sealed")
    return keys


def _write(file: Path, keys: list[bytes]) -> None:
    """All of it, or what was there before: a power cut must not lose a key."""
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    opened = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(opened, "wb") as out:
        out.write(b"".join(base64.b64encode(key) + b"\n" for key in keys))
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unusable(why: str) -> BadInput:
    return BadInput([Problem("key_file", why)], "settings")
