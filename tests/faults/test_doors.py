"""Row T47 by the figures of ``./run bench doors``: what strangers at the door learn, and what they cost the others."""

from pathlib import Path

import pytest

from tests.bench.doors import GOAL_P99_MS, GOAL_SPREAD_MS, SIEGES, Doors, bad_tokens, siege


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tls", [False, True], ids=["in the clear", "over TLS"])
async def test_t47_soak_sieges_of_every_kind_keep_nobody_out(tmp_path: Path, *, tls: bool) -> None:
    """Fault: 2,000 connections that say nothing, or never end a head, a body, or a handshake."""
    async with Doors(tmp_path, tls=tls) as doors:
        for how in SIEGES:
            held = await siege(doors, how, 2_000, 8.0)
            print(f"{how}: p99 {held.p99_ms:.0f} ms, {held.standing} stand of {held.came} that came")

            assert held.refused == 0
            assert held.p99_ms < GOAL_P99_MS


@pytest.mark.soak
async def test_t47_soak_a_thousand_bad_tokens_learn_nothing(tmp_path: Path) -> None:
    """Fault: 1,000 tokens that are unknown, mistyped, expired or revoked: one answer, in one time; then they wait."""
    async with Doors(tmp_path, tls=False) as doors:
        shown = await bad_tokens(doors.url, doors.token())
    print(f"spread {shown.spread_ms:.2f} ms, limited after {shown.limited_after} more")

    assert shown.answers == 1
    assert shown.spread_ms < GOAL_SPREAD_MS
    assert int(shown.retry_after) >= 1
