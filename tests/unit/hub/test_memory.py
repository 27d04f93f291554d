"""Promises of :mod:`hub.memory`: too much in use refuses new tasks, and is well again only clearly below the limit."""

import pytest

from hub.memory import Memory, allowed_bytes, resident_bytes
from protocol.errors import Overloaded

MIB = 1 << 20


def test_above_the_limit_new_tasks_are_refused_until_it_is_clearly_below() -> None:
    used = [100 * MIB]
    memory = Memory(200, ask=lambda: used[0])
    memory.check()
    used[0] = 201 * MIB
    assert memory.look()

    with pytest.raises(Overloaded, match="the hub uses 201 of 200 MiB of memory; try again in 5 s"):
        memory.check()
    used[0] = 190 * MIB
    assert not memory.look()
    assert memory.is_high
    used[0] = 179 * MIB
    assert memory.look()
    memory.check()


def test_without_a_setting_half_of_what_there_is_may_be_used() -> None:
    assert Memory(0).limit_bytes == allowed_bytes() // 2
    assert 0 < resident_bytes() < allowed_bytes()
