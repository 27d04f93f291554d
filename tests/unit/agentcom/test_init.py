"""Promises of :mod:`agentcom` as a package."""

import subprocess
import sys

import pytest

import agentcom


def test_every_name_of_the_package_can_be_imported() -> None:
    assert [name for name in agentcom.__all__ if getattr(agentcom, name).__name__ != name] == []


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Hub'"):
        _ = agentcom.Hub


def test_importing_the_package_does_not_import_the_http_stack() -> None:
    code = "import agentcom, sys; print('aiohttp' in sys.modules, 'msgspec' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.split() == ["False", "False"]
