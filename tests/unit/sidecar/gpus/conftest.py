from pathlib import Path

import pytest

from tests.support.nvml import FakeDriver


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> FakeDriver:
    return FakeDriver(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_driver(tmp_path_factory: pytest.TempPathFactory) -> FakeDriver:
    return FakeDriver(tmp_path_factory.mktemp("old-nvml"), old=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where ``sys`` and ``proc`` of a machine are that is not this one."""
    for folder in ("sys/class/drm", "sys/bus/pci", "proc"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path
