"""Promises of :mod:`sidecar.sandbox.seatbelt`: a profile that denies by default; no Mac has run it here."""

from pathlib import Path

from sidecar.sandbox.policy import View
from sidecar.sandbox.seatbelt import profile

VIEW = View(read=(Path("/usr"),), write=(Path("/w"),), devices=(), fixed=(Path("/w/.git"),), hidden=(Path('/usr/a"b'),))


def test_what_is_not_allowed_is_denied() -> None:
    rules = profile(VIEW, network=False).splitlines()

    assert rules[:2] == ["(version 1)", "(deny default)"]
    assert '(deny file-read* (subpath "/usr/a\\"b"))' in rules
    assert '(allow file-read* file-write* (subpath "/w"))' in rules
    assert rules[-1] == '(deny file-write* (subpath "/w/.git"))'
    assert not any("network" in rule for rule in rules)


def test_the_network_is_opened_by_the_owner_alone() -> None:
    assert profile(VIEW, network=True).splitlines()[-1] == "(allow network* system-socket)"
