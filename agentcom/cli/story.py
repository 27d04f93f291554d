"""A task in words: what became of it, who did it, what was proven, and what it cost."""

from collections.abc import Iterator

import click

from agentcom.cli import output
from protocol.api import AttemptView, Explanation, HostExplanation, TaskView
from protocol.choice import Choice, Rung
from protocol.model import (
    FINAL_STATES,
    Candidate,
    Finding,
    Iteration,
    TaskResult,
    TaskState,
    TierDecision,
    Usage,
)
from protocol.progress import HoldKind
from protocol.reviews import ProofView, ReviewView

_TAIL_LINES = 20
_FINDING_LINES = 12


def is_good(task: TaskView) -> bool:
    """Whether the task was completed and nothing of it failed verification, or a person has approved of it."""
    is_approved = any(review.verdict == "approved" for review in task.reviews)
    return task.state is TaskState.COMPLETED and (task.verified is not False or is_approved)


def _proof(proof: ProofView | None) -> str:
    """What another machine says about the checks; empty: none was asked."""
    if proof is None:
        return ""
    told = f"{proof.state}: done on {proof.host}"
    return f"{told}, checked on {proof.by_host} by {proof.by_agent}" if proof.by_host else told


def tell(task: TaskView, *, show_output: bool = True) -> None:
    """Print the task for a person."""
    result = task.result or (task.attempts[-1].result if task.state is TaskState.WAITING and task.attempts else None)
    head = {
        "task": task.id,
        "title": task.title,
        "state": task.state.value,
        "result": output.verdict(task.verified) if task.state in FINAL_STATES and task.result else "",
        "reason": task.reason,
        "checks": f"{len(task.spec.verification)}, sha256 {task.checks[:12]}" if task.checks else "",
        "proof": _proof(task.proof),
        "reviewed": "; ".join(map(_review, task.reviews)),
        "error": task.result.error if task.result and task.result.error != task.reason else "",
        "agent": _who(task),
        "model": next((a.answering.in_words for a in task.attempts[-1:] if a.answering), ""),
        "took": _took(task),
        "attempts": str(len(task.attempts)) if len(task.attempts) > 1 else "",
        "tier": tier_words(task.routing.tier),
        "routing": _routing(task),
        "held up": _held_up(task),
        "progress": _progress(task),
        "cost": cost(task.usage),
        "priced by": priced_by(task.usage),
        "branch": _branch(result),
        "commit": result.commit[:12] if result else "",
        "files": ", ".join(a.path for a in task.result.artifacts) if task.result else "",
    }
    output.fields(head)
    for attempt in task.attempts if len(task.attempts) > 1 else ():
        click.echo(f"  {_attempt(attempt)}")
    for iteration in task.iterations:
        for line in iteration_lines(iteration):
            click.echo(f"  {line}")
    if show_output and task.result is not None and task.result.output.strip():
        _tell_output(task.result.output)
    if task.state is TaskState.WAITING:
        click.echo(f"Let it count:   agentcom tasks approve {task.id}", err=True)
        click.echo(f"Or send it back: agentcom tasks reject --again --reason TEXT {task.id}", err=True)
    elif task.state not in FINAL_STATES:
        click.echo(f"Why it stands there: agentcom tasks explain {task.id}", err=True)
    elif not is_good(task) and task.attempts:
        click.echo(f"All its output: agentcom tasks logs {task.id}", err=True)
        if task.state is TaskState.DEAD:
            click.echo(f"Run it again:   agentcom tasks retry {task.id}", err=True)


def _review(review: ReviewView) -> str:
    """A decision in words."""
    said = {"again": "sent back"}.get(review.verdict, review.verdict)
    return f"attempt {review.epoch} {said} by {review.by}{f': {review.reason}' if review.reason else ''}"


def iteration_lines(iteration: Iteration) -> Iterator[str]:
    """An iteration and what its checks found, line by line."""
    done = "done" if iteration.execution_ok else "the work failed"
    checks = {None: "no checks", True: "all checks passed", False: "checks failed"}[iteration.passed]
    usage = iteration.usage
    spent = f", {cost(usage)}" if usage.input_tokens or usage.output_tokens else ""
    yield output.printable(f"iteration {iteration.number}: {done}, {checks}, {output.duration(usage.seconds)}{spent}")
    for finding in iteration.findings:
        yield from (f"  {line}" for line in finding_lines(finding))


def finding_lines(finding: Finding) -> Iterator[str]:
    """A finding; of a failed one also the end of its output."""
    mark = "passed" if finding.passed else "DOUBTS" if finding.doubtful else "FAILED"
    detail = f": {finding.detail}" if finding.detail else ""
    yield output.printable(f"{mark}  {finding.name or finding.type}{detail}")
    if not finding.passed:
        for line in finding.output.strip().splitlines()[-_FINDING_LINES:]:
            yield f"        | {output.printable(line)}"


def standing(found: Explanation) -> str:
    """Why the task stands where it stands, in one line that says its state once."""
    state = found.state.value
    said, about, rest = found.summary.partition(f"it is {state}")
    if said or not about or rest[:1] not in {"", ":", " "}:
        return f"{found.task} is {state}: {found.summary}" if found.summary else f"{found.task} is {state}"
    return f"{found.task} is {state}{'' if rest.strip(': ') == state else rest.rstrip(': ')}"


def place_words(found: Explanation) -> str:
    """Where a ready task stands in the queue, and when it will probably begin."""
    place = f"{found.position} go first" if found.position else "first in the queue"
    if found.starts_in_s is None:
        return place
    when = f"in {output.duration(found.starts_in_s)}" if found.starts_in_s >= 1 else "at once"
    return f"{place}; it will probably begin {when}"


def agent_words(agent: HostExplanation) -> str:
    """What keeps an agent from a task, or what the task is expected to cost there."""
    if why := "; ".join(filter(None, agent.reasons)):
        return why
    return f"could take it{f': {cost_words(agent.cost)}' if agent.cost else ''}"


def cost_words(cost: dict[str, float]) -> str:
    """The terms of a cost, the sum first."""
    parts = ", ".join(f"{name.removesuffix('_s')} {value:.1f}" for name, value in cost.items() if name != "total_s")
    return f"{cost.get('total_s', 0.0):.1f} s ({parts})" if parts else f"{cost.get('total_s', 0.0):.1f} s"


def way_line(way: Candidate) -> str:
    """One way to do the task: whether it can be gone, what it is, and why."""
    name = " ".join(part for part in (way.strategy.value, way.agent, way.endpoint, way.model) if part)
    why = "; ".join(filter(None, way.reasons)) or (cost_words(way.cost) if way.cost else "")
    return f"{'yes' if way.feasible else 'no '} {name}{f': {why}' if why else ''}"


def tier_words(tier: TierDecision) -> str:
    """How hard the task counts as, who says so, what it looks like, how sure that is, and why."""
    sure = tier.inferred_confidence or (0.0 if tier.explicit else tier.confidence)
    why = f"{f'{sure:.0%} sure: ' if sure else ''}{', '.join(tier.signals)}"
    if tier.explicit is None:
        return f"{tier.effective} by its looks ({why})"
    looks = f"although it looks {tier.inferred}" if tier.disagrees else "as it looks too"
    return f"{tier.effective}, {looks} ({why})"


def rung_words(rung: Rung | None) -> str:
    """Where an attempt stands on the ladder; empty on the ground."""
    if rung is None:
        return ""
    return f"rung {rung.number}: {rung.model}, tier {rung.tier}, {rung.effort} effort"


def estimate_lines(learnt: Choice | None) -> Iterator[str]:
    """What was learnt about the models that could do it, one a line."""
    if learnt is None:
        return
    did = {"on": "it decides", "shadow": "it only looks on"}.get(learnt.mode, learnt.mode)
    tried = ", to learn more about it" if learnt.explores else ""
    yield f"learnt about {learnt.topic} ({did}): {learnt.model or 'nothing'}{tried}"
    for each in learnt.estimates:
        yield (
            f"  {each.model}: passes {each.success:.0%}, {each.seconds:.0f} s and ${each.usd:.4f} to a verified result "
            f"({each.outcomes:.0f} outcomes)"
        )


def cost(usage: Usage) -> str:
    """Model, tokens and money in words."""
    if usage.model in {"", "none"} and not usage.input_tokens:
        return "no model, 0 tokens"
    money = "unknown price" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"
    where = f" on {usage.endpoint}" if usage.endpoint else ""
    return f"{usage.model}{where}, {usage.input_tokens:,} tokens in, {usage.output_tokens:,} out, {money}"


def priced_by(usage: Usage) -> str:
    """How the cost came about: the price with its source, and what was measured of a GPU of ours."""
    if (bill := usage.bill) is None:
        return ""
    parts = []
    if (price := bill.price) is not None:
        if price.has_tokens:
            parts.append(f"${price.input_usd:g} in, ${price.output_usd:g} out a million tokens")
        rates = ((price.gpu_hour_usd, "a GPU hour"), (price.kwh_usd, "a kWh"))
        parts += [f"${rate:g} {what}" for rate, what in rates if rate]
        parts.append(f"by {price.source}{f', {price.at}' if price.at else ''}")
    if bill.gpu_s:
        drew = "" if bill.energy_wh is None else f", {bill.energy_wh:.3f} Wh"
        parts.append(f"took {output.duration(bill.gpu_s)} of a server of ours{drew}")
    return "; ".join(filter(None, parts))


def _tell_output(text: str) -> None:
    lines = output.harmless(text).rstrip().splitlines()
    # How many there were is not known here: a result holds only the end of what was written.
    click.echo(f"output (the last {_TAIL_LINES} lines)" if len(lines) > _TAIL_LINES else "output")
    for line in lines[-_TAIL_LINES:]:
        click.echo(f"  {line}")


def _who(task: TaskView) -> str:
    host = task.attempts[-1].host if task.attempts else ""
    return f"{task.agent} on {host}" if task.agent and host else task.agent or ""


def _took(task: TaskView) -> str:
    if task.started_at is None or task.ended_at is None:
        return ""
    queued = (task.started_at - task.submitted_at).total_seconds()
    worked = (task.ended_at - task.started_at).total_seconds()
    return f"{output.duration(worked)} after {output.duration(queued)} in the queue"


def _routing(task: TaskView) -> str:
    routing = task.routing
    what = " ".join(part for part in (routing.executor, routing.model, routing.endpoint) if part)
    return f"{what} ({routing.reason})" if routing.reason and what else routing.reason or what


def _held_up(task: TaskView) -> str:
    """Who holds the task up."""
    hold = task.hold
    if hold is None:
        return ""
    what = "taken over" if hold.kind is HoldKind.TAKE else "paused"
    when = " at the end of its turn" if hold.stopping else ""
    return f"{what}{when} by {hold.by}{f': {hold.reason}' if hold.reason else ''}"


def _progress(task: TaskView) -> str:
    """How far the work had come when it was last kept."""
    kept = task.progress
    if kept is None:
        return ""
    turn = f"turn {kept.turn} of iteration {kept.iteration}" if kept.turn else f"before iteration {kept.iteration}"
    used = f"{kept.usage.input_tokens + kept.usage.output_tokens:,} tokens"
    return f"kept at {turn}, {used}{f', {kept.ref}' if kept.ref else ''}"


def _branch(result: TaskResult | None) -> str:
    if result is None or not result.branch:
        return ""
    return f"{result.branch}{', pushed' if result.pushed else ''}"


def _attempt(attempt: AttemptView) -> str:
    ended = attempt.ended_at or attempt.started_at
    took = output.duration((ended - attempt.assigned_at).total_seconds()) if ended else ""
    rung = rung_words(attempt.routing.rung if attempt.routing else None)
    why = f": {attempt.reason}" if attempt.reason else ""
    if rung:
        why = f"  {rung}{why}"
    return output.printable(f"attempt {attempt.epoch}  {attempt.state.value}  {attempt.agent}  {took}{why}")
