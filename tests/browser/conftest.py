"""One browser and one mesh for the tests of the live page: real hub, real sidecar, Debian's Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.pages import HOSTILE, Site
from tests.support.mesh import Mesh

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium to look at the page with (apt install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A hub with one agent that has done some work, good and bad."""
    mesh = Mesh(tmp_path_factory.mktemp("site"), heartbeat_s=1.0, lease_s=10.0)
    try:
        mesh.start_hub()
        mesh.start_sidecar("One", "--slots", "2")
        mesh.wait_agents("One")
        done = mesh.submit(
            title="good work", command="echo written", verification=[{"type": "command_succeeds", "command": "true"}]
        )
        dead = mesh.submit(title="bad work", command="echo why; exit 3", max_retries=0)
        hostile = mesh.submit(
            title=HOSTILE[0], command=f"printf '%s\\n' {' '.join(map(_quoted, HOSTILE))}", labels={"x": HOSTILE[1]}
        )
        mesh.submit(title="waits for a GPU", command="true", needs=["gpu"])
        mesh.call("PUT", "/api/v1/budgets/hub", {"usd": 20.0})
        mesh.wait(done, dead, hostile)
        yield mesh
    finally:
        mesh.stop()


@pytest.fixture
def site(mesh: Mesh, browser: Browser, tmp_path: Path) -> Iterator[Site]:
    """Opens pages of the hub, and closes them after the test."""
    site = Site(mesh, browser)
    yield site
    site.close()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
