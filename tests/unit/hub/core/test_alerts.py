"""The promises of alerts: each fires once, after its time, and ends by itself."""

import itertools
from pathlib import Path

import pytest
from msgspec.structs import replace

from hub.core.alerts import ACKNOWLEDGED, BY_NAME, FIRING, RESOLVED, RULES, Alarms, Alert, Reading, patched
from protocol.alerts import RulePatch, Severity

DOCS = Path(__file__).parents[4] / "docs" / "operate" / "runbooks.md"


class Room:
    """A clock and the readings of one thing."""

    def __init__(self, alarms: Alarms | None = None) -> None:
        self.alarms, self.ms = alarms or Alarms(), 0
        self._ids = (f"{number:04}" for number in itertools.count())

    def after(self, seconds: float, *readings: Reading) -> list[Alert]:
        self.ms += int(seconds * 1000)
        return self.alarms.judge(readings, self.ms, self._ids)


def hot(celsius: float, subject: str = "a gpu 0") -> Reading:
    return Reading("host_hot", subject, celsius, f"{subject}, {celsius} degrees")


def test_an_alert_fires_once_after_its_time_and_ends_once_when_it_is_well() -> None:
    room = Room()
    assert room.after(0, hot(90)) == []
    assert room.after(119, hot(91)) == []
    [fired] = room.after(1, hot(92))
    assert (fired.state, fired.rule, fired.value, fired.since_ms) == (FIRING, "host_hot", 92, 0)
    assert "a gpu 0, 92 degrees" in fired.summary

    assert room.after(60, hot(93)) == []
    assert room.after(60, hot(85)) == []  # below the threshold, above what clears it
    [ended] = room.after(60, hot(80))
    assert (ended.id, ended.state, ended.until_ms) == (fired.id, RESOLVED, 300_000)
    assert room.alarms.open == {}


def test_a_reading_that_is_not_there_any_more_is_well() -> None:
    room = Room()
    room.after(0, hot(90))
    room.after(120, hot(90))

    [ended] = room.after(5)
    assert ended.state is RESOLVED


def test_a_short_peak_is_not_told_and_time_counts_from_the_last_one() -> None:
    room = Room()
    room.after(0, hot(90))
    room.after(60, hot(40))
    room.after(1, hot(90))

    assert room.after(119, hot(90)) == []
    assert len(room.after(1, hot(90))) == 1


def test_what_goes_up_and_down_is_not_told_again_before_its_cooldown_is_over() -> None:
    room = Room()
    told = [len(room.after(10, Reading("hub_disk", "", step % 2))) for step in range(60)]

    assert sum(told) == 4  # it fires and ends, and once more after five minutes


def test_each_subject_has_an_alert_of_its_own() -> None:
    room = Room()
    room.after(0, hot(90), hot(95, "b gpu 1"))

    assert {one.subject for one in room.after(120, hot(90), hot(95, "b gpu 1"))} == {"a gpu 0", "b gpu 1"}


def test_a_silent_alert_is_told_again_when_the_silence_is_over_and_an_acknowledged_one_never() -> None:
    room = Room()
    room.after(0, hot(90), hot(90, "b"))
    one, other = room.after(120, hot(90), hot(90, "b"))
    room.alarms.silence(one, room.ms + 60_000, "me")
    room.alarms.acknowledge(other, "me")

    assert room.after(59, hot(90), hot(90, "b")) == []
    [again] = room.after(1, hot(90), hot(90, "b"))
    assert (again.id, again.state) == (one.id, FIRING)
    assert room.alarms.open[other.key].state is ACKNOWLEDGED
    assert {ended.state for ended in room.after(1)} == {RESOLVED}


def test_a_hub_that_starts_again_tells_nothing_twice() -> None:
    first = Room()
    first.after(0, Reading("hub_disk", "", 1))
    second = Room(Alarms(first.alarms.open.values()))

    assert second.after(10, Reading("hub_disk", "", 1)) == []
    assert len(second.after(10, Reading("hub_disk", "", 0))) == 1


def test_what_a_new_hub_has_not_looked_at_for_long_ends_no_alert_and_begins_one_in_its_time() -> None:
    first = Room()
    first.after(0, Reading("agent_lost", "a", 60))
    second = Room(Alarms(first.alarms.open.values()))

    assert second.after(10, Reading("agent_lost", "a", 5, is_bound=True)) == []
    [other] = second.after(60, Reading("agent_lost", "a", 65, is_bound=True), Reading("agent_lost", "b", 65))
    assert other.subject == "b"
    assert {one.subject for one in second.after(10)} == {"a", "b"}


def test_a_rule_that_is_off_ends_what_is_open_and_fires_no_more() -> None:
    room = Room()
    room.after(0, Reading("hub_disk", "", 1))
    room.alarms.rules["hub_disk"] = patched(BY_NAME["hub_disk"], RulePatch(enabled=False))

    assert [one.state for one in room.after(1, Reading("hub_disk", "", 1))] == [RESOLVED]
    assert room.after(3_600, Reading("hub_disk", "", 1)) == []


def test_a_threshold_counts_from_the_next_look_on() -> None:
    room = Room()
    rule = patched(BY_NAME["host_hot"], RulePatch(threshold=70, for_s=0, severity=Severity.CRITICAL))
    assert rule == replace(BY_NAME["host_hot"], threshold=70, for_s=0, severity=Severity.CRITICAL)
    room.alarms.rules["host_hot"] = rule

    [fired] = room.after(1, hot(71))
    assert (fired.threshold, fired.severity) == (70, Severity.CRITICAL)


def test_readings_of_no_rule_are_passed_over() -> None:
    assert Room().after(1, Reading("of_another_version", "", 9)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_has_a_part_of_the_runbook(rule: object) -> None:
    name = getattr(rule, "name", "")
    assert f"\n## {name}\n" in DOCS.read_text(encoding="utf-8")
    assert getattr(rule, "runbook", "").endswith(f"runbooks.md#{name}")
