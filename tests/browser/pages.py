"""How the tests drive the live page."""

from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import Browser, BrowserContext, Page

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
    *("overview", "tasks", "fleet", "models", "reviews", "alerts", "alerts/rules"),
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

    def open(
        self,
        view: str = "overview",
        *,
        size: Size = WIDE,
        scheme: Literal["light", "dark"] = "light",
        role: str = "admin",
    ) -> Page:
        """A page in a browser of its own, logged in by a link, that is live."""
        context = self._browser.new_context(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: self.troubles.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(self.mesh.url + self._ticket(role))
        page.wait_for_selector(".fresh.live")
        self.go(page, view)
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
