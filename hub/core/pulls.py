"""Pull requests: where each may go, what is said in it, and when it is looked at next.

Pure. What people and models have written goes into the text as plain lines that no forge reads as markup: nobody is
called, no issue is closed and nothing is loaded from elsewhere by the words of a task. The caller is
``hub/services/pulls.py``.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from hub.core.risk import Judgement
from protocol.errors import IllegalTransition
from protocol.model import Finding, TaskResult, TaskSpec, Usage
from protocol.pulls import Forge, PullRules, PullState, Risk
from protocol.redaction import Redactor

PULL_EDGES: Final[dict[tuple[PullState, str], PullState]] = {
    (PullState.PENDING, "draft"): PullState.DRAFT,
    (PullState.PENDING, "open"): PullState.OPEN,
    (PullState.PENDING, "merge"): PullState.MERGED,  # somebody was quicker, at the forge
    (PullState.PENDING, "close"): PullState.CLOSED,
    (PullState.PENDING, "refuse"): PullState.FAILED,
    (PullState.DRAFT, "open"): PullState.OPEN,
    (PullState.DRAFT, "merge"): PullState.MERGED,
    (PullState.DRAFT, "close"): PullState.CLOSED,
    (PullState.DRAFT, "refuse"): PullState.FAILED,
    (PullState.OPEN, "draft"): PullState.DRAFT,
    (PullState.OPEN, "merge"): PullState.MERGED,
    (PullState.OPEN, "close"): PullState.CLOSED,
    (PullState.OPEN, "refuse"): PullState.FAILED,
    (PullState.FAILED, "retry"): PullState.PENDING,
}
"""Every allowed change; ``merged`` and ``closed`` are never left."""

MAX_TITLE_CHARS: Final = 200
MAX_TEXT_CHARS: Final = 60_000
_PART_CHARS: Final = 4_000
_DETAIL_CHARS: Final = 200
_MOST_FINDINGS: Final = 60
_MOST_CRITERIA: Final = 30
_VERDICTS: Final = {
    True: "verified: all checks passed",
    False: "NOT verified: checks failed, a person has let it count",
    None: "unverified: no check has looked at it",
}
_DRAFT: Final = re.compile(r"(?:\s*(?:\[wip\]|wip:|draft:))*\s*", re.IGNORECASE)
"""How titles of drafts begin where a forge knows them by that."""
_CALLS: Final = re.compile(r"(?<![A-Za-z0-9])@(?=\w)|#(?=\w)|!(?=\d)|\bgh-(?=\d)|:(?=//)", re.IGNORECASE)
"""What makes a forge call somebody, or name an issue, with the word behind it."""
_REDACTOR: Final = Redactor()
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
FIRST_S: Final = 2.0
LONGEST_S: Final = 300.0
WATCH_S: Final = 600.0
"""How often one that is open is looked at, for what people do with it at the forge."""
MERGE_TRIES: Final = 8
"""So often a forge is asked to merge before people have to: it may still find out whether it can."""


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a request beside its state; ``approved_by`` is the token of whoever has let it go on."""

    branch: str = ""
    into: str = ""
    commit: str = ""
    number: int | None = None
    url: str = ""
    risk: Risk | None = None
    reasons: tuple[str, ...] = ()
    approved_by: str = ""
    problem: str = ""
    tries: int = 0
    """How often the forge was asked in vain since something went well."""
    refusals: int = 0
    """How often it has refused to merge it."""
    is_told: bool = False
    """The request at the forge says what is known of its risk."""


class Place(NamedTuple):
    """Where a repository lives at its forge: the address of the API, and the names of owner and repository."""

    api: str
    owner: str
    name: str


class Proof(NamedTuple):
    """What is known of the work: whose it is, what came out, and what all attempts together have used."""

    task: str
    epoch: int
    agent: str
    host: str
    attempts: int
    spec: TaskSpec
    result: TaskResult
    usage: Usage
    rooms: tuple[str, ...] = ()
    """Other machines on which its checks have passed, too."""


def after(state: PullState, event: str, task: str) -> PullState:
    """The state after ``event``.

    Raises:
        IllegalTransition: it is not allowed in ``state``.
    """
    found = PULL_EDGES.get((state, event))
    if found is None:
        allowed = tuple(known for from_, known in PULL_EDGES if from_ is state)
        raise IllegalTransition(f"the pull request of task {task}", state, event, allowed)
    return found


def place_of(forge: Forge, repository: str) -> Place | None:
    """Where the repository lives; ``None`` if its address names none that requests can be opened in.

    The API is at the same server as the repository: the credential of the one goes nowhere else.
    """
    parts = urlsplit(repository)
    if parts.scheme != "https" or not parts.hostname:
        return None
    *above, owner, name = ("", "", *(part for part in parts.path.split("/") if part))
    name = name.removesuffix(".git")
    if not _NAME.fullmatch(owner) or not _NAME.fullmatch(name) or {owner, name} & {".", ".."}:
        return None
    root = "/".join(part for part in above if part)
    if forge is not Forge.GITHUB:
        return Place(f"https://{parts.netloc}/{root}{'/' if root else ''}api/v1", owner, name)
    if root:
        return None
    api = "https://api.github.com" if parts.hostname == "github.com" else f"https://{parts.netloc}/api/v3"
    return Place(api, owner, name)


def delay_s(tries: int) -> float:
    """Seconds until a forge is asked again that did not answer ``tries`` times (from 1). Doubling; jitter is none."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(tries - 1, 30))


def may_go_on(record: Record) -> bool:
    """Whether nobody has to look at it first."""
    return record.risk is Risk.LOW or bool(record.approved_by)


# --- what is said -----------------------------------------------------------------------------------------------------


def title_of(spec: TaskSpec) -> str:
    """The title of the request of a task, in one line.

    Forges read titles, and the commits that are made of them: a blank takes apart what names somebody or an issue.
    """
    line = " ".join((spec.title or spec.prompt or spec.command).split())
    title = _CALLS.sub(r"\g<0> ", _shown(line[_end_of_draft(line) :], MAX_TITLE_CHARS))
    return _shown(title, MAX_TITLE_CHARS) or "Work of a task"


def _end_of_draft(line: str) -> int:
    found = _DRAFT.match(line)
    return found.end() if found else 0


def text_of(proof: Proof, judgement: Judgement | None) -> str:
    """The description: what was wanted, what was proven, who did it, what it has cost, and how risky it looks."""
    parts = [
        *_section("What was wanted", _wanted(proof.spec)),
        *_section("What was proven", _proven(proof.result, proof.rooms)),
        *_section("Who did it, and what it cost", _cost(proof)),
        *_section("Risk", _risk(judgement)),
        f"{_mark(proof.task)}attempt {proof.epoch} -->",
    ]
    return "\n".join(parts)[:MAX_TEXT_CHARS]


def _mark(task: str) -> str:
    return f"<!-- agentcom: task {task}, "


def is_about(text: str, task: str) -> bool:
    """Whether a request with this description was opened for the task."""
    return _mark(task) in text


def _section(head: str, lines: Iterable[str]) -> list[str]:
    """Lines that nothing reads but people: fenced, so that no word in them is a command for the forge."""
    body = "\n".join(lines)
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"### {head}", "", f"{fence}text", body, fence, ""]


def _wanted(spec: TaskSpec) -> list[str]:
    said = [spec.title, spec.prompt or spec.command]
    lines = [line for part in said if part for line in (*_shown(part, _PART_CHARS).splitlines(), "")]
    return [*lines, *(f"- {_shown(criterion, _DETAIL_CHARS)}" for criterion in spec.success_criteria[:_MOST_CRITERIA])]


def _proven(result: TaskResult, rooms: Sequence[str]) -> list[str]:
    lines = [_VERDICTS[result.verified]]
    lines += [f"the same checks passed on {_shown(room, 100)}, too" for room in rooms]
    lines += [_finding(finding) for finding in result.report[:_MOST_FINDINGS]]
    if len(result.report) > _MOST_FINDINGS:
        lines.append(f"... and {len(result.report) - _MOST_FINDINGS} more")
    if result.checks:
        lines.append(f"checks frozen at submission: sha256 {result.checks}")
    return lines


def _finding(finding: Finding) -> str:
    mark = "passed" if finding.passed else "DOUBTFUL" if finding.doubtful else "FAILED"
    detail = f": {_shown(finding.detail, _DETAIL_CHARS)}" if finding.detail else ""
    return f"{mark:<8}  {_shown(finding.name, _DETAIL_CHARS)} ({finding.type}, {finding.seconds:.1f} s){detail}"


def _cost(proof: Proof) -> list[str]:
    usage, result = proof.usage, proof.result
    price = "not known" if usage.cost_usd is None else f"{usage.cost_usd:.6f} USD"
    return [
        f"task:       {proof.task}, attempt {proof.epoch} of {proof.attempts}, {len(result.iterations)} iterations",
        f"agent:      {proof.agent} on {proof.host}",
        f"models:     {', '.join(_models(result)) or 'none'}",
        f"tokens:     {usage.input_tokens:,} in ({usage.cached_input_tokens:,} cached), {usage.output_tokens:,} out",
        f"cost:       {price}",
        f"seconds:    {usage.seconds:.1f}",
        f"commit:     {result.commit}",
    ]


def _models(result: TaskResult) -> list[str]:
    used = (result.usage, *(iteration.usage for iteration in result.iterations))
    named = (f"{_shown(each.model, 100)} at {_shown(each.endpoint, 100)}" for each in used if each.model != "none")
    return list(dict.fromkeys(name.removesuffix(" at ") for name in named))


def _risk(judgement: Judgement | None) -> Sequence[str]:
    if judgement is None:
        return ("not looked at yet",)
    why = judgement.reasons or ("it is small and touches nothing special",)
    wait = "goes on by itself where the project says so" if judgement.risk is Risk.LOW else "waits for a person"
    return (f"{judgement.risk.value}: {wait}", *(f"- {_shown(reason, 500)}" for reason in why))


def _shown(text: str, most: int) -> str:
    """Without secrets and control characters, and not longer than ``most``."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in _REDACTOR.text(text)).strip()
    return clean if len(clean) <= most else f"{clean[: most - 4]} ..."


def base_of(rules: PullRules, record: Record, spec: TaskSpec) -> str:
    """The branch that the request is for; empty: the repository's default."""
    return record.into or rules.into or spec.context.branch
