"""Promises of :mod:`agentcom.household`: what is told of a child that ended."""

from pathlib import Path

import pytest

from agentcom.household import Household, Plan


@pytest.mark.parametrize(
    "written, told",
    [
        ('{"event": "hub_failed", "error": "disk full", "level": "error"}', "hub failed: disk full"),
        ('{"why": "no route", "event": "link_lost", "next": "reconnect"}', "link lost: no route"),
        ('{"event": "sidecar_stopped", "name": "Boo"}', "sidecar stopped"),
        ('{"event": 3}', '{"event": 3}'),
        ('{"why": "x"}', '{"why": "x"}'),
        ('{"event": "cut o', '{"event": "cut o'),
        ("[1]", "[1]"),
        ("Killed", "Killed"),
        ("", "it wrote nothing"),
        ('error: the port is taken\n{"event": "stopped"}', "error: the port is taken"),
    ],
)
def test_the_last_words_of_a_child_are_words(tmp_path: Path, written: str, told: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "hub.log").write_text(f"before\n{written}\n" if written else "")
    household = Household(Plan(folder=tmp_path, port=0, sidecars=1), print)

    assert household.last_words("hub") == told
