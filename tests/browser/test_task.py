"""One task on the live page: its way, where its time went, what it changed."""

import re
from pathlib import Path
from typing import Final

from playwright.sync_api import expect

from tests.browser.pages import PATIENCE_MS, PHONE, SCREENS, Site
from tests.support.repositories import TEST_OF_CALC, make_remote

expect.set_options(timeout=PATIENCE_MS)
SCRIPT: Final = "<script>window.ran=1</script>"


def test_what_work_changed_is_shown_line_by_line_and_never_run(site: Site, tmp_path: Path) -> None:
    files = {"calc.py": "def add(a, b):\n    return a - b\n", "test_calc.py": TEST_OF_CALC}
    task = site.mesh.submit(
        title="fix add()",
        command=f"sed -i 's/a - b/a + b/' calc.py; printf '%s\\n' '{SCRIPT}' > '<img src=x onerror=window.ran=1>'",
        context={"repo": str(make_remote(tmp_path, files).path)},
        verification=[{"type": "test_passes", "command": "python3 -m unittest -q"}],
    )
    site.mesh.wait(task)
    page = site.open(f"tasks/{task}", size=PHONE)
    changed = page.get_by_role("region", name="What it changed")
    expect(changed.get_by_text("+    return a + b")).to_be_visible()
    expect(changed.get_by_text("-    return a - b")).to_be_visible()
    expect(changed.get_by_text("+" + SCRIPT)).to_be_visible()
    expect(changed.get_by_text("<img src=x onerror=window.ran=1>")).to_be_visible()
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / "task-diff-light-360.png", full_page=True)

    way = page.get_by_role("list", name="The way of the task")
    expect(way.get_by_role("listitem")).to_have_count(6)
    expect(way.locator('[aria-current="step"]')).to_contain_text("completed")
    told = page.get_by_role("region", name="Attempts")
    for words in ("work", "verify", "workspace and delivery"):
        expect(told.get_by_role("listitem").filter(has_text=re.compile(rf"^{words} [0-9]"))).to_have_count(1)
    assert page.evaluate("window.ran") is None
    assert site.troubles == []
