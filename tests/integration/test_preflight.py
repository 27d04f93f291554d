"""What a machine looks at before it joins, against a real hub: what is in the way is told with what to do about it."""

import asyncio
import platform
import shutil
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace

import pytest

from provisioning import steps
from provisioning.places import Note, places_of
from provisioning.steps import PREFLIGHT_FAILED, StepFailed, Steps, Wish
from tests.support.running_hub import RunningHub, running_hub


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path / "hub") as running:
        yield running


async def preflight(hub: RunningHub, home: Path, *, is_foreground: bool = True, **env: str) -> str:
    wish = Wish(url=hub.url, is_foreground=is_foreground)
    places = places_of({"HOME": str(home), **env}, is_root=False)
    looks = Steps(wish, places, Note(), confirm=lambda _: False, say=lambda _: None).preflight
    try:
        return await asyncio.to_thread(looks)
    finally:
        assert not home.exists()  # it changes nothing


async def test_what_is_well_is_told_in_a_line(hub: RunningHub, tmp_path: Path) -> None:
    said = await preflight(hub, tmp_path / "home", HTTPS_PROXY="http://proxy.example.org:3128")

    python, disk, clock, proxy = said.split(", ")
    assert python == f"Python {platform.python_version()}"
    assert disk.endswith(" GiB free")
    assert clock == "clock +0 s"
    assert proxy == "HTTPS_PROXY not used: the hub is dialled directly"


class Ahead(datetime):
    """A clock that is two minutes ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Ahead":
        return super().now(tz) + timedelta(seconds=120)


@pytest.mark.parametrize(
    "name, why, fix",
    [
        ("disk", "MiB are free at", "free at least 1 GiB there"),
        ("git", "there is no git", "install git"),
        ("service", "no systemd and no launchd run here", "add --foreground"),
        ("clock", r"the clock is \+1[12]\d s from the hub's", "set both by NTP"),
    ],
)
async def test_what_is_in_the_way_is_told_with_what_to_do(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str, fix: str
) -> None:
    match name:  # a machine that is full, has no git, no services or another time cannot be had: what it says is set
        case "disk":
            monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=1 << 20))
        case "git":
            monkeypatch.setattr(shutil, "which", lambda _name: None)
        case "service":
            monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/git" if name == "git" else None)
        case "clock":
            monkeypatch.setattr(steps, "datetime", Ahead)
    with pytest.raises(StepFailed, match=why) as caught:
        await preflight(hub, tmp_path / "home", is_foreground=name != "service")

    assert caught.value.status == PREFLIGHT_FAILED
    assert caught.value.fix.startswith(fix)
