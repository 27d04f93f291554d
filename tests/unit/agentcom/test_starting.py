"""The promises of :mod:`agentcom.starting`: hubs and sidecars load no library that they do not need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "words",
    [
        ("hub", "--listen", "127.0.0.1:0", "--data-dir"),
        ("sidecar", "--hub", "http://127.0.0.1:9", "--state-dir"),
    ],
    ids=["hub", "sidecar"],
)
def test_what_stays_loads_structlog_without_rich(tmp_path: Path, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "agentcom", *words, str(tmp_path), "--log", "json"]
    loaded, line = set(), ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"AGENTCOM_TOKEN": "t"}) as made:
        assert made.stderr is not None
        for line in made.stderr:
            if line.startswith("{"):  # the first line of its log
                break
            loaded.add(line.rsplit("|", 1)[-1].strip())
        made.kill()

    assert line.startswith("{"), line
    assert "structlog" in loaded
    assert not {"rich.console", "pygments"} & loaded


@pytest.mark.parametrize(
    "before, is_used",
    [("", "False"), ("import rich.console;", "True")],
    ids=["nobody asked for rich", "somebody has"],
)
def test_rich_itself_can_be_had_before_and_after(before: str, is_used: str) -> None:
    text = (
        f"{before}from agentcom.starting import log_without_rich; log_without_rich(); log_without_rich();"
        "import structlog.dev, rich.console; print(structlog.dev.rich is not None)"
    )

    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)

    assert (done.stdout.strip(), done.stderr) == (is_used, "")
