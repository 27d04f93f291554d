"""One stream a tab: whatever the page shows, it holds one connection open, and a log it follows has no gap."""

from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect

from tests.browser.pages import PATIENCE_MS, Site

expect.set_options(timeout=PATIENCE_MS)
COUNTED: Final = """
window.streams = { open: 0, most: 0, made: 0, wholes: 0, stale: 0 };
const Original = window.EventSource;
window.EventSource = class extends Original {
  constructor(...how) {
    super(...how);
    this.isMine = true;
    streams.made += 1; streams.open += 1; streams.most = Math.max(streams.most, streams.open);
    this.addEventListener("message", (told) => { if (JSON.parse(told.data).whole) streams.wholes += 1; });
  }
  close() { if (this.isMine) { this.isMine = false; streams.open -= 1; } super.close(); }
};
new MutationObserver(() => { if (document.querySelector(".banner")) streams.stale += 1; })
  .observe(document, { childList: true, subtree: true });
"""
ALL_THERE: Final = "count => document.querySelector('.log').innerText.split('line ').length > count"


def counted(site: Site, view: str = "overview") -> Page:
    """A page that counts its streams."""
    page = site.open()
    page.context.add_init_script(COUNTED)
    page.reload()
    page.wait_for_selector(".fresh.live")
    page.wait_for_selector("main .plot svg, main .plot .none")
    site.go(page, view)
    return page


def streams(page: Page) -> dict[str, int]:
    """What it has counted."""
    return dict(page.evaluate("streams"))


def writer(site: Site, gate: Path, title: str) -> str:
    """A task that writes three lines now, and another for each file beside ``gate`` that appears."""
    waits = [f"until [ -e {gate}{number} ]; do sleep 0.1; done; echo line {number}" for number in (4, 5, 6)]
    return site.mesh.submit(title=title, command="; ".join(["for i in 1 2 3; do echo line $i; done", *waits]))


def test_a_tab_has_one_stream_whatever_it_shows_and_no_change_is_seen_as_a_break(site: Site) -> None:
    gate = site.mesh.folder.parent / "one"
    task = writer(site, gate, "writes")
    page = counted(site)
    first = streams(page)
    site.go(page, f"tasks/{task}")
    expect(page.locator(".log")).to_contain_text("line 3")
    running = streams(page)
    site.go(page, f"logs?task={task}")
    expect(page.get_by_role("log", name="Output of all tasks")).to_contain_text("line 3")
    logs = streams(page)
    for number in (4, 5, 6):
        Path(f"{gate}{number}").touch()
    expect(page.get_by_role("log", name="Output of all tasks")).to_contain_text("line 6")
    site.go(page, "overview")
    page.wait_for_selector("main .plot svg, main .plot .none")
    site.mesh.submit(title="seen after all that", executor="noop")
    expect(page.get_by_role("link", name="seen after all that").first).to_be_visible()
    last = streams(page)

    for seen in (first, running, logs, last):
        assert (seen["open"], seen["most"]) == (1, 1)
    assert last["made"] > first["made"]
    assert last["wholes"] == first["wholes"] == 1, "what it knew already was not told again"
    assert last["stale"] == 0
    assert site.troubles == []


def test_five_tabs_that_follow_a_log_are_all_live(site: Site) -> None:
    # A sixth connection is left for what they ask; each of them had two.
    task = writer(site, site.mesh.folder.parent / "five", "five look")
    first = counted(site, f"tasks/{task}")
    tabs = [first]
    for _ in range(4):
        tab = first.context.new_page()
        tab.set_default_timeout(PATIENCE_MS)
        tab.goto(f"{site.mesh.url}/#/tasks/{task}")
        tabs.append(tab)
    for tab in tabs:
        expect(tab.locator(".log")).to_contain_text("line 3")
        expect(tab.locator(".fresh.live")).to_be_visible()
    site.mesh.call("POST", f"/api/v1/tasks/{task}/cancel")

    for tab in tabs:
        expect(tab.locator(".strip")).to_contain_text("cancelled")


def test_a_log_is_followed_without_a_gap_over_a_restart_of_the_hub(site: Site) -> None:
    gate = site.mesh.folder.parent / "over"
    task = writer(site, gate, "over a restart")
    pages = [counted(site, f"tasks/{task}"), counted(site, f"logs?task={task}")]
    for page in pages:
        expect(page.locator(".log")).to_contain_text("line 3")
    site.mesh.kill(site.mesh.hub)
    for page in pages:
        expect(page.locator(".banner")).to_contain_text("Reconnecting")
    Path(f"{gate}4").touch()
    site.mesh.start_hub()
    for number in (5, 6):
        Path(f"{gate}{number}").touch()
    site.mesh.wait(task)
    logs = site.mesh.call("GET", f"/api/v1/tasks/{task}/logs?limit=500")["logs"]
    wrote = "".join(piece["text"] for piece in logs)  # an attempt that was lost over the restart has written too

    for page in pages:
        expect(page.locator(".fresh.live")).to_be_visible()
        page.wait_for_function(ALL_THERE, arg=wrote.count("line "))
        text = page.locator(".log").inner_text()
        assert [text.count(f"line {number}") for number in range(1, 7)] == [
            wrote.count(f"line {number}") for number in range(1, 7)
        ]
        assert (streams(page)["open"], streams(page)["most"]) == (1, 1)
    site.mesh.wait_agents("One")
