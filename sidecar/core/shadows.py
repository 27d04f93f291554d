"""Know files that take the place of what a test runner of Python imports: the runner itself, or a module of Python.

Python looks into the folder it is started in before it looks where modules are installed, and runners put the folders
of tests before that. Pure; its caller is ``sidecar/core/judging.py``.
"""

import re
import sys
from typing import Final

_OF_RUNNERS: Final = frozenset({
    "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "exceptiongroup", "tomli", "pygments", "colorama", "py",
    "coverage", "pytest_cov", "xdist", "execnet", "pytest_xdist", "pytest_asyncio", "anyio", "pytest_timeout",
    "hypothesis", "_hypothesis_pytestplugin", "attr", "attrs", "sortedcontainers", "typing_extensions", "nose2",
})  # fmt: skip
"""What runners are made of."""
_OF_PYTHON: Final = frozenset(sys.stdlib_module_names) - {"test", "this", "antigravity", "idlelib", "turtledemo"}
_FOLDERS: Final = ("", "src/", "test/", "tests/")
"""Where modules are looked for, as far as it is known; beside them the folders that the command names."""
_MODULE: Final = re.compile(r"(?P<name>\w+)(?:\.[\w-]+)*\.(?:py|pyc|so|pyd)")
_PACKAGE: Final = re.compile(r"(?P<name>\w+)/__init__(?:\.[\w-]+)*\.(?:py|pyc|so|pyd)")
_NO_FOLDER: Final = re.compile(
    r"(?:^|\s)(?:--(?:cov|cov-config|ignore|ignore-glob|deselect|junit-?xml)(?:=|\s+)|-[km]\s+)(?!-)"
    r"(?:'[^']*'|\"[^\"]*\"|\S+)"
)
"""What follows these options of runners comes to no path of Python."""
_PART: Final = re.compile(r"(?P<name>_?pytest)/.*\.(?:py|pyc|so|pyd)")

GLOBS: Final = tuple(
    f"{folder}{below}" for folder in _FOLDERS for below in ("*.py", "*.pyc", "*.so", "*.pyd", "*/__init__.*")
)
"""Where such files can be that git ignores, as patterns of git; :func:`shadowed` has the last word."""


def shadowed(path: str, command: str = "", *, only_runners: bool = False) -> str:
    """The module whose place a new file takes, empty if it takes none.

    Args:
        path: of the file.
        command: runs the tests.
        only_runners: modules of Python itself do not count.
    """
    names = _OF_RUNNERS if only_runners else _OF_RUNNERS | _OF_PYTHON
    for folder in {*_FOLDERS, *_named(command)}:
        below = path[len(folder) :] if path.startswith(folder) else ""
        found = _MODULE.fullmatch(below) or _PACKAGE.fullmatch(below) or _PART.fullmatch(below)
        if found and found["name"] in names:
            return found["name"]
    return ""


def _named(command: str) -> set[str]:
    """Folders among the words of a command, and those of files that it names."""
    told = re.split(r"[\s;&|=:]+", _NO_FOLDER.sub(" ", command))
    words = {word.strip("'\"()").removeprefix("./").partition("::")[0] for word in told}
    folders = {word.rpartition("/")[0] if word.endswith(".py") else word.rstrip("/") for word in words}
    return {f"{folder}/" for folder in folders if folder and not folder.startswith(("-", "/"))}
