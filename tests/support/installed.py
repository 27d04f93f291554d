"""Machines that a hub has installed AgentCom on, as folders of their own, and hubs that become another release."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.support import releases
from tests.support.mesh import Mesh, until

WAIT_S: Final = 200.0


class Machine:
    """A home that nothing has touched but what the hub has installed there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.where = ["--state-dir", f"{home}/state", "--config", f"{home}/etc/sidecar.toml"]
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONUNBUFFERED": "1"}
        self.joined: subprocess.Popen[str] | None = None

    def install(self, line: str) -> None:
        """Run the line that a join token comes with, until the machine takes part."""
        self.joined = self._start(["sh", "-c", f"exec sh -c '{line} --foreground {' '.join(self.where)}'"])
        self.until(self.joined, "takes part")

    def start(self, *words: str) -> "subprocess.Popen[str]":
        program = self.home / ".local" / "share" / "agentcom" / "env" / "bin" / "agentcom"
        return self._start([str(program), *words, *self.where])

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        said, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, said

    def _start(self, command: list[str]) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def until(self, process: "subprocess.Popen[str]", words: str) -> str:
        assert process.stdout is not None
        said, ends = "", time.monotonic() + WAIT_S
        while words not in said:
            line = process.stdout.readline()
            assert line, said
            assert time.monotonic() < ends, said
            said += line
        return said

    def end(self) -> None:
        if self.joined is None:
            return
        if self.joined.poll() is None:
            os.killpg(self.joined.pid, signal.SIGTERM)
        if self.joined.stdout is not None and not self.joined.stdout.closed:
            self.joined.communicate(timeout=WAIT_S)


def agents(running: Mesh) -> dict[str, dict[str, Any]]:
    """All agents, by name."""
    return {str(each["name"]): dict(each) for each in running.call("GET", "/api/v1/agents")["agents"]}


def released(running: Mesh, folder: Path, version: str, changes: Mapping[str, tuple[str, str]] | None = None) -> None:
    """The hub becomes this release, where it is; all agents are back."""
    assert running.hub is not None
    running.hub.terminate()
    assert running.hub.wait(60) == 0
    running.hub_env = releases.environment(releases.whole(folder / version, version, changes))
    running.start_hub()
    until(lambda: all(each["state"] != "offline" for each in agents(running).values()), "all are back", running.hub)
