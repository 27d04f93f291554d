"""Real faults against real processes: one test a row of the fault matrix, named after it (``test_t01_...``).

Rows that take minutes are marked ``soak``: only ``./run soak`` runs them. Rows marked ``root`` mount file systems or
filter packets; they are skipped for everybody else, and say so.
"""

import os

import pytest

from tests.support.mesh import Mesh

CONFINED = ("test_children", "test_cancel", "test_attempts", "test_quiet")
"""Rows about what becomes of programs; the others start thousands of them, and are about something else."""

LIMIT_S = 900
"""For a row that names no limit of its own: it starts programs by the dozen, and a busy machine starts them slowly."""


@pytest.fixture(autouse=True)
def confinement(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox of the sidecars: as everybody has it where it matters, none where only its time would be felt."""
    if request.module.__name__.rpartition(".")[2] not in CONFINED:
        monkeypatch.setattr(Mesh, "sandbox", "unsafe")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give rows their time, and leave the rows of root out where we are not."""
    if "soak" not in config.option.markexpr:
        for item in items:
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(LIMIT_S))
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root: it mounts, or filters packets"))
