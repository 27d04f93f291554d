"""A restore on a new machine, by the words of the page alone: what it says to type is what is run."""

import asyncio
from pathlib import Path

from agentcom.cli import run
from tests.docs.commands import said
from tests.support.running_hub import running_hub

PAGE = "docs/how-to/backup-and-restore.md"


async def test_whoever_has_only_the_page_restores_a_backup_on_a_new_machine(tmp_path: Path) -> None:
    restore = next(each.words for each in said() if each.page == PAGE and "--yes" in each.words)
    backup, new = tmp_path / "hub.sqlite", tmp_path / "new"
    async with running_hub(tmp_path / "old") as hub:
        task = (await (await hub.ask("POST", "/api/v1/tasks", json={"command": "true"})).json())["id"]
        made = await (await hub.ask("POST", "/api/v1/backups")).json()
        backup.write_bytes(Path(made["path"]).read_bytes())
        old = hub.bearer("viewer")
    words = [{"hub.sqlite": str(backup), "DIR": str(new)}.get(word, word) for word in restore[1:]]
    status = await asyncio.to_thread(run, words)
    async with running_hub(new) as hub:
        found = await hub.ask("GET", f"/api/v1/tasks/{task}")
        with_old = await hub.ask("GET", "/api/v1/tasks", role=None, headers=old)
        tokens = await (await hub.ask("GET", "/api/v1/tokens")).json()

    assert restore[:2] == ["agentcom", "restore"]
    assert status == 0
    assert (found.status, with_old.status) == (200, 200)
    assert (new / "admin.token").stat().st_mode & 0o077 == 0
    assert len([each for each in tokens["tokens"] if each["role"] == "admin"]) == 2
