"""Whoever watches on the live page: output of all tasks, facets, charts, the audit log."""

import re

from playwright.sync_api import expect

from tests.browser.pages import HOSTILE, PATIENCE_MS, Site

expect.set_options(timeout=PATIENCE_MS)


def test_output_of_all_tasks_is_followed_found_filtered_and_paused_and_never_run(site: Site) -> None:
    gate = site.mesh.folder.parent / "watch"
    wait = f"until [ -e {gate} ]; do sleep 0.1; done"
    page = site.open("logs")
    task = site.mesh.submit(title=HOSTILE[2], command=f"echo '<img src=x onerror=window.ran=1>'; {wait}; echo after")
    said = page.get_by_role("log", name="Output of all tasks")
    expect(said.get_by_text("<img src=x onerror=window.ran=1>").first).to_be_visible()
    expect(said.get_by_role("link", name=HOSTILE[2]).first).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    gate.touch()
    site.mesh.wait(task)
    expect(page.get_by_role("button", name=re.compile(r"Go on \([1-9]"))).to_be_visible()
    expect(said.get_by_text("after", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(said.get_by_text("after", exact=True).first).to_be_visible()
    page.get_by_role("searchbox", name="Find").fill("AFTER")
    expect(said.get_by_role("listitem")).to_have_count(1)
    expect(page).to_have_url(re.compile("q=AFTER"))
    page.get_by_role("searchbox", name="Find").fill("")
    page.get_by_role("combobox", name="Agent").select_option("One")

    expect(said.get_by_text("after", exact=True).first).to_be_visible()
    assert page.evaluate("window.ran") is None
    assert site.troubles == []


def test_each_filter_of_tasks_says_how_many_it_would_show(site: Site) -> None:
    site.mesh.submit_all(
        {"title": f"facet {n}", "command": "true", "needs": ["none"], "priority": "low", "labels": {"set": "facets"}}
        for n in range(2)
    )
    page = site.open("tasks?q=facet")
    rows = page.locator("tbody tr:not(.room)")
    filters = page.get_by_role("search")
    expect(rows).to_have_count(2)
    expect(filters.get_by_label("Priority")).to_contain_text("low (2)")
    expect(filters.get_by_label("Priority")).to_contain_text("urgent (0)")
    filters.get_by_label("Label").select_option("set:facets")
    filters.get_by_label("Priority").select_option("low")
    expect(page).to_have_url(re.compile("priority=low.*label=set%3Afacets"))
    expect(rows).to_have_count(2)
    filters.get_by_label("Priority").select_option("urgent")

    expect(page.get_by_text("No task is like that.")).to_be_visible()
    site.mesh.call("POST", "/api/v1/tasks/bulk", {"verb": "cancel", "q": "facet"})


def test_a_chart_is_a_table_too(site: Site) -> None:
    page = site.open()
    page.get_by_role("button", name="Queue as a table").click()
    expect(page.get_by_role("region", name="Figures").get_by_role("columnheader", name="at work")).to_be_visible()
    page.get_by_role("button", name="last day").click()

    expect(page).to_have_url(re.compile("span=day"))


def test_who_decided_what_is_looked_through_and_verified(site: Site) -> None:
    site.mesh.call("POST", "/api/v1/tokens", {"role": "viewer", "label": HOSTILE[0]})
    page = site.open("events/audit")
    expect(page.get_by_role("table", name="Audit")).to_contain_text(HOSTILE[0])
    page.get_by_role("searchbox", name="Action").fill("nothing-is-called-this")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No entry is like that.")).to_be_visible()
    page.get_by_role("button", name="Verify the chain").click()

    expect(page.get_by_role("status").filter(has_text="nothing was changed")).to_be_visible()
    assert page.evaluate("window.ran") is None
    expect(site.open("events/audit", role="viewer").get_by_text("your role is viewer")).to_be_visible()


def test_join_tokens_are_seen_and_revoked(site: Site) -> None:
    site.mesh.call("POST", "/api/v1/join-tokens", {"label": HOSTILE[0]})
    page = site.open("settings")
    row = page.get_by_role("table", name="Join tokens").get_by_role("row").filter(has_text=HOSTILE[0])
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog", name="Are you sure?").get_by_role("button", name="Yes").click()

    expect(row).to_contain_text("revoked")
    assert page.evaluate("window.ran") is None


def test_an_alert_is_acknowledged_and_silenced_and_tells_its_rule_and_runbook(site: Site) -> None:
    page = site.open("alerts")
    site.mesh.call("PATCH", "/api/v1/alerts/rules/no_agent_for_tier", {"for_s": 0})
    alert = page.get_by_role("listitem").filter(has_text="no_agent_for_tier")
    expect(page.get_by_role("region", name="Firing").filter(has=alert)).to_be_visible()
    alert.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_role("region", name="Somebody is at it").filter(has=alert)).to_be_visible()
    alert.get_by_label("Silence for").select_option("8 hours")
    expect(page.get_by_role("region", name="Silent").filter(has=alert)).to_be_visible()
    alert.get_by_role("link", name="What to do").click()
    expect(page.locator(".runbook.here")).to_contain_text("agentcom tasks explain ID")
    page.get_by_role("link", name="Rules", exact=True).click()

    expect(page.get_by_role("row").filter(has_text="no_agent_for_tier")).to_contain_text("Tasks wait that no agent")
    alerts = site.mesh.call("GET", "/api/v1/alerts?state=silenced")["alerts"]
    assert [one["rule"] for one in alerts] == ["no_agent_for_tier"]
