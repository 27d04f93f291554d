"""A machine whose key is in use twice, on the live page: a real machine that has joined, and a real copy of it."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.pages import PATIENCE_MS, Site
from tests.support.mesh import Mesh, until

expect.set_options(timeout=PATIENCE_MS)
NAME = "Grey Area"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A hub, a machine that has joined with a key of its own, and a copy of its state that was started once."""
    mesh = Mesh(tmp_path_factory.mktemp("cloned"))
    home = mesh.folder / "home"
    config = ("--config", str(home / "sidecar.toml"))
    env = {"HOME": str(home), "PYTHONUNBUFFERED": "1"}
    try:
        mesh.start_hub()
        token = mesh.call("POST", "/api/v1/join-tokens", {})["token"]
        asked = ("join", mesh.url, "--token", token, "--name", NAME, "--foreground", "--plaintext", "--yes")
        machine = mesh.start_command("machine", *asked, *config, "--state-dir", str(home / "state"), env=env)
        said = mesh.folder / "machine.log"
        until(lambda: "takes part" in said.read_text("utf-8"), "the machine has joined", machine)
        shutil.copytree(home / "state", home / "copy")
        copied = (*config, "--state-dir", str(home / "copy"), "--host", "thief")
        copy = mesh.start_command("copy", "sidecar", *copied, env=env)
        until(lambda: copy.poll() is not None, "the copy is refused")
        yield mesh
    finally:
        mesh.stop()


def test_a_machine_whose_key_is_in_use_twice_is_shown_in_quarantine_and_released(site: Site) -> None:
    watcher = site.open("fleet", role="viewer")
    expect(watcher.locator(".card .trouble")).to_contain_text(f"agentcom agents release '{NAME}'")
    expect(watcher.get_by_role("button", name="Release it")).to_have_count(0)
    page = site.open("fleet")
    told = page.locator(".card .trouble")
    expect(told).to_contain_text("In quarantine, it gets no work")
    expect(told).to_contain_text("on thief")
    expect(page.locator(".card").filter(has_text=NAME)).to_contain_text("blocked")
    site.picture(page, "fleet-quarantine")
    told.get_by_role("link", name="What to do").click()
    expect(page.locator(".runbook.here")).to_contain_text("agentcom agents release")
    site.go(page, "overview")
    expect(page.get_by_role("region", name="Needs you")).to_contain_text("Two sidecars use one name")
    expect(page.locator(".health")).to_contain_text(NAME)
    site.go(page, "fleet")
    told.get_by_role("button", name="Release it").click()
    page.get_by_role("dialog", name="Are you sure?").get_by_role("button", name="Yes").click()

    expect(told).to_have_count(0)
    site.mesh.wait_agents(NAME)
    assert site.mesh.events("agent_released")
    assert site.troubles == []
