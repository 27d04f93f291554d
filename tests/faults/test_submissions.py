"""What the network does to submissions: said twice, cut before or behind the answer. One key, one task (T11, T17)."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.crowd import Crowd
from tests.support.history import assert_nothing_lost, wait_ended
from tests.support.mesh import Mesh, mesh
from tests.support.weather import Weather

TASKS = 150


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Mesh]:
    with mesh(tmp_path, "One", flags=("--slots", "8"), lease_s=30.0) as made:
        yield made


@pytest.fixture
def weather(running: Mesh) -> Iterator[Weather]:
    made = Weather(running.url.removeprefix("http://"), seed=1)
    yield made
    made.end()


def nothing(_chance: random.Random) -> dict[str, Any]:
    return {"title": "x", "executor": "noop"}


def submit_through(running: Mesh, weather: Weather) -> Crowd:
    """All tasks, submitted over this line; the crowd when everything is acknowledged and done."""
    beyond = copy.copy(running)
    beyond.url = weather.url
    crowd = Crowd(beyond, nothing, seed=1)
    crowd.order(TASKS)
    wait_ended(running, crowd.finish(timeout_s=120))
    return crowd


def test_t17_a_submission_that_is_said_twice_makes_its_tasks_once(running: Mesh, weather: Weather) -> None:
    """Every request reaches the hub twice at the same moment: both answers are the same, the tasks are there once."""
    weather.set(says_twice=True)
    crowd = submit_through(running, weather)
    history = assert_nothing_lost(running, crowd.acknowledged)
    doubled = weather.counts["doubled"]

    print(f"\nT17 submissions: {doubled} requests said twice, {crowd.replayed} answers were replays: {history}")
    assert doubled > 10
    assert history.states == {"completed": TASKS}


def test_t11_submissions_over_lines_that_are_cut_make_their_tasks_once(running: Mesh, weather: Weather) -> None:
    """The line breaks in the request or in the answer; sent again under the same key, no task is lost or doubled."""
    weather.set(up={"cut_after": (150, 2_000)}, down={"cut_after": (50, 9_000)})
    crowd = submit_through(running, weather)
    history = assert_nothing_lost(running, crowd.acknowledged)
    cuts = weather.counts["cuts"]

    again = f"{crowd.retries} sent again, {crowd.replayed} of them stored already"
    print(f"\nT11 submissions: {cuts} cuts, {again}: {history}")
    assert cuts > 10
    assert crowd.replayed > 0
    assert history.states == {"completed": TASKS}
