"""The check ``judge``: another model than the one that did the work is asked what it thinks of the change.

It can only take away: it is asked when every mechanical check has passed (``sidecar/verifier.py`` sees to that), a
"fail" fails, and whatever is not plain is left to a person.
"""

from secrets import token_hex

from msgspec.structs import replace

from protocol.checks import CheckJudge
from protocol.errors import WorkFailed
from protocol.model import Finding
from sidecar.checks.base import Ground, finding, time_for
from sidecar.core.opinion import SYSTEM, opinion, question


async def judge(check: CheckJudge, ground: Ground) -> Finding:
    """Passes if the model says so."""
    if ground.ask is None:
        return _doubt(check, "no other model than the one that did the work can be asked here")
    try:
        asked = question(ground.task, check.question, await ground.changes(), token_hex(8))
        if not asked:
            return _doubt(check, "the change is too large to be shown to a model")
        model, answer = await ground.ask(SYSTEM, asked, time_for(check, ground))
    except WorkFailed as exc:
        return _doubt(check, f"nobody could be asked: {exc}")
    said = opinion(answer)
    detail = f"{model}: {said.reason or said.verdict}"
    if said.verdict == "doubt":
        return _doubt(check, detail)
    return finding(check, passed=said.verdict == "pass", detail=detail)


def _doubt(check: CheckJudge, why: str) -> Finding:
    return replace(finding(check, passed=False, detail=why), doubtful=True)
