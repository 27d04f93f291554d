"""Why a program that failed has failed, where its machine knows better than its exit code.

Pure. A limit shows in one of two ways: the kernel counts (it ended a process for want of memory, it refused a fork), or
the program says so with its last words. Callers: the executors, with what ``sidecar/process.py`` has seen.
"""

import re
from typing import Final

KILLED: Final = frozenset({-9, 137})
"""Exit codes of a program that SIGKILL ended: as we see it, and as a shell passes it on."""
_LAST_WORDS_CHARS: Final = 4_000

_MEMORY: Final = re.compile(
    r"\bMemoryError\b|Cannot allocate memory|[Oo]ut of memory|std::bad_alloc|OutOfMemoryError|virtual memory exhausted"
    r"|heap out of memory|memory allocation of \d+ bytes failed"
)
_PROCESSES: Final = re.compile(
    r"fork: (?:retry: )?(?:Resource temporarily unavailable|Cannot allocate memory)|can't start new thread"
    r"|[Cc]annot fork|unable to create (?:new )?native thread|fork(?:\(\))? failed: Resource"
    r"|BlockingIOError: \[Errno 11\]"
)


def cause(exit_code: int | None, output: str, *, oom_kills: int = 0, refused_forks: int = 0) -> tuple[str, str] | None:
    """A code and a sentence; ``None`` if nothing is known beyond the exit code, or nothing failed.

    Args:
        exit_code: of the program; ``None``: we ended it.
        output: the tail of what it said.
        oom_kills, refused_forks: how often the kernel did that to us and our children while the program ran.
    """
    if exit_code in {None, 0}:
        return None
    last_words = output[-_LAST_WORDS_CHARS:]
    if refused_forks or _PROCESSES.search(last_words):
        return "too_many_processes", "it was refused more processes: the limit of this machine or its group is reached"
    if oom_kills or _MEMORY.search(last_words):
        return "out_of_memory", "memory ran out: it needs more than this machine or its limits allow"
    if exit_code in KILLED:
        return "killed", "something killed it (signal 9): a person, another program, or the machine for want of memory"
    return None
