"""Plug-in checks, as the owner of this host names them in the settings file: ``[[plugins]]`` tables.

``sidecar/settings.py`` reads the file; who runs them is ``sidecar/checks/plugin.py``. Refuses what cannot work, all
problems at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import BadInput, Problem
from protocol.ids import PLUGIN_NAME


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """One plug-in: the name by which checks ask for it, and its program with arguments, given from the root.

    Raises:
        BadInput: something is wrong with it; every problem is listed.
    """

    name: str
    command: tuple[str, ...]

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise BadInput(problems, f"plug-in {self.name!r}")


def _problems(plugin: PluginSettings) -> Iterator[Problem]:
    if not PLUGIN_NAME.fullmatch(plugin.name):
        yield Problem("name", f"{plugin.name[:60]!r} is no name: letters, digits and ._-, at most 40")
    program = Path(plugin.command[0]) if plugin.command else Path()
    if not (program.is_absolute() and program.is_file()):
        yield Problem("command", f"{str(program)[:100]!r} is no program, given from the root")
