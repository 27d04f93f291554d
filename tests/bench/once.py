"""What ``./run bench`` measures once, after the rounds: a crowd, a long queue, a fleet that comes back, commands."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from agentcom.bench.processes import Mesh
from tests.support.storm import storm

AGENTS: Final = 1_000
"""That take some of the long queue."""
STARTS: Final = 9
"""Starts of a command, of which the median counts."""
PATIENCE_S: Final = 900


class Failed(Exception):
    """A measurement did not come to its end; the text is what it said last."""


def crowd(count: int) -> dict[str, Any]:
    """So many idle sidecars, with the heartbeats that everybody gets."""
    return dict(_asked("connections", "--count", str(count))["figures"][-1])


def queue(length: int) -> dict[str, Any]:
    """So many queued tasks, some of which a thousand agents take."""
    flags = ("--of", "queue", "--size", str(length), "--agents", str(AGENTS))
    return {"agents": AGENTS, **_asked("growth", *flags)["figures"][-1]}


def back(sidecars: int) -> dict[str, float]:
    """So many sidecars after a hub that was killed is back."""
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        try:
            found = asyncio.run(storm(Path(folder), sidecars))
        except TimeoutError:
            raise Failed(f"{sidecars} sidecars were not back in time") from None
    seen = {"back_s": found.after_s[-1], "peak": float(found.peak), "mean_per_s": found.mean_per_s}
    return {"sidecars": float(sidecars), "answered_s": found.answered_s, **seen}


def starts_ms() -> dict[str, float]:
    """Wall time of commands that ask for one thing, in milliseconds; the hub they ask is idle."""
    return asyncio.run(_starts())


async def _starts() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        async with Mesh(Path(folder)) as mesh:
            env = os.environ | {"AGENTCOM_HUB": mesh.url, "AGENTCOM_TOKEN": mesh.token()}
            found = {}
            for command in ("--help", "tasks ls"):
                found[command] = await asyncio.to_thread(_median_ms, command.split(), env)
            return found


def _median_ms(words: list[str], env: dict[str, str]) -> float:
    took_ms = []
    for _ in range(STARTS):
        began = time.perf_counter()
        done = subprocess.run([_agentcom(), *words], env=env, capture_output=True, text=True, check=False)
        took_ms.append((time.perf_counter() - began) * 1000)
        if done.returncode != 0:
            raise Failed(f"agentcom {' '.join(words)} failed: {done.stderr.strip()[-300:]}")
    return statistics.median(took_ms)


def _agentcom() -> str:
    return str(Path(sys.executable).with_name("agentcom"))


def _asked(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "agentcom", "bench", *words, "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"agentcom bench {' '.join(words)} took longer than {PATIENCE_S} s") from None
    if done.returncode != 0:
        raise Failed(f"agentcom bench {' '.join(words)} failed: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
