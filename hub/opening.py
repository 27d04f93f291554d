"""What a hub opens before it serves: its data directory and its store, whichever of the two kinds that is."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from hub import recovery
from hub.memory import Memory
from hub.services.watch import Watch
from hub.settings import POSTGRES_SCHEMES, Settings, masked
from hub.store.backend import Backend
from hub.store.space import Space
from hub.store.sqlite import SqliteStore
from hub.store.store import ALONE_MS, Start, nothing_known
from hub.vault import KEY_FILE, Vault
from protocol.clock import Clock
from protocol.errors import BadInput, Problem, StoreDamaged


def space_of(settings: Settings) -> Space | None:
    """The room on the disk of the data directory; ``None`` if the store is elsewhere, or is only looked at."""
    return None if is_postgres(settings) or settings.read_only else Space(settings.folder, settings.disk_reserve_mb)


def is_postgres(settings: Settings) -> bool:
    """Whether the store is a server's, which several hubs may share."""
    return settings.store.partition(":")[0] in POSTGRES_SCHEMES


def watch_of(settings: Settings, store: Backend, clock: Clock, space: Space | None) -> Watch:
    """What looks after memory, disk and the store's log."""
    file, write_ahead_log = settings.folder / recovery.STORE_FILE, settings.folder / f"{recovery.STORE_FILE}-wal"

    def size(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError:
            return 0  # another store, or nothing written yet

    memory = Memory(settings.memory_limit_mb)
    sizes = partial(size, write_ahead_log), partial(size, file)
    return Watch(store, clock, memory, space, log_bytes=sizes[0], store_bytes=sizes[1])


async def opened(settings: Settings, store: Backend, clock: Clock, *, node: str, version: str) -> Start:
    """Open the store for the hub ``node``; one that is damaged is only served for people to look at it.

    Raises:
        StoreFailed: it cannot be opened.
        StoreDamaged: it is not what was written.
    """
    folder = settings.folder
    if settings.read_only:
        await store.open()
        return nothing_known(store.newest_event)
    recovery.check_folder(folder)
    try:
        await store.open()
        lease_ms = int(settings.hub_lease_s * 1000) if is_postgres(settings) else ALONE_MS
        start = await store.start(clock.now_ms(), node=node, version=version, lease_ms=lease_ms)
    except StoreDamaged as exc:
        raise recovery.note(folder, exc) from exc
    recovery.clear_note(folder)
    return start


def store_of(settings: Settings, space: Space | None) -> Backend:
    """The store that the settings name, not opened yet.

    Raises:
        BadInput: its driver is not installed.
    """
    if not is_postgres(settings):
        path, is_noted = settings.folder / recovery.STORE_FILE, recovery.is_noted(settings.folder)
        return SqliteStore(path, space=space, read_only=settings.read_only, deep=is_noted)
    try:
        from hub.store.postgres import PostgresStore
    except ImportError as exc:
        raise unusable("store", f"{masked(settings.store)} needs a driver: pip install 'agentcom[postgres]'") from exc
    return PostgresStore(settings.store)


def vault_of(settings: Settings) -> Vault:
    """The keys of the keystore, read.

    Raises:
        BadInput: their file cannot be used, or others can read it.
    """
    file = Path(settings.key_file).expanduser() if settings.key_file else settings.folder / KEY_FILE
    vault = Vault(file, is_given=bool(settings.key_file), is_shared=is_postgres(settings))
    vault.load()
    return vault


def node_of(folder: Path) -> str:
    """The name of this data directory, made up at the first start: what an earlier hub here held is this one's."""
    file = folder / "node.id"
    with written_in(folder):
        if not file.exists() or not file.read_text(encoding="utf-8").strip():
            _write_lasting(file, secrets.token_hex(8) + "\n")
        return file.read_text(encoding="utf-8").strip()


def _write_lasting(file: Path, text: str) -> None:
    """Write a small file so that a power cut leaves all of it: two hubs without a name would be taken for one."""
    draft = file.with_name(f".{file.name}.new")
    with draft.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def written_in(folder: Path) -> Iterator[None]:
    """What cannot be written at the start is a wrong folder or a full disk, and told in one line."""
    try:
        yield
    except OSError as exc:
        raise unusable("data_dir", f"cannot write {exc.filename or folder}: {exc.strerror or exc}") from exc


def unusable(setting: str, why: str) -> BadInput:
    """The error of a setting that this machine does not allow."""
    return BadInput([Problem(setting, why)], "settings")
