"""What ``agentcom doctor`` finds: one thing that was looked at, how it is, and what to do about it."""

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from msgspec import Struct

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"
_WARN_SKEW_S: Final = 5.0
_FAIL_SKEW_S: Final = 30.0


class Diagnosis(Struct, frozen=True, kw_only=True):
    """One thing that was looked at; ``fix`` is what to do if it is not ``ok``."""

    name: str
    state: str
    detail: str
    fix: str = ""


def skew(date: str, now: datetime) -> Diagnosis:
    """How far this machine's clock is from the hub's, by the header of an answer."""
    try:
        skew_s = (now - parsedate_to_datetime(date)).total_seconds()
    except ValueError:
        return Diagnosis(name="clock", state=WARN, detail=f"the hub tells no time: {date!r}", fix="is a proxy between?")
    off_s = max(0.0, abs(skew_s) - 1.0)  # the header tells whole seconds
    state = FAIL if off_s > _FAIL_SKEW_S else WARN if off_s > _WARN_SKEW_S else OK
    fix = "" if state == OK else "set both clocks by NTP"
    return Diagnosis(name="clock", state=state, detail=f"{skew_s:+.0f} s from the hub's", fix=fix)
