"""Tests that need a real NVIDIA GPU: they run where there is one.

Elsewhere they are skipped, and say why; asked for by name (``-m gpu``) that is an error, so that nobody takes a skipped
run for a GPU that was tested.
"""

import shutil
import subprocess

import pytest


def why_not() -> str:
    """Why there is no GPU to test on; empty if there is one."""
    if shutil.which("nvidia-smi") is None:
        return "nvidia-smi is not installed here"
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return "nvidia-smi -L does not answer within a minute"
    if done.returncode != 0 or not done.stdout.startswith("GPU "):
        return f"nvidia-smi -L says: {(done.stdout + done.stderr).strip()[:200] or 'nothing'}"
    return ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    wanted = [item for item in items if item.get_closest_marker("gpu")]
    if not wanted or not (why := why_not()):
        return
    if config.option.markexpr.strip() == "gpu":
        message = f"no NVIDIA GPU to test on: {why}"
        raise pytest.UsageError(message)
    for item in wanted:
        item.add_marker(pytest.mark.skip(reason=f"no NVIDIA GPU to test on: {why}"))
