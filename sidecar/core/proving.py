"""What a check needs of the machine that it runs on, as far as its command tells.

Pure. The caller is ``sidecar/proving.py``, when a check has failed on a machine where the work was not done.
"""

import re
import shlex
from dataclasses import dataclass
from typing import Final

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_PYTHON: Final = re.compile(r"(python|pypy)[0-9.]*")
_MODULES: Final = frozenset(
    {"pytest", "unittest", "nose2", "tox", "nox", "coverage", "mypy", "ruff", "flake8", "pylint"}
)
"""What is run with ``python -m`` and is no part of the work; another module may be."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Something that the machine has to have, and a shell command that exits 0 if it does."""

    name: str
    command: str


def probes(command: str) -> tuple[Probe, ...]:
    """What the first program of ``command`` needs of the machine. A path is of the work: nobody else has to have it."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ()
    while words and _ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    if not words or "/" in words[0]:
        return ()
    program = words[0]
    found = [Probe(program, f"command -v {shlex.quote(program)}")]
    if _PYTHON.fullmatch(program) and words[1:2] == ["-m"] and len(words) > 2 and words[2] in _MODULES:  # noqa: PLR2004 - a name follows
        code = f"import sys, importlib.util as u; sys.exit(u.find_spec('{words[2]}') is None)"
        found.append(Probe(f"{words[2]} for {program}", f"{program} -c {shlex.quote(code)}"))
    return tuple(found)
