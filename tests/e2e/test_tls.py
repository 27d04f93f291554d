"""A hub with its own certificate, a sidecar and commands: real programs, with the loop that they have in production."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mesh import until

PROGRAM = (sys.executable, "-m", "agentcom")
SECONDS = 60


def ask(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)


def test_work_crosses_tls_that_the_hub_has_made_and_another_hub_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    data = tmp_path / "data"
    hub = subprocess.Popen(
        [*PROGRAM, "hub", "--tls", "--data-dir", str(data), "--listen", "127.0.0.1:0"], stderr=subprocess.DEVNULL
    )
    sidecar = None
    try:
        until((data / "hub.json").exists, "the hub answers")
        url = ask("fingerprint", "--data-dir", str(data), "--json").stdout.split('"')[3]
        fingerprint = ask("fingerprint", "--hub", url).stdout.strip()
        common = ("sidecar", "--hub", url, "--token-file", str(data / "agent.token"), "--sandbox", "unsafe")
        sidecar = subprocess.Popen(
            [*PROGRAM, *common, "--ca-hash", fingerprint, "--state-dir", str(tmp_path / "one")],
            stderr=subprocess.DEVNULL,
        )
        done = ask("submit", "--data-dir", str(data), "--shell", "echo across", "--wait")
        stranger = ask(*common, "--ca-hash", "0" * 64, "--state-dir", str(tmp_path / "two"))
    finally:
        for process in (sidecar, hub):
            if process is not None:
                process.terminate()
                process.wait(SECONDS)

    assert len(fingerprint) == 64
    assert url.startswith("https://127.0.0.1:")
    assert (done.returncode, "across" in done.stdout) == (0, True), done.stderr
    assert (stranger.returncode, "wrong_hub" in stranger.stderr) == (4, True)
