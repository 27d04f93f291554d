"""A bare machine in a network of its own: from the pasted command to a verified first task, and out with no trace."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

NAME, HERE, THERE, PORT = "agentcom-join", "10.77.13.1", "10.77.13.2", 7_419
pytestmark = [pytest.mark.soak, pytest.mark.root]


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, timeout=20)


@pytest.fixture
def network() -> Iterator[None]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs ip and root to make a network namespace")
    ip("netns", "del", NAME, check=False)
    ip("netns", "add", NAME)
    try:
        ip("link", "add", "acj-a", "type", "veth", "peer", "name", "acj-b")
        ip("link", "set", "acj-b", "netns", NAME)
        ip("addr", "add", f"{HERE}/24", "dev", "acj-a")
        ip("link", "set", "acj-a", "up")
        ip("-n", NAME, "addr", "add", f"{THERE}/24", "dev", "acj-b")
        ip("-n", NAME, "link", "set", "acj-b", "up")
        ip("-n", NAME, "link", "set", "lo", "up")
        yield
    finally:
        ip("link", "del", "acj-a", check=False)
        ip("netns", "del", NAME, check=False)


def agentcom(*words: str) -> list[str]:
    return [sys.executable, "-m", "agentcom", *words]


def test_a_bare_machine_takes_part_and_leaves_no_trace(network: None, tmp_path: Path) -> None:
    url, data, home = f"https://{HERE}:{PORT}", tmp_path / "hub", tmp_path / "home"
    home.mkdir()
    with (tmp_path / "hub.log").open("wb") as log:
        hub = subprocess.Popen(
            agentcom("hub", "--data-dir", str(data), "--listen", f"0.0.0.0:{PORT}", "--url", url), stderr=log
        )
    try:
        until = time.monotonic() + 60
        while not (data / "hub.json").is_file() and time.monotonic() < until:
            time.sleep(0.2)  # another process writes the file when it listens; there is nothing else to wait on
        made = subprocess.run(
            agentcom("token", "create", "--data-dir", str(data), "--hub", url),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        where = f"--state-dir {home}/state --config {home}/etc/sidecar.toml"
        line = f"{made.stdout.splitlines()[1]} --foreground {where}"
        inside, env = ["ip", "netns", "exec", NAME], {"PATH": os.environ["PATH"], "HOME": str(home)}
        said = ""
        with subprocess.Popen(
            [*inside, "sh", "-c", line],
            cwd=home,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as joins:
            assert joins.stdout is not None
            for each in joins.stdout:
                said += each
                if "works until" in each:
                    break
            program = f"{home}/.local/share/agentcom/env/bin/agentcom leave --purge {where}"
            left = subprocess.run(
                [*inside, "sh", "-c", program],
                cwd=home,
                env=env,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            joins.terminate()
    finally:
        hub.terminate()
        hub.wait(30)

    assert "as the token says" in said, said
    assert "done and verified" in said, said
    assert left.returncode == 0, left.stderr
    assert list(home.rglob("*")) == []
