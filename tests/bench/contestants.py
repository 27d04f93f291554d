"""Who is measured: ourselves, the floor, and other queues, each as a command that prints one line of JSON.

Another queue gets an environment of its own under ``.cache/bench``, made when it is first asked for; one that cannot be
had on this machine is named together with what would bring it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache" / "bench"
PEERS: Final = Path(__file__).parent / "peers"
SLOW_US: Final = 3_800
RUN_S: Final = 300


class Missing(Exception):
    """A contestant cannot run here; the text says what would bring it."""


@dataclass(frozen=True)
class Contestant:
    """``durability``: D: fsync before every acknowledgement, nothing lost by any crash; R: power loss loses seconds."""

    name: str
    durability: str
    tasks: int
    command: Sequence[str]
    packages: Sequence[str] = ()
    programs: Sequence[str] = ()
    needs_postgres: bool = False
    is_slow: bool = False
    """Every fsync takes 3.8 ms longer."""
    is_ours: bool = False
    env: dict[str, str] = field(default_factory=dict)


def _peer(name: str, mode: str, durability: str, tasks: int, *packages: str, **more: Any) -> Contestant:
    kind = name.split("+", 1)[0].split(" ", 1)[0]
    script = [str(PEERS / f"{kind}_peer.py"), *(("--mode", mode) if mode else ())]
    return Contestant(name, durability, tasks, script, packages=packages, **more)


OURS: Final = ("-m", "agentcom", "bench", "tasks", "--json", "--runs", "1")
NO_SINGLES: Final = (*OURS, "--callers", "0")
TWO_HUBS: Final = (str(Path(__file__).parent / "two_hubs.py"),)
FLOOR: Final = (str(Path(__file__).parent / "floor.py"),)
SAQ: Final = ("saq[hiredis]==0.26.4", "typing-extensions", "psutil")
DRAMATIQ: Final = ("dramatiq[redis]==2.2.1", "psutil")
PROCRASTINATE: Final = ("procrastinate==3.10.0", "psycopg[binary,pool]", "psutil")
REDIS: Final = {"programs": ("redis-server",)}

CONTESTANTS: Final = (
    Contestant("agentcom", "D", 10_000, OURS, is_ours=True),
    Contestant("floor", "D", 20_000, FLOOR),
    _peer("saq+redis aof", "aof", "D", 2_000, *SAQ, **REDIS),
    _peer("dramatiq+redis", "default", "R", 3_000, *DRAMATIQ, **REDIS),
    _peer("dramatiq+redis aof", "aof", "D", 2_000, *DRAMATIQ, **REDIS),
    _peer("procrastinate+postgresql", "", "D", 1_000, *PROCRASTINATE, needs_postgres=True),
    Contestant("agentcom+postgresql", "D", 5_000, NO_SINGLES, needs_postgres=True, is_ours=True),
    Contestant("agentcom+postgresql, two hubs", "D", 5_000, TWO_HUBS, needs_postgres=True, is_ours=True),
    Contestant("agentcom slow disk", "D", 10_000, NO_SINGLES, programs=("gcc",), is_slow=True, is_ours=True),
    Contestant("floor slow disk", "D", 20_000, FLOOR, programs=("gcc",), is_slow=True),
)


def prepare(chosen: Contestant) -> tuple[str, dict[str, str]]:
    """The Python that runs it and what its environment has beside ours.

    Raises:
        Missing: it cannot be had here.
    """
    for program in chosen.programs:
        if shutil.which(program) is None:
            _install(program)
    env = dict(chosen.env)
    if chosen.is_slow:
        env |= {"LD_PRELOAD": str(_slow_fsync()), "SLOW_FSYNC_US": str(SLOW_US)}
    return (_environment(chosen.packages) if chosen.packages else sys.executable), env


def run(chosen: Contestant, python: str, env: dict[str, str], tasks: int, store: str) -> dict[str, Any]:
    """One run; its figures.

    Raises:
        Missing: it failed; the text is what it said last.
    """
    is_command = chosen.command[:2] == OURS[:2]
    command = [python, *chosen.command, "--count" if is_command else "--tasks", str(tasks)]
    if store:
        command += ["--store", store]
    try:
        done = subprocess.run(
            command, env=os.environ | env, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise Missing(f"{chosen.name} took longer than {RUN_S} s") from exc
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"{chosen.name} failed: {said[-1] if said else done.returncode}")
    found = json.loads(done.stdout)
    return _ours(found) if is_command else dict(found)


def _ours(found: dict[str, Any]) -> dict[str, Any]:
    singles = found["singles"]
    return {
        "tasks": found["load"]["count"],
        "submitted_per_s": found["submitted_per_s"]["median"],
        "ended_per_s": found["ended_per_s"]["median"],
        "idle_p50_ms": found["serial_round_trip_ms"]["p50"],
        "idle_p99_ms": found["serial_round_trip_ms"]["p99"],
        "rare_p50_ms": found["idle_round_trip_ms"]["p50"],
        "singles_per_s": singles and singles["submitted_per_s"],
        "singles_p99_ms": singles and singles["answered_ms"]["p99"],
        "cpu_us_per_task": {who: used["median"] for who, used in found["cpu_us_per_task"].items()},
    }


def _install(program: str) -> None:
    package = program
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise Missing(f"{program} is not installed; on Debian: apt install {package}")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in ([apt, "update", "-qq"], [apt, "install", "-y", "-qq", "--no-install-recommends", package]):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Missing(f"{program} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")


def _environment(packages: Sequence[str]) -> str:
    """A Python with these packages; made once, and again when the list changes."""
    key = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    folder = CACHE / f"venv-{key}"
    python, stamp = folder / "bin" / "python", folder / "done"
    if not stamp.exists():
        print(f"installing {' '.join(packages)}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Missing(f"{' '.join(packages)} cannot be installed; its index may not be reachable")
        stamp.touch()
    return str(python)


def _slow_fsync() -> Path:
    built = CACHE / "slow_fsync.so"
    if not built.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        source = Path(__file__).parent / "slow_fsync.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(built), str(source), "-ldl"], check=True)
    return built
