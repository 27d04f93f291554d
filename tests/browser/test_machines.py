"""Machines, models and what they prove on the live page: two of them, GPUs, a server of models, Claude, and a forge."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from agentcom.cli import run
from tests.browser.pages import HOSTILE, PATIENCE_MS, Site, stranger
from tests.support.claude_server import COST_USD, KEY, claude_server
from tests.support.forge_server import ForgeServer, forge_server
from tests.support.mesh import Mesh, ollama_process, until, work_of
from tests.support.nvml import FakeDriver, gpu, machine
from tests.support.repositories import CALC, TEST_OF_CALC

expect.set_options(timeout=PATIENCE_MS)
STRANGER: Final = 2**22 + 1
"""No process of this machine: the kernel counts no further by default."""
LEFT: Final = "<img src=x onerror=window.ran=1>.txt"
MENDS: Final = f"sed -i 's/a - b/a + b/' calc.py; echo mended > '{LEFT}'"

LOADS: Final[dict[str, Any]] = {
    "id": "ollama", "kind": "ollama", "url": "http://127.0.0.1:1", "local": True,
    "models": [
        {"name": "big:8b", "residency": "loading", "size_bytes": 4_000_000_000, "context": 8_192},
        {"name": "small:1b", "residency": "cold", "size_bytes": 1_000_000_000},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForgeServer]:
    with forge_server(tmp_path_factory.mktemp("forge")) as running:
        running.git.remote.commit({"calc.py": CALC, "test_calc.py": TEST_OF_CALC}, "A mistake")
        yield running


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> FakeDriver:
    found = FakeDriver(tmp_path_factory.mktemp("nvml"))
    found.set(*machine(gpu(0, used_mib=6000), gpu(1, name=HOSTILE[0])))
    return found


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, forge: ForgeServer, driver: FakeDriver) -> Iterator[Mesh]:
    """A hub and two machines: ``one`` with GPUs, ``two`` with a key for Claude; both reach one server of models."""
    folder = tmp_path_factory.mktemp("machines")
    mesh = Mesh(folder / "mesh", lease_s=10.0, hub_env={"AGENTCOM_GIT_CA_FILE": str(forge.git.ca_file)})
    answer = {"text": f"Hello. {' '.join(HOSTILE)}", "repeat": True}
    with ollama_process(folder / "script", [answer], {"tiny:1b": 1.0}) as ollama, claude_server() as (claude, _):
        try:
            load(ollama, "tiny:1b")  # sidecars see at once what later they would see at their next look
            mesh.start_hub()
            rules = {"forge": "forgejo", "merge": "safe", "protected": ["calc.py"]}
            check = {"type": "test_passes", "command": "python3 -m unittest"}
            mesh.call(
                "POST",
                "/api/v1/projects",
                {
                    "name": "calc",
                    "repository": forge.address,
                    "pulls": rules,
                    "defaults": {"verification": [check]},
                },
            )
            mesh.start_sidecar("One", "--host", "one", env={**driver.env, "OLLAMA_HOST": ollama})
            cloud = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": claude}
            mesh.start_sidecar("Two", "--host", "two", env={**cloud, "OLLAMA_HOST": ollama})
            mesh.wait_agents("One", "Two")
            yield mesh
        finally:
            mesh.stop()


def load(ollama: str, model: str) -> None:
    """Have a server of models take one into memory, as anybody may who uses it."""
    body = json.dumps({"model": model, "keep_alive": "30m"}).encode()
    with urllib.request.urlopen(f"{ollama}/api/generate", body, PATIENCE_MS / 1000) as answer:  # noqa: S310 - loopback
        assert answer.status == 200


def sure(page: Page) -> None:
    page.get_by_role("dialog", name="Are you sure?").get_by_role("button", name="Yes").click()


def test_a_card_shows_whose_memory_a_gpu_holds_and_how_hot_it_is(site: Site, driver: FakeDriver) -> None:
    task = site.mesh.submit(title="burns", command="exec sleep 600", needs=["machine:One"])
    working: list[int] = []
    until(lambda: working.extend(each.pid for each in work_of(task) if each.name() == "sleep") or working, "it works")
    held = f"{working[0]}:300 {STRANGER}:5000"
    driver.set(*machine(gpu(0, used_mib=6000, computing=held), gpu(1, name=HOSTILE[0], load=0)))
    page = site.open("fleet")
    card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=re.compile("^one ")))
    first = card.locator(".gpu").first
    bar = first.get_by_role("img", name="5.9 GiB of 24.0 GiB: ours 300 MiB, others 4.9 GiB, free 17.6 GiB")
    expect(bar).to_be_visible()
    expect(first).to_contain_text(re.compile(r"37 %\s+55 .C\s+1\d\d/350 W"))
    shares = {
        kind: float(bar.locator(f"i.{kind}").evaluate("one => one.getBoundingClientRect().width"))
        for kind in ("ours", "others", "held", "driver")
    }
    whole = float(bar.evaluate("one => one.getBoundingClientRect().width"))
    assert {kind: round(100 * width / whole) for kind, width in shares.items()} == {
        "ours": 1, "others": 20, "held": 3, "driver": 2,
    }  # fmt: skip
    expect(card.locator(".gpu").nth(1)).to_contain_text(HOSTILE[0])
    expect(card.get_by_role("link", name="burns", exact=True)).to_be_visible()  # what its agent does
    site.picture(page, "fleet-gpus")
    card.get_by_role("link", name="one").click()
    programs = page.get_by_role("table", name="Programs on the GPUs").get_by_role("row")
    expect(programs.filter(has_text=str(working[0]))).to_contain_text("ours: an attempt")
    expect(programs.filter(has_text=str(STRANGER))).to_contain_text("somebody else's")
    site.picture(page, "fleet-one")
    site.mesh.call("POST", f"/api/v1/tasks/{task}/cancel")
    site.mesh.wait(task)

    assert page.evaluate("window.ran") is None
    assert site.troubles == []


def test_models_are_shown_by_machine_with_what_work_has_seen_of_them(site: Site) -> None:
    site.mesh.wait(site.mesh.submit(prompt="Say hello", executor="chat", model="tiny:1b", needs=["machine:Two"]))
    page = site.open("models")
    table = page.get_by_role("table", name="Models by machine")
    row = table.get_by_role("row").filter(has_text="tiny:1b")
    for host in ("one", "two"):  # both have an endpoint of this name
        expect(table.get_by_role("columnheader").filter(has_text=host).filter(has_text="ollama")).to_have_count(1)
    expect(row.locator('[data-label="one, ollama"]')).to_contain_text("warm")
    expect(row.locator('[data-label="two, ollama"]')).to_contain_text(re.compile("warm.*tokens/s.*used"))
    expect(row.get_by_role("cell").filter(has_text="absent")).not_to_have_count(0)  # where Claude is
    with stranger(site.mesh, "Third", host="three", endpoints=[LOADS]):
        loading = page.get_by_role("cell").filter(has_text="loading")
        expect(loading).to_contain_text("3.7 GiB on disk")
        expect(loading).to_contain_text("8,192 context")
        expect(loading).to_contain_text("not used yet")
        cold = table.get_by_role("row").filter(has_text="small:1b").locator('[data-label="three, ollama"]')
        expect(cold).to_contain_text(re.compile("cold.*954 MiB on disk"))
        site.picture(page, "models-matrix")
    page.get_by_role("searchbox").fill("two")
    expect(page.get_by_role("table", name="Endpoints").get_by_role("row")).to_have_count(3)
    expect(page.get_by_role("table", name="Endpoints").get_by_role("row").filter(has_text="ollama")).to_contain_text(
        re.compile("just now|ago")
    )
    clock = page.get_by_role("button", name=re.compile("^time"))
    for words in ("ago", "local", "utc"):
        expect(clock).to_have_text(f"time {words}")
        if words != "utc":
            clock.click()
    used = page.get_by_role("table", name="Endpoints").locator('[data-label="last used"] time').first
    expect(used).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$"))
    assert str(used.text_content()).replace(" ", "T")[:-1] == str(used.get_attribute("datetime"))[:19]

    assert site.troubles == []


def test_work_of_a_model_tells_its_way_its_phases_and_its_price(site: Site) -> None:
    local = site.mesh.submit(prompt="Say hello", executor="chat", model="tiny:1b")
    paid = site.mesh.submit(prompt="Say hello", executor="chat", model="claude-sonnet-5")
    site.mesh.wait(local, paid)
    page = site.open(f"tasks/{local}")
    phases = page.get_by_role("region", name="Attempts").get_by_role("listitem")
    timing = site.mesh.task(local)["iterations"][0]["usage"]["timing"]
    assert timing["decode_s"] > 0
    for part, words in (("load_s", "load the model"), ("prefill_s", "read the prompt"), ("decode_s", "generate")):
        if timing[part] >= 0.002:  # what took no time is left out
            expect(phases.filter(has_text=re.compile(rf"^{words} [0-9]"))).to_have_count(1)
    ways = page.get_by_role("table", name="Ways that were looked at").get_by_role("row")
    expect(ways.filter(has_text="tiny:1b").first).to_contain_text("fits")
    expect(page.get_by_role("region", name="Output")).to_contain_text(HOSTILE[0])
    expect(page.get_by_role("log", name="Output")).to_contain_text(HOSTILE[1])
    assert page.evaluate("window.ran") is None
    site.picture(page, "task-model")
    site.go(page, f"tasks/{paid}")
    expect(page.locator(".facts").first).to_contain_text(
        f"claude-sonnet-5 at claude: 1,500 tokens in (500 from a cache), 100 out, ${COST_USD:.4f}"
    )
    site.go(page, "costs")
    row = page.get_by_role("table", name="Use by model").get_by_role("row").filter(has_text="claude-sonnet-5")
    expect(row).to_contain_text("$")
    site.picture(page, "costs-use")
    page.get_by_role("button", name="by label").click()
    use = page.get_by_role("region", name="What models were used for")
    expect(use.locator(".empty code")).to_have_text('agentcom submit "Say hello" --wait')

    assert site.troubles == []


def test_a_machine_that_joins_turns_its_command_green(site: Site) -> None:
    page = site.open("fleet")
    page.get_by_role("button", name="Add a machine").click()
    page.get_by_role("button", name="Make the command").click()
    expect(page.get_by_text("waiting for it to appear")).to_be_visible()
    with stranger(site.mesh, "Newcomer", host="new"):
        expect(page.get_by_role("dialog").locator(".state.done")).to_contain_text("Newcomer has joined")


@pytest.mark.timeout(300)
def test_what_another_machine_has_proven_is_shown_and_its_request_is_let_go_on(site: Site, forge: ForgeServer) -> None:
    task = site.mesh.submit(project="calc", title="Mend add", command=MENDS, artifacts=["*.txt"])
    site.mesh.wait(task, timeout_s=150)
    page = site.open(f"tasks/{task}")
    proof = page.get_by_role("region", name="Proof by another machine")
    expect(proof).to_contain_text(
        re.compile(r"proven\s+(One on one|Two on two), attempt \d\s+of the work of (One|Two)")
    )
    expect(proof.get_by_role("listitem")).to_contain_text(["passed"])
    expect(page.get_by_role("list", name="The way of the task")).to_contain_text("proof")
    pull = page.get_by_role("region", name="Pull request")
    expect(pull).to_contain_text("draft")
    expect(pull).to_contain_text("calc.py")
    expect(page.get_by_role("region", name="What it changed").get_by_text("+    return a + b")).to_be_visible()
    with page.expect_download() as fetched:
        page.get_by_role("link", name=LEFT).click()
    assert Path(fetched.value.path()).read_text() == "mended\n"
    assert page.evaluate("window.ran") is None
    site.picture(page, "task-proof")
    site.go(page, "reviews")
    waiting = page.get_by_role("region", name="Pull requests that wait")
    expect(waiting).to_contain_text("calc #1")
    site.picture(page, "reviews-pull")
    waiting.get_by_role("button", name="Let it go on").click()
    until(lambda: site.mesh.task(task)["pull"]["state"] == "merged", "it is merged")
    site.go(page, f"tasks/{task}")

    expect(pull).to_contain_text("merged")
    assert forge.git.remote.show("main", "calc.py") == CALC.replace("a - b", "a + b").strip()
    assert site.troubles == []


def test_the_overview_and_the_terminal_tell_what_needs_somebody_and_what_it_costs(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    call = site.mesh.call
    call("PUT", "/api/v1/budgets/hub", {"usd": 20.0})
    call("PATCH", "/api/v1/alerts/rules/no_agent_for_tier", {"for_s": 0})
    paid = site.mesh.submit(prompt="Say hello", executor="chat", model="claude-sonnet-5")
    dead = site.mesh.submit(title="bad work", command="exit 3", max_retries=0)
    held = site.mesh.submit(title="is held up", command="true", needs=["nobody"])
    site.mesh.submit(title="nobody can", command="true", needs=["nobody"])
    call("POST", f"/api/v1/tasks/{held}/pause", {"reason": "not today"})
    site.mesh.wait(paid, dead)
    page = site.open()
    needs = page.get_by_role("region", name="Needs you")
    with stranger(site.mesh, "Gone", host="gone", problem="it is on fire"):
        expect(needs.get_by_role("listitem").filter(has_text="broken on gone")).to_contain_text("it is on fire")
    expect(needs.get_by_role("listitem").filter(has_text="is held up")).to_contain_text("not today")
    expect(needs.get_by_role("listitem").filter(has_text="bad work")).to_contain_text("dead")
    expect(needs.get_by_role("listitem").filter(has_text="Tasks wait that no agent")).to_contain_text("warning")
    used = call("GET", "/api/v1/budgets/hub")["spent"]["usd"]
    assert used >= COST_USD * 0.99
    spent = f"${used:.4f} of $20.00 today"
    expect(page.get_by_role("region", name="Budgets today")).to_contain_text(spent)
    expect(page.locator(".health")).to_contain_text(re.compile(r"degraded.*because of.*agents: 2 of \d online"))
    expect(page).to_have_title(re.compile(r"^! \(\d+\) Overview"))
    site.picture(page, "overview-needs")
    where = ["--hub", site.mesh.url, "--token-file", str(site.mesh.data_dir / "admin.token")]
    assert run(["top", "--once", *where]) == 0
    told = capsys.readouterr().out

    for words in (f"budget hub: {spent}", "NEEDS YOU", "Tasks wait that no agent", "is held up", "bad work"):
        assert words in told, told
    assert "! agents: 2 of " in told
    assert site.troubles == []


def test_what_is_held_up_is_let_go_on_where_it_waits_for_a_person(site: Site) -> None:
    task = site.mesh.submit(title="held for a moment", command="true", needs=["nobody"])
    site.mesh.call("POST", f"/api/v1/tasks/{task}/pause", {})
    page = site.open(f"reviews/{task}")
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    page.locator(".review").get_by_role("button", name="Resume").click()

    until(lambda: site.mesh.task(task)["state"] == "queued", "it is queued again")


def test_an_agent_that_is_gone_for_good_is_removed(site: Site) -> None:
    with stranger(site.mesh, "Leaver", host="leaving"):
        site.mesh.wait_agents("Leaver")
    page = site.open("fleet/leaving")
    agent = page.locator("li.agent").filter(has_text="Leaver")
    agent.get_by_role("button", name="Remove").click()
    sure(page)

    expect(agent).to_have_count(0)
    assert "Leaver" not in [one["name"] for one in site.mesh.call("GET", "/api/v1/agents")["agents"]]
    assert site.mesh.events("agent_removed")
