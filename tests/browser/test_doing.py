"""What people do on the live page: by mouse, by keys alone, and while the hub is away."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import PATIENCE_MS, PHONE, SCREENS, Site, ask_to_join
from tests.support.mesh import ollama_process
from tests.support.repositories import TEST_OF_CALC, make_remote

expect.set_options(timeout=PATIENCE_MS)


def sure(page: Page) -> None:
    page.get_by_role("dialog", name="Are you sure?").get_by_role("button", name="Yes").click()


def test_a_waiting_task_is_explained_and_cancelled(site: Site) -> None:
    task = site.mesh.submit(title="to be cancelled", command="true", needs=["nothing-has-this"])
    page = site.open(f"tasks/{task}")
    expect(page.get_by_text("nothing-has-this").first).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    sure(page)

    expect(page.locator(".strip")).to_contain_text("cancelled")
    assert site.mesh.task(task)["state"] == "cancelled"


def test_a_dead_task_is_put_back(site: Site) -> None:
    task = site.mesh.submit(title="dies twice", command="exit 4", max_retries=0)
    site.mesh.wait(task)
    page = site.open(f"tasks/{task}")
    page.get_by_role("button", name="Retry").click()

    expect(page.locator(".strip")).to_contain_text("attempt 2")
    site.mesh.wait(task)


def test_many_tasks_are_found_chosen_and_cancelled(site: Site) -> None:
    tasks = site.mesh.submit_all(
        {"title": f"many {number}", "command": "true", "needs": ["none"]} for number in range(3)
    )
    page = site.open("tasks?state=queued&q=many")
    expect(page.locator("tbody tr:not(.room)")).to_have_count(3)
    for number in range(3):
        page.get_by_role("checkbox", name=f"Choose many {number}").check()
    page.get_by_role("button", name="Cancel them").click()
    sure(page)

    expect(page.get_by_text("3 tasks done")).to_be_visible()
    assert {site.mesh.task(task)["state"] for task in tasks} == {"cancelled"}


def test_all_that_match_are_counted_and_then_cancelled_or_retried(site: Site) -> None:
    tasks = site.mesh.submit_all(
        {"title": f"bulk {number}", "command": "true", "needs": ["none"]} for number in range(3)
    )
    page = site.open("tasks?q=bulk")
    page.get_by_text("All that match").click()
    page.get_by_label("New priority").select_option("urgent")
    expect(page.get_by_role("dialog")).to_contain_text("3 tasks will be made urgent")
    sure(page)
    expect(page.get_by_text("3 tasks made urgent")).to_be_visible()
    page.get_by_role("button", name="Cancel", exact=True).click()
    sure(page)

    expect(page.get_by_text("3 tasks cancelled")).to_be_visible()
    views = [site.mesh.task(task) for task in tasks]
    assert {(view["state"], view["priority"]) for view in views} == {("cancelled", "urgent")}
    fails = {"command": "exit 5", "max_retries": 0}
    dead = site.mesh.submit_all({**fails, "title": f"lot {number}"} for number in range(2))
    site.mesh.wait(*dead)
    site.go(page, "tasks?q=lot&state=dead")
    expect(page.locator("tbody tr:not(.room)")).to_have_count(2)
    page.get_by_role("button", name="Retry the dead").click()
    expect(page.get_by_role("dialog")).to_contain_text("2 tasks will be retried")
    sure(page)
    expect(page.get_by_text("2 tasks retried")).to_be_visible()
    site.mesh.wait(*dead)
    assert {site.mesh.task(task)["epoch"] for task in dead} == {2}


def test_a_task_is_made_by_hand_and_another_one_like_it(site: Site) -> None:
    page = site.open("tasks")
    page.get_by_role("button", name="New task").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Title").fill("by hand")
    form.get_by_label("Command", exact=True).fill("echo by hand")
    form.get_by_label("More of the task").fill('{"labels": {"who": "me"}, "nonsense": 1}')
    form.get_by_role("button", name="Submit").click()
    expect(form.get_by_role("alert")).to_contain_text("nonsense")
    form.get_by_label("More of the task").fill('{"labels": {"who": "me"}}')
    form.get_by_role("button", name="Submit").click()
    expect(page.locator(".strip")).to_contain_text("completed")
    page.get_by_role("button", name="Submit one like it").click()
    page.get_by_role("dialog").get_by_role("button", name="Submit", exact=True).click()

    expect(page.get_by_role("dialog")).to_have_count(0)
    site.mesh.wait(*(t["id"] for t in site.mesh.call("GET", "/api/v1/tasks?label=who:me")["tasks"]))
    assert len(site.mesh.call("GET", "/api/v1/tasks?label=who:me")["tasks"]) == 2


def test_filters_are_in_the_address(site: Site) -> None:
    page = site.open("tasks")
    page.get_by_role("button", name=re.compile("dead")).click()
    page.get_by_label("Title or id").fill("bad")
    expect(page.locator("tbody tr:not(.room)")).to_have_count(1)
    expect(page).to_have_url(re.compile("q=bad"))
    copied = page.evaluate("location.hash").removeprefix("#/")
    other = site.open(copied)

    expect(other.locator("tbody tr:not(.room)")).to_have_count(1)
    expect(other.get_by_role("link", name="bad work")).to_be_visible()


@pytest.mark.timeout(300)
def test_work_that_changed_its_own_proof_is_looked_at_and_decided(site: Site, tmp_path: Path) -> None:
    files = {"calc.py": "def add(a, b):\n    return a + b\n", "test_calc.py": TEST_OF_CALC}
    task = site.mesh.submit(
        title="weakens its test",
        command="sed -i 's/self.assertEqual(add(2, 3), 5)/pass/' test_calc.py",
        context={"repo": str(make_remote(tmp_path, files).path)},
        verification=[{"type": "test_passes", "command": "python3 -m unittest -q"}],
    )
    site.mesh.wait_state(task, "waiting", timeout_s=150)
    page = site.open("reviews", size=PHONE)
    page.get_by_role("link", name="weakens its test").first.click()
    expect(page.locator(".review")).to_contain_text("test_calc.py")
    expect(page.get_by_role("button", name="Send back")).to_be_disabled()  # without a word on what is wrong
    page.screenshot(path=SCREENS / "review-waits-light-360.png", full_page=True)
    page.get_by_label("Why, for whoever").fill("the test says nothing now")
    page.get_by_role("button", name="Reject").click()

    expect(page.locator(".review")).to_contain_text("rejected by")
    assert site.mesh.task(task)["state"] == "failed"
    assert site.mesh.task(task)["reviews"][0]["reason"] == "the test says nothing now"


def test_an_agent_is_drained_and_taken_back(site: Site) -> None:
    host = site.mesh.call("GET", "/api/v1/hosts")["hosts"][0]["name"]
    page = site.open(f"fleet/{host}")
    page.get_by_role("button", name="Drain").click()
    expect(page.get_by_role("button", name="Resume")).to_be_enabled()
    assert site.mesh.call("GET", "/api/v1/agents/One")["draining"]
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Drain")).to_be_enabled()

    assert not site.mesh.call("GET", "/api/v1/agents/One")["draining"]


def test_a_machine_is_given_its_command_and_another_one_is_let_in(site: Site) -> None:
    page = site.open("fleet")
    page.get_by_role("button", name="Add a machine").click()
    page.get_by_role("button", name="Make the command").click()
    expect(page.get_by_role("dialog").get_by_text("agentcom join http")).to_contain_text("--token acj1.open.")
    expect(page.get_by_text("waiting for it to appear")).to_be_visible()
    page.screenshot(path=SCREENS / "fleet-add.png")

    code, again = ask_to_join(site.mesh, "new-box")
    asking = page.get_by_role("dialog").get_by_role("listitem").filter(has_text=code)
    asking.get_by_role("button", name="Let it in").click()
    expect(page.get_by_text(code)).to_have_count(0)

    assert site.mesh.call("POST", "/api/v1/join", again)["token"]


def test_an_endpoint_that_answers_is_added_and_removed(site: Site, tmp_path: Path) -> None:
    page = site.open("models")
    page.get_by_role("button", name="Add an endpoint").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Address", exact=True).fill("http://127.0.0.1:9")
    form.get_by_label("Name (made").fill("by-hand")
    form.get_by_role("button", name="Add", exact=True).click()
    expect(form.get_by_role("alert")).to_contain_text("Cannot connect")
    with ollama_process(tmp_path / "script.json", [], {"tiny:1b": 1.0}) as url:
        form.get_by_label("Address", exact=True).fill(url)
        form.get_by_role("button", name="Add", exact=True).click()
        expect(page.get_by_role("rowheader", name="tiny:1b")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="by-hand").last
    expect(row).to_contain_text(url)
    row.get_by_role("button", name="Remove").click()
    sure(page)

    expect(page.get_by_role("row").filter(has_text="by-hand")).to_have_count(0)


def test_a_token_is_made_shown_once_and_revoked(site: Site) -> None:
    page = site.open("settings")
    page.get_by_label("Label", exact=True).fill("for the test")
    page.get_by_role("button", name="Make a token").click()
    expect(page.locator("code", has_text="acm_")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="for the test")
    row.get_by_role("button", name="Revoke").click()
    sure(page)

    expect(row).to_contain_text("revoked")


def test_a_backup_is_made(site: Site) -> None:
    page = site.open("settings")
    page.get_by_role("button", name="Make a backup now").click()

    expect(page.get_by_role("region", name="Backups").get_by_role("listitem")).to_have_count(1)
    assert len(site.mesh.call("GET", "/api/v1/backups")["backups"]) == 1


def test_a_token_logs_in_and_a_wrong_one_is_told(site: Site) -> None:
    page = site.blank()
    for token, told in (("acm_wrong", "Log in"), (site.mesh.token(), "Overview")):
        page.goto(site.mesh.url)
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text(told, exact=True).first).to_be_visible()
    expect(page.locator(".fresh.live")).to_be_visible()
    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_label("Token")).to_be_visible()


def test_bad_input_is_told_where_it_was_made(site: Site) -> None:
    page = site.open("costs")
    page.get_by_role("button", name="Set a budget").click()
    page.get_by_role("dialog").get_by_label("What it bounds").fill("nonsense")
    page.get_by_role("dialog").get_by_role("button", name="Set", exact=True).click()

    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("nonsense")


def test_the_keyboard_alone_leads_everywhere(site: Site) -> None:
    page = site.open()
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
    page.wait_for_selector("tbody tr:not(.room)")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Where the time went")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("fleet")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Fleet")
    page.keyboard.press("/")
    page.keyboard.type("nowhere")
    expect(page.get_by_text("No machine is like that.")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")

    expect(page.get_by_role("dialog")).to_have_count(0)


def test_colours_and_times_are_as_the_reader_wants_and_stay_so(site: Site) -> None:
    page = site.open()
    page.get_by_role("button", name="theme auto").click()
    page.get_by_role("button", name="time ago").click()
    page.reload()
    page.wait_for_selector(".fresh.live")

    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    expect(page.get_by_role("button", name="time local")).to_be_visible()


def test_nothing_moves_for_whoever_wants_that(site: Site) -> None:
    page = site.open("fleet")
    part = page.locator(".bar i").first
    for wish, takes in (("no-preference", "0.12s"), ("reduce", "0s")):
        page.emulate_media(reduced_motion=wish)
        expect(part).to_have_css("transition-duration", takes)


def test_a_hub_that_goes_is_told_and_one_that_comes_back_goes_on_with_no_reload_and_no_gap(site: Site) -> None:
    page = site.open()
    page.evaluate("window.same = true")
    before = page.locator("main tbody tr").count()
    site.mesh.kill(site.mesh.hub)
    expect(page.locator(".banner")).to_contain_text("Reconnecting")
    expect(page.locator(".chips .state.unknown").first).to_be_visible()
    kept = page.locator("main tbody tr").count()
    site.mesh.start_hub()
    expect(page.locator(".fresh.live")).to_be_visible()
    site.mesh.submit(title="after the restart", executor="noop")

    expect(page.get_by_role("link", name="after the restart").first).to_be_visible()
    assert kept == before > 0
    assert page.evaluate("window.same") is True
    site.mesh.wait_agents("One")


def test_work_is_followed_live_on_a_phone(site: Site) -> None:
    gate = site.mesh.folder.parent / "gate"
    task = site.mesh.submit(
        title="slow work", command=f"echo first; until [ -e {gate} ]; do sleep 0.1; done; echo last"
    )
    page = site.open(f"tasks/{task}", size=PHONE)
    expect(page.locator(".log")).to_contain_text("first")
    expect(page.locator(".strip")).to_contain_text("running")
    gate.touch()

    expect(page.locator(".log")).to_contain_text("last")
    expect(page.locator(".strip")).to_contain_text("completed")
