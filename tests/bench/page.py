"""``./run bench dashboard``: what the page costs in a real browser, beside its goals, with a real hub.

Machines, tasks, a log and events come as light sidecars and submissions, so that the figures are those of hub and page.
The page's scripts are measured by Chromium itself; a machine that others use makes times longer, never shorter, so each
figure is the median of what was seen, and the times of scripts are processor time. ``--minutes 10`` looks at memory for
as long as the goal says; the usual half minute is enough to see it grow.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import socket
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from playwright.async_api import Browser, CDPSession, Page, async_playwright

from agentcom.bench.light import LightFleet
from agentcom.bench.processes import Mesh
from agentcom.bench.submitter import SPEC, Submitter
from agentcom.transport import Transport
from protocol.api import PREFIX
from tests.bench.goals import Row, most
from tests.bench.page_fleet import Machine, Writer
from tests.browser.conftest import FLAGS

MIB: Final = 1 << 20
SLOW_READERS: Final = 50
TURNS: Final = 7
WORDS: Final = ("repair", "build", "check", "measure", "describe", "translate", "sort", "merge")
PRIORITIES: Final = ("urgent", "high", "normal", "low")


class Look:
    """A page that is open, and what Chromium says of it."""

    def __init__(self, page: Page, wire: CDPSession) -> None:
        self.page, self._wire = page, wire
        self.updates, self.update_bytes = 0, 0
        self.requests: list[str] = []
        self.sent = Counter[str]()
        wire.on("Network.eventSourceMessageReceived", self._updated)
        wire.on("Network.loadingFinished", lambda told: self.sent.update(bytes=int(told["encodedDataLength"])))
        wire.on("Network.requestWillBeSent", lambda told: self.requests.append(told["request"]["url"]))

    def _updated(self, told: dict[str, Any]) -> None:
        if told["eventName"] in {"", "message"}:
            self.updates += 1
            self.update_bytes += len(told["data"].encode())

    async def script_ms(self) -> float:
        """Processor time of scripts since the page began."""
        told = await self._wire.send("Performance.getMetrics")
        return float(next(one["value"] for one in told["metrics"] if one["name"] == "ScriptDuration") * 1000)

    async def heap_bytes(self) -> int:
        """What scripts hold, after a collection."""
        await self._wire.send("HeapProfiler.collectGarbage")
        return int((await self._wire.send("Runtime.getHeapUsage"))["usedSize"])


@contextlib.asynccontextmanager
async def opened(browser: Browser, mesh: Mesh, view: str) -> AsyncIterator[Look]:
    """A page in a browser of its own, live."""
    transport = Transport(mesh.url, mesh.token(), patience_s=30.0)
    ticket = await transport.call("POST", f"{PREFIX}/session-tickets", dict)
    await transport.close()
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    page.set_default_timeout(120_000)
    wire = await context.new_cdp_session(page)
    for domain in ("Network", "Performance", "HeapProfiler", "Runtime"):
        await wire.send(f"{domain}.enable", {"timeDomain": "threadTicks"} if domain == "Performance" else {})
    look = Look(page, wire)
    try:
        await page.goto(mesh.url + ticket["path"])
        await page.wait_for_selector(".fresh.live")
        if view:
            await page.evaluate("to => { location.hash = to; }", f"/{view}")
            await page.wait_for_selector("main h1")
        yield look
    finally:
        await context.close()


async def fleet(browser: Browser, folder: Path, hosts: int, seconds: float) -> list[Row]:
    """Machines that report all the time, while somebody types."""
    async with Mesh(folder) as mesh, LightFleet(mesh.url, mesh.token("agent"), heartbeat_s=2.5, kind=Machine) as crowd:
        await crowd.join(hosts)
        async with opened(browser, mesh, "fleet") as look, _told_of(mesh, 0.2):
            page = look.page
            await page.wait_for_function(f"document.querySelectorAll('.cards > li').length == {hosts}")
            await page.evaluate(
                "window.moved = 0; new PerformanceObserver(list => { for (const one of list.getEntries()) "
                "if (!one.hadRecentInput) moved += one.value; }).observe({type: 'layout-shift'})"
            )
            search = page.get_by_role("searchbox").first
            await search.focus()
            await page.keyboard.type("light")
            await asyncio.sleep(3)
            await page.evaluate("window.moved = 0")
            updates, size, script_ms = look.updates, look.update_bytes, await look.script_ms()
            await asyncio.sleep(seconds)
            updates, size = look.updates - updates, look.update_bytes - size
            script_ms = await look.script_ms() - script_ms
            focused = await search.evaluate("one => one == document.activeElement")
            kept = focused and await search.input_value() == "light"
            moved = float(await page.evaluate("window.moved"))
    return [
        most(f"{hosts} machines x 4 GPUs: KiB an update", 10, size / updates / 1024, "{:.1f}"),
        most("  script an update, ms", 10, script_ms / updates, "{:.1f}"),
        Row("  updates a second", "", f"{updates / seconds:.1f}", None),
        most("  layout that moved by itself (0.1 is noticed)", 0.01, moved, "{:.3f}"),
        Row("  typed text and focus kept", "yes", "yes" if kept else "no", bool(kept)),
    ]


@contextlib.asynccontextmanager
async def _told_of(mesh: Mesh, every_s: float) -> AsyncIterator[None]:
    """Something happens so often, and pages are told: readings alone come once a second."""
    transport = Transport(mesh.url, mesh.token(), patience_s=30.0)
    task = await transport.call("POST", f"{PREFIX}/tasks", dict, body={**SPEC, "needs": ["nobody"]})

    async def change() -> None:
        while True:
            for priority in PRIORITIES:
                await asyncio.sleep(every_s)
                await transport.call("PATCH", f"{PREFIX}/tasks/{task['id']}", dict, body={"priority": priority})

    changing = asyncio.create_task(change())
    try:
        yield
    finally:
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        await transport.close()


async def tasks(browser: Browser, folder: Path, count: int) -> list[Row]:
    """A long list: what the hub answers, and what a reader waits for."""
    async with Mesh(folder) as mesh:
        submitter, transport = Submitter(mesh.url, mesh.token()), Transport(mesh.url, mesh.token(), patience_s=60.0)
        specs = [
            {**SPEC, "title": f"{WORDS[n % 8]} the thing {n % 97}", "priority": PRIORITIES[n % 4], "needs": ["nobody"]}
            | {"labels": {"team": f"t{n % 10}"}}
            for n in range(776)
        ]
        await submitter.fill(count - 1, 500, 2, specs)
        await submitter.fill(1, 1, 1, [{**SPEC, "title": "the only needle", "needs": ["nobody"]}])
        rows = []
        for words, query in (
            ("list", "tasks?limit=100"),
            ("filter by state", "tasks?limit=100&state=queued"),
            ("filter by priority and label", "tasks?limit=100&priority=urgent&label=team:t4"),
            ("search, common", "tasks?limit=100&q=repair"),
            ("search, rare", "tasks?limit=100&q=NEEDLE"),
            ("search, nothing", "tasks?limit=100&q=nowhere"),
            ("counts of all filters", "tasks/facets"),
            ("counts of all filters under a search", "tasks/facets?q=repair"),
        ):
            took = await _median_ms(lambda query=query: transport.call("GET", f"{PREFIX}/{query}", dict))
            rows.append(most(f"{count:,} tasks: {words}, ms", 200, took, "{:.0f}"))
        async with opened(browser, mesh, "tasks") as look:
            rows += await _on_screen(look.page)
        await transport.close()
        await submitter.close()
    return rows


async def _median_ms(call: Callable[[], Awaitable[object]]) -> float:
    took = []
    for _ in range(TURNS):
        began = perf_counter()
        await call()
        took.append((perf_counter() - began) * 1000)
    return statistics.median(took)


async def _on_screen(page: Page) -> list[Row]:
    await page.wait_for_selector("tbody tr:not(.room)")
    took = []
    for _ in range(3):
        took.append(await page.evaluate(_FILTERED, "q=needle"))
        await page.evaluate(_FILTERED, "")
    frames = await page.evaluate(_SCROLLED)
    rows = most("  a search on the screen, ms", 200, statistics.median(took), "{:.0f}")
    p95 = statistics.quantiles(frames, n=20)[-1]
    return [rows, most("  scrolling, p95 of frames, ms", 34, p95, "{:.0f}")]


_FILTERED: Final = """async query => {
    const began = performance.now();
    const many = query === "";
    location.hash = `/tasks${many ? "" : `?${query}`}`;
    const rows = () => document.querySelectorAll("tbody tr:not(.room)").length;
    while (many ? rows() < 10 : rows() !== 1) await new Promise(requestAnimationFrame);
    return performance.now() - began;
}"""
_SCROLLED: Final = """async () => {
    const took = [];
    let last = performance.now();
    for (let turn = 0; turn < 150; turn += 1) {
        scrollBy(0, 400);
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        took.push(now - last);
        last = now;
    }
    return took;
}"""


async def long_log(browser: Browser, folder: Path, lines: int) -> list[Row]:
    """A log of many lines, opened at its end while it grows."""
    async with Mesh(folder) as mesh, LightFleet(mesh.url, mesh.token("agent"), heartbeat_s=2.0, kind=Writer) as writers:
        await writers.join(1)
        await writers.work(on=True)
        transport = Transport(mesh.url, mesh.token(), patience_s=60.0)
        task = (await transport.call("POST", f"{PREFIX}/tasks", dict, body={**SPEC, "title": "writes a lot"}))["id"]
        writer = writers.sidecars[0]
        assert isinstance(writer, Writer), "the fleet is made of them"
        await asyncio.wait_for(writer.has_work.wait(), 60)
        await writer.write("".join(f"{number}\n" for number in range(1, lines + 1)))
        await _until_stored(transport, task, f"\n{lines}\n")
        async with opened(browser, mesh, "overview") as look:
            opening = await look.page.evaluate(_OPENED, [f"/tasks/{task}", str(lines)])
            asyncio.get_running_loop().call_later(0.2, lambda: asyncio.ensure_future(writer.write("and on it goes\n")))
            following = await look.page.evaluate(_OPENED, ["", "and on it goes"])
        await transport.close()
    return [
        most(f"a log of {lines:,} lines opens at its end, ms", 1000, opening, "{:.0f}"),
        most("  and follows, ms (of which 200 until it is written)", 1000, following, "{:.0f}"),
    ]


async def _until_stored(transport: Transport, task: str, end: str) -> None:
    """The hub is another process: it is asked, not heard."""
    async with asyncio.timeout(120):
        while True:
            told = (await transport.call("GET", f"{PREFIX}/tasks/{task}/logs?tail=1", dict))["logs"]
            if told and told[0]["text"].endswith(end):
                return
            await asyncio.sleep(0.1)


_OPENED: Final = """async ([hash, wanted]) => {
    const began = performance.now();
    if (hash) location.hash = hash;
    const lines = (one) => one.textContent.split("\\n");
    const shown = () => [...document.querySelectorAll(".log pre")].some((one) => lines(one).includes(wanted));
    while (!shown()) await new Promise(requestAnimationFrame);
    return performance.now() - began;
}"""


async def first_paint(browser: Browser, folder: Path, minutes: float) -> list[Row]:
    """The first view, and then silence."""
    painted, asked, sent = [], [], []
    async with Mesh(folder) as mesh:
        submitter = Submitter(mesh.url, mesh.token())
        await submitter.fill(200, 100, 1, [SPEC])
        for _ in range(5):
            async with opened(browser, mesh, "") as look:
                painted.append(await look.page.evaluate(_PAINTED))
                asked.append(len(look.requests) - 1)  # but the link that logs in
                sent.append(look.sent["bytes"])
        async with opened(browser, mesh, "") as look:
            await asyncio.sleep(2)
            before, heap = len(look.requests), [await look.heap_bytes()]
            for _ in range(4):
                await asyncio.sleep(minutes * 15)
                heap.append(await look.heap_bytes())
            idle = len(look.requests) - before
        await submitter.close()
    return [
        most("first contentful paint, ms", 300, statistics.median(painted), "{:.0f}"),
        most("  requests of the first view", 15, max(asked), "{:.0f}"),
        most("  its KB as sent", 150, max(sent) / 1000, "{:.0f}"),
        most(f"  requests in {minutes:g} idle minutes", 0, idle, "{:.0f}"),
        most("  heap then, MB", 10, heap[-1] / 1e6, "{:.1f}"),
        Row("  it grew by, KB", "", f"{(heap[-1] - heap[1]) / 1e3:.0f}", None),
    ]


_PAINTED: Final = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


async def events(browser: Browser, folder: Path, a_second: int, seconds: float) -> list[Row]:
    """Events on the screen while 50 readers take nothing."""
    async with Mesh(folder) as mesh, LightFleet(mesh.url, mesh.token("agent"), heartbeat_s=2.0, slots=8) as workers:
        await workers.join(20)
        await workers.work(on=True)
        submitter = Submitter(mesh.url, mesh.token())
        async with opened(browser, mesh, "events") as look:
            await look.page.evaluate(_HEARD)
            alone = await _latencies(look.page, submitter, a_second, seconds)
            before = mesh.memory()["hub"]["pss_bytes"]
            with contextlib.ExitStack() as stack:
                for _ in range(SLOW_READERS):
                    stack.enter_context(_never_reads(mesh))
                beside = await _latencies(look.page, submitter, a_second, seconds)
                cost = mesh.memory()["hub"]["pss_bytes"] - before
        await submitter.close()
    p95 = [statistics.quantiles(found, n=20)[-1] if len(found) > 1 else float("nan") for found in (alone, beside)]
    return [
        most(f"an event on the screen at {a_second} a second, p95, ms", 250, p95[0], "{:.0f}"),
        Row("  p50, ms", "", f"{statistics.median(alone):.0f}", None),
        Row("  events shown", "", f"{len(alone):,}", None),
        most(f"  p95 beside {SLOW_READERS} readers that take nothing, ms", 250, p95[1], "{:.0f}"),
        most("  what they cost the hub, MB", 64, cost / 1e6, "{:.0f}"),
    ]


async def _latencies(page: Page, submitter: Submitter, a_second: int, seconds: float) -> list[float]:
    """How long after it happened each event was on the screen; a task without work is four of them."""
    await page.evaluate("window.took = []")
    began = perf_counter()
    for number in range(int(seconds * 10)):
        if (early_s := began + number / 10 - perf_counter()) > 0:
            await asyncio.sleep(early_s)
        await submitter.fill(a_second // 40, 100, 1, [SPEC])
    await asyncio.sleep(1)
    found: list[float] = await page.evaluate("window.took")
    return found


_HEARD: Final = """async () => {
    const { onEvent } = await import(new URL("dashboard/store.js", document.baseURI).href);
    window.took = [];
    onEvent((event) => requestAnimationFrame(() => took.push(Date.now() - Date.parse(event.at))));
}"""


@contextlib.contextmanager
def _never_reads(mesh: Mesh) -> Any:  # noqa: ANN401 - a context manager of a socket
    host, _, port = mesh.url.removeprefix("http://").partition(":")
    line = socket.create_connection((host, int(port)))
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"Host: {host}\r\nAuthorization: Bearer {mesh.token()}"
        line.sendall(f"GET /dashboard/live?packed=true HTTP/1.1\r\n{head}\r\n\r\n".encode())
        yield
    finally:
        line.close()


async def _measured(asked: argparse.Namespace) -> list[Row]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        print("no Chromium to look at the page with (apt install chromium)", file=sys.stderr)
        return []
    parts: dict[str, Callable[[Browser, Path], Awaitable[list[Row]]]] = {
        "fleet": lambda browser, folder: fleet(browser, folder, asked.hosts, asked.seconds),
        "tasks": lambda browser, folder: tasks(browser, folder, asked.tasks),
        "log": lambda browser, folder: long_log(browser, folder, asked.lines),
        "first": lambda browser, folder: first_paint(browser, folder, asked.minutes),
        "events": lambda browser, folder: events(browser, folder, asked.events, asked.seconds),
    }
    rows: list[Row] = []
    async with async_playwright() as playwright:
        for name, part in parts.items():
            if asked.only and name not in asked.only.split(","):
                continue
            print(f"measuring: {name}", file=sys.stderr)
            browser = await playwright.chromium.launch(executable_path=found, args=FLAGS)
            with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
                rows += await part(browser, Path(folder))
            await browser.close()
    return rows


def main(arguments: Sequence[str]) -> int:
    """Print the figures; the exit status."""
    parser = argparse.ArgumentParser(
        prog="./run bench dashboard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=200, help="machines (default 200)")
    parser.add_argument("--tasks", type=int, default=100_000, help="tasks (default 100000)")
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of a log (default a million)")
    parser.add_argument("--events", type=int, default=500, help="events a second (default 500)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long updates and events last (default 10)")
    parser.add_argument("--minutes", type=float, default=0.5, help="how long the idle page stays open (default 0.5)")
    parser.add_argument("--only", default="", metavar="WORDS", help="fleet, tasks, log, first, events; by comma")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    asked = parser.parse_args(arguments)
    rows = asyncio.run(_measured(asked))
    if asked.json:
        print(json.dumps([row._asdict() for row in rows], indent=1))
        return 0
    width = max((len(row.what) for row in rows), default=0)
    for row in rows:
        holds = "" if row.holds is None else ("no", "yes")[row.holds]
        print(f"{row.what:{width}}  {row.goal:>13}  {row.seen:>10}  {holds}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
