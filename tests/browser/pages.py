"""How the tests drive the live page."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgpack
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.sync_api import Browser, BrowserContext, Page
from websockets.sync.client import connect

from protocol.joining import code_of, signed
from protocol.keys import text
from tests.support.foreign_agent import hello
from tests.support.mesh import Mesh

PATIENCE_MS: Final = 60_000
SCREENS: Final = Path(__file__).parents[2] / ".cache" / "screens"
HOSTILE: Final = (
    "<img src=x onerror=\"window.ran='img'\">",
    "<script>window.ran='script'</script>",
    '"><svg onload="window.ran=\'svg\'">',
    "javascript:window.ran='link'//",
    "{{constructor.constructor('window.ran=1')()}}",
    "${window.ran='template'}",
    "</pre><iframe srcdoc=\"<script>parent.ran='frame'</script>\">",
    "\u202egpj.exe \x1b[31mred\x1b[0m",
)
VIEWS: Final = (
    *("overview", "tasks", "fleet", "models", "reviews"),
    *("alerts", "alerts/rules", "alerts/notifiers", "alerts/runbooks?rule=host_hot"),
    *("logs", "events", "events/audit", "costs", "settings"),
)
Size = tuple[int, int]
WIDE: Final[Size] = (1440, 900)
PHONE: Final[Size] = (360, 740)


class Site:
    """Pages of one hub."""

    def __init__(self, mesh: Mesh, browser: Browser) -> None:
        self.mesh, self._browser = mesh, browser
        self._contexts: list[BrowserContext] = []
        self.troubles: list[str] = []
        """What pages have complained of: errors in the console, scripts that broke."""
        self.asked: list[str] = []
        """Addresses that were asked for."""

    def like(self) -> "Site":
        """The same hub and browser, with nothing asked yet."""
        return Site(self.mesh, self._browser)

    def open(
        self,
        view: str = "overview",
        *,
        size: Size = WIDE,
        scheme: Literal["light", "dark"] = "light",
        role: str = "admin",
    ) -> Page:
        """A page in a browser of its own, logged in by a link, that is live."""
        page = self.blank(size=size, scheme=scheme)
        page.goto(self.mesh.url + self._ticket(role))
        page.wait_for_selector(".fresh.live")
        self.go(page, view)
        return page

    def blank(self, *, size: Size = WIDE, scheme: Literal["light", "dark"] = "light") -> Page:
        """An empty page in a browser of its own."""
        context = self._browser.new_context(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: self.troubles.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        return page

    def go(self, page: Page, view: str) -> None:
        """Another view of the page."""
        page.evaluate("to => { location.hash = to; }", f"/{view}")
        page.wait_for_selector("main h1")

    def close(self) -> None:
        """Close all pages."""
        for context in self._contexts:
            context.close()

    def _ticket(self, role: str) -> str:
        token = {}
        if role != "admin":
            made = self.mesh.call("POST", "/api/v1/tokens", {"role": role})
            token = {"Authorization": f"Bearer {made['token']}"}
        return str(self.mesh.call("POST", "/api/v1/session-tickets", **token)["path"])

    def picture(self, page: Page, name: str) -> None:
        """Screenshots to be looked at: wide and light, on a phone and dark; fails if it is wider than either."""
        page.evaluate("scrollTo(0, 0)")
        for size, scheme in ((PHONE, "dark"), (WIDE, "light")):
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.emulate_media(color_scheme=scheme)
            shot(page, f"{name}-{scheme}-{size[0]}")
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, f"{name} fits {size}"


def shot(page: Page, name: str) -> None:
    """A picture of the whole page; also of what nobody scrolls to, which the page itself leaves undrawn."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.evaluate("document.styleSheets[0].insertRule('.events li { content-visibility: visible !important }')")
    page.screenshot(path=SCREENS / f"{name}.png", full_page=True)


def ask_to_join(mesh: Mesh, host: str) -> tuple[str, dict[str, Any]]:
    """Have a machine of this name ask to join without a token; the code that it shows, and how it asks again."""
    key = Ed25519PrivateKey.generate()
    public = text(key.public_key().public_bytes_raw())
    bodies = [
        {
            "key": public,
            "attempt": attempt,
            "signature": text(key.sign(signed(public, attempt, "", ""))),
            "facts": {"host": host, "system": "nowhere"},
        }
        for attempt in (1, 2)
    ]
    mesh.call("POST", "/api/v1/join-requests", bodies[0])
    return code_of(public), bodies[1]


@contextlib.contextmanager
def stranger(
    mesh: Mesh, name: str, *, problem: str = "", reading: dict[str, Any] | None = None, **more: Any
) -> Iterator[None]:
    """A machine of another make that is connected, and says what it is told to; it does no work.

    Args:
        name: of its agent.
        problem: what it says is wrong with its endpoint ``broken``; empty: it has none.
        reading: what it says of its machine.
        more: of its hello, as in :func:`tests.support.foreign_agent.hello`.
    """
    address = mesh.url.replace("http", "ws", 1) + "/mesh"
    headers = {"Authorization": f"Bearer {mesh.token('agent')}"}
    with connect(address, additional_headers=headers, proxy=None, ping_interval=None, compression=None) as socket:
        socket.send(msgpack.packb(hello(name, capabilities=[], **more)))
        welcome = msgpack.unpackb(socket.recv(PATIENCE_MS / 1000))
        assert welcome["t"] == "welcome", welcome
        broken = {"endpoint": "broken", "kind": "openai", "url": "http://10.0.0.1:9", "local": True}
        troubles = [{**broken, "problem": problem}] if problem else []
        beat = {"t": "heartbeat", "sidecar": name, "boot": 1, "attempts": [], "troubles": troubles}
        beat |= {"host": reading} if reading else {}
        socket.send(msgpack.packb(beat))
        yield
