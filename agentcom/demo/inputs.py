"""What the demo works on: this project's own repository, and a small one with a failing test."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LONGEST: Final = "git ls-files | grep -E '[.](py|js|md)$' | xargs wc -l | sort -rn | sed -n 2,6p | tee LONGEST.txt"
CODE: Final = Path(__file__).parent / "repair"


@dataclass(frozen=True, slots=True)
class Job:
    """A task of the demo and how it should end."""

    title: str
    spec: dict[str, Any]
    iterations: int | None = None
    """How many rounds it must have taken; ``None``: as many as it takes."""


def jobs(folder: Path, *, with_agent: bool) -> list[Job]:
    """The tasks, on repositories made under ``folder``."""
    project, broken = _own_repository(folder / "project.git"), _broken_repository(folder, "prices")
    found = [
        Job(
            "a shell command on a git repository",
            {
                "title": "List the longest files",
                "command": LONGEST,
                "context": {"repo": str(project)},
                "verification": [
                    {"type": "file_exists", "path": "LONGEST.txt"},
                    {"type": "command_succeeds", "name": "five lines", "command": "test $(wc -l < LONGEST.txt) -eq 5"},
                ],
            },
            iterations=1,
        ),
        Job(
            "a chat that writes a file, checked",
            {
                "title": "Welcome a machine",
                "prompt": "Write two short sentences that welcome a new computer to a team of computers.",
                "executor": "chat",
                "save_as": "welcome.txt",
                "verification": [
                    {"type": "file_exists", "path": "welcome.txt"},
                    {"type": "command_succeeds", "name": "some words", "command": "test $(wc -w < welcome.txt) -ge 5"},
                ],
                "budget": {"fix_attempts": 3, "seconds": 300},
            },
        ),
        Job(
            "a repair: red, fix, green",
            {
                "title": "Repair the prices",
                "command": "sh repair.sh",
                "context": {"repo": str(broken)},
                "verification": [{"type": "test_passes", "command": "python3 -m unittest -q"}],
            },
            iterations=2,
        ),
    ]
    if with_agent:
        found.append(Job("a repair by a model", _agent_repair(_broken_repository(folder, "prices-for-the-agent"))))
    return found


def _agent_repair(repository: Path) -> dict[str, Any]:
    return {
        "title": "Repair the prices, by a model",
        "prompt": "The test in test_prices.py fails. Find out why and fix prices.py. Do not change the test.",
        "executor": "agent",
        "context": {"repo": str(repository), "files": ["prices.py", "test_prices.py"]},
        "verification": [{"type": "test_passes", "command": "python3 -m unittest -q"}],
        "budget": {"fix_attempts": 3, "seconds": 900},
    }


def _own_repository(target: Path) -> Path:
    """This project as a bare repository: its real history in a checkout, its files otherwise."""
    root = Path(__file__).parents[2]
    if (root / ".git").exists():
        _git("clone", "-q", "--bare", "--no-hardlinks", str(root), str(target))
        return target
    work = target.with_suffix("")
    shutil.copytree(Path(__file__).parents[1], work / "agentcom", ignore=shutil.ignore_patterns("__pycache__"))
    return _commit(work, target)


def _broken_repository(folder: Path, name: str) -> Path:
    work = folder / name
    shutil.copytree(CODE, work, ignore=shutil.ignore_patterns("__pycache__"))
    for file in work.rglob("*.txt"):  # kept as text, so that nothing takes the broken code for the project's own
        file.rename(file.with_suffix(""))
    return _commit(work, folder / f"{name}.git")


def _commit(work: Path, target: Path) -> Path:
    _git("init", "-q", "-b", "main", str(work))
    _git("-C", str(work), "add", ".")
    identity = ["-c", "user.name=AgentCom demo", "-c", "user.email=demo@example.org", "-c", "commit.gpgsign=false"]
    _git("-C", str(work), *identity, "commit", "-qm", "Sell things")
    _git("clone", "-q", "--bare", "--no-hardlinks", str(work), str(target))
    return target


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, stdin=subprocess.DEVNULL)
