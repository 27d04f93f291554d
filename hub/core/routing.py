"""Which way a task is done: executor and strategies at submission, agent and model at assignment.

At submission a task gets its *requirements*: everything that matters to matching and nothing else. Tasks with equal
requirements form a class and share a queue; the class text is stored with the task, so the queue of a restarted hub is
read back without opening a single spec.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2s
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hub.core.budgets import micro
from hub.core.complexity import infer
from hub.core.outcomes import topic_of
from protocol.checks import capabilities_for
from protocol.choice import Choice, Rung
from protocol.keystore import SECRETS
from protocol.limits import ALONE_FROM_DEATHS
from protocol.loads import LoadPlan
from protocol.model import Budget, Candidate, EndpointReport, Routing, Strategy, TaskSpec, Tier, TierDecision
from protocol.prices import Price
from protocol.reviews import PROOF as PROOF  # noqa: PLC0414 - requirements name it, and so do who asks for them

DEFAULT_CHAINS: Final[dict[Tier, tuple[Strategy, ...]]] = {
    Tier.TRIVIAL: (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM),
    Tier.STANDARD: (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM),
    Tier.COMPLEX: (Strategy.CLOUD_LLM, Strategy.LOCAL_LLM),
}
"""Strategies in order of preference, for work that needs a model. Work that is a command is always ``trivial``."""

LEAST_CONTEXT: Final = 2_048
CHARS_PER_TOKEN: Final = 3.5
MAX_AVOIDED: Final = 4
"""Places that a task avoids at a time; the first ones are forgiven."""
ARTIFACTS: Final = "artifacts"
"""Capability of an agent that brings the files that a task wants kept."""
EXTERNAL: Final = "acp"
"""Executor whose work is done by somebody else's program."""
NO_MODEL: Final = frozenset({"noop", "shell", EXTERNAL})
"""Executors for which no model is chosen."""
ASKS: Final = "llm"
"""Need of a command that asks models through its sidecar."""
ANSWER_TOKENS: Final = 1_024
"""Room in a context that an answer needs beside its prompt, at least."""

_PLAIN: Final = TaskSpec().budget
_TRIVIAL: Final = (Strategy.TRIVIAL,)
_encoder: Final = msgspec.json.Encoder(order="sorted")
_placements: Final = msgspec.msgpack.Encoder()


Cap = tuple[int | None, int | None, int]


class ProofOf(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose work is to be proven: that of ``agent`` on ``host``, of the class ``work`` to which the task belongs.

    ``must``: the task insists on another machine.
    """

    agent: str
    host: str
    work: str
    must: bool = False


class Requirements(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent must offer to do a task, and in which order of preference."""

    executor: str
    strategies: tuple[Strategy, ...]
    model: str = ""
    needs: tuple[str, ...] = ()
    context: int = 0
    """Tokens of its prompt, rounded up (:func:`context_bucket`): tasks of about one size are one class."""
    topic: str = ""
    """What is learnt about tasks like it (``hub/core/outcomes.py``); empty: nothing."""
    rung: Rung | None = None
    """How high it has climbed; ``model`` is then the one of the rung."""
    alone: bool = False
    """Only on an agent that runs nothing else: the task is suspected of killing its agents."""
    repo: str = ""
    """Digest of the repository's address: tasks in one repository are best done where it is already."""
    by: str = ""
    """Id of the submitter's token: submitters have queues of their own, so that they can have fair shares."""
    avoid: tuple[str, ...] = ()
    """Agents (``agent:NAME``) and endpoints (``endpoint:HOST/ID``) where the task has failed, oldest first."""
    returned: bool = False
    """A person has sent it back: it goes on from what its last attempt has left."""
    patience_s: float = 0.0
    """How long to wait for the first strategy of the chain before the next one will do; 0: as long as it is there."""
    project: str = ""
    """The project whose budget its attempts draw on."""
    cap: Cap | None = None
    """What an attempt may use: tokens, millionths of a dollar, milliseconds; ``None``: as one that says nothing."""
    proof: ProofOf | None = None
    """Its work is done, and another machine has to prove it (``hub/core/proving.py``)."""

    @property
    def needs_model(self) -> bool:
        """Whether a model does the work."""
        return self.strategies[0] is not _TRIVIAL[0]

    @property
    def is_open(self) -> bool:
        """Whether its model may be chosen by what was learnt: nobody has named one, and it has not climbed."""
        return bool(self.topic) and not self.model and self.rung is None

    @property
    def tokens(self) -> int:
        """Context that its requests need, rounded up; 0: nobody knows."""
        return context_bucket(self.context + ANSWER_TOKENS) if self.context else 0

    @property
    def kind(self) -> str:
        """Under which name such tasks teach: the text without what is of one submitter, repository or task."""
        return msgspec.structs.replace(self.place, repo="", avoid=(), returned=False, patience_s=0.0, proof=None).text

    @property
    def place(self) -> "Requirements":
        """What decides who could do such tasks."""
        proof = self.proof and msgspec.structs.replace(self.proof, agent="", work="", must=False)
        return msgspec.structs.replace(self, by="", alone=False, project="", cap=None, proof=proof)

    @property
    def fallback(self) -> "Requirements | None":
        """The rest of the chain, if the task is not to wait for its first strategy for ever."""
        if not self.patience_s or len(self.strategies) < 2:  # noqa: PLR2004 - the first one and another
            return None
        return msgspec.structs.replace(self.place, strategies=self.strategies[1:])

    @property
    def text(self) -> str:
        """The class these requirements form: equal requirements, equal text."""
        return _encoder.encode(self).decode()


class Way(Struct, frozen=True, kw_only=True):
    """One way in which one agent could do a class of tasks."""

    agent: str
    strategy: Strategy
    endpoint: str = ""
    model: str = ""


class Allowance(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Limits that come from budgets, not from the task; ``None``: none."""

    tokens: int | None = None
    usd: float | None = None


class Seen(Struct, frozen=True, array_like=True):
    """A way that was weighed for a task, with all that its choice depended on, so that it can be made again.

    ``terms`` are those of :class:`hub.core.terms.Terms` in their order, in seconds; ``share`` of the agent's slots was
    in use; ``turn`` is smaller for an agent that was given work longer ago; ``is_second``: it is one of the rest of the
    chain, for when the first choice would take too long.
    """

    agent: str
    endpoint: str
    model: str
    strategy: Strategy
    terms: tuple[float, ...]
    share: float
    turn: int
    is_second: bool = False


class Placement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A routing decision without the tier, as an attempt keeps it. ``at_ms`` is Unix time in milliseconds."""

    strategy: Strategy
    executor: str
    agent: str
    reason: str
    at_ms: int
    endpoint: str = ""
    model: str = ""
    candidates: tuple[Candidate, ...] = ()
    rung: Rung | None = None
    learnt: Choice | None = None
    load: LoadPlan | None = None
    price: Price | None = None
    allowance: Allowance | None = None
    """What budgets allow an attempt whose task names no limit of its own."""
    seen: tuple[Seen, ...] = ()
    """The ways that were weighed, for whoever wants to make the decision again."""


def encode_placement(placement: Placement) -> bytes:
    """As the store keeps it."""
    return _placements.encode(placement)


def decode_placement(raw: bytes) -> Placement:
    """The placement of :func:`encode_placement`."""
    return msgspec.msgpack.decode(raw, type=Placement)


def routing_of(tier: TierDecision, placement: Placement | None, *, is_whole: bool = True) -> Routing:
    """The decision; without a placement, what is known before anybody has the task.

    ``is_whole``: with what else was looked at, which the agent that does the task need not know.
    """
    if placement is None:
        return Routing(tier=tier, reason="not assigned yet")
    return Routing(
        tier=tier,
        strategy=placement.strategy,
        executor=placement.executor,
        model=placement.model,
        endpoint=placement.endpoint,
        agent=placement.agent,
        reason=placement.reason,
        candidates=placement.candidates if is_whole else (),
        at=datetime.fromtimestamp(placement.at_ms / 1000, UTC),
        rung=placement.rung,
        learnt=placement.learnt,
        load=placement.load,
        price=placement.price,
    )


def context_bucket(tokens: int) -> int:
    """``tokens`` rounded up to a power of two from 2,048: tasks of one bucket are of one class and cost about alike."""
    return 0 if tokens <= 0 else max(LEAST_CONTEXT, 1 << (tokens - 1).bit_length())


def requirements_of(text: str) -> Requirements:
    """The requirements whose class is ``text``."""
    return msgspec.json.decode(text, type=Requirements)


def is_proof(text: str) -> bool:
    """Whether tasks of this class wait for a proof; asked of every attempt that ends, so nothing is parsed."""
    return '"proof":' in text  # a name in the JSON: within its strings the quotes are escaped


def class_of_work(text: str) -> str:
    """The class to which a task belongs that waits for a proof; of others their own."""
    proof = requirements_of(text).proof if is_proof(text) else None
    return text if proof is None else proof.work


def class_after(text: str, deaths: int, avoid: str = "") -> str:
    """The class of a task of class ``text`` after so many deaths of its agents, and a failure at ``avoid``."""
    was, alone = requirements_of(text), deaths >= ALONE_FROM_DEATHS
    avoided = was.avoid if not avoid or avoid in was.avoid else (*was.avoid, avoid)[-MAX_AVOIDED:]
    if (was.alone, was.avoid) == (alone, avoided):
        return text
    return msgspec.structs.replace(was, alone=alone, avoid=avoided).text


def class_afresh(text: str) -> str:
    """The class of a task of class ``text`` that a person lets begin again: nothing that happened counts."""
    return msgspec.structs.replace(requirements_of(class_of_work(text)), alone=False, avoid=()).text


def route(
    spec: TaskSpec,
    chains: Mapping[Tier, Sequence[Strategy]] = DEFAULT_CHAINS,
    by: str = "",
    patience: Mapping[Tier, float] = {},
) -> tuple[TierDecision, Requirements]:
    """How hard the task of the submitter ``by`` counts as, and what it requires.

    ``patience``: seconds to wait for the first strategy of the chain, by tier, before another one will do; 0: for ever.
    """
    tier = infer(spec)
    executor = spec.executor if spec.executor != "auto" else _executor(spec)
    needs = _needs(spec) if spec.needs or spec.verification or spec.artifacts or spec.secrets else ()
    if executor in NO_MODEL:
        budget = spec.budget
        if budget is not _PLAIN and not asks_models(executor, needs):
            budget = replace(_PLAIN, seconds=budget.seconds)
        return tier, _without_model(executor, needs, by, spec.project, _cap(budget))
    return tier, Requirements(
        executor=executor,
        strategies=tuple(chains.get(tier.effective) or DEFAULT_CHAINS[tier.effective]),
        model=spec.model,
        needs=needs,
        context=context_bucket(_prompt_tokens(spec)),
        topic=topic_of(spec, executor, tier.effective) if spec.learning else "",
        repo=repo_digest(spec.context.repo),
        by=by,
        patience_s=patience.get(tier.effective, 0.0),
        project=spec.project,
        cap=_cap(spec.budget),
    )


def _needs(spec: TaskSpec) -> tuple[str, ...]:
    """What an agent has to have; an older sidecar would run no such check, keep no files, and ask for no secrets."""
    checking = capabilities_for(spec.verification) if spec.verification else ()
    secrets = (SECRETS,) if spec.secrets else ()
    return tuple(sorted({*spec.needs, *((ARTIFACTS,) if spec.artifacts else ()), *secrets, *checking}))


@lru_cache(1_024)  # such tasks are few kinds, and come by the hundred
def _without_model(executor: str, needs: tuple[str, ...], by: str, project: str, cap: Cap | None) -> Requirements:
    return Requirements(executor=executor, strategies=_TRIVIAL, needs=needs, by=by, project=project, cap=cap)


def asks_models(executor: str, needs: Sequence[str]) -> bool:
    """Whether a program of the work asks models by itself: no model is chosen for it, but it uses tokens."""
    return executor == EXTERNAL or (executor == "shell" and ASKS in needs)


def _cap(budget: Budget) -> Cap | None:
    if budget is _PLAIN or (budget.tokens, budget.usd, budget.seconds) == (_PLAIN.tokens, _PLAIN.usd, _PLAIN.seconds):
        return None
    usd = None if budget.usd is None else micro(budget.usd)
    return budget.tokens, usd, int(budget.seconds * 1000)


def class_returned(text: str) -> str:
    """The class of a task of class ``text`` that a person has sent back."""
    return msgspec.structs.replace(requirements_of(class_of_work(text)), returned=True, avoid=()).text


def class_on(text: str, rung: Rung, strategy: Strategy) -> str:
    """The class of a task of class ``text`` once it stands on ``rung``."""
    was = requirements_of(text)
    return msgspec.structs.replace(was, rung=rung, model=rung.model, strategies=(strategy,)).text


def repo_digest(address: str) -> str:
    """A short name for a repository that does not show its address, which may hold a password; empty without one."""
    return blake2s(address.encode(), digest_size=6).hexdigest() if address else ""


def _prompt_tokens(spec: TaskSpec) -> int:
    """Tokens of what the submitter has written; files are not opened to place a task."""
    texts = (spec.title, spec.prompt, spec.context.notes, *spec.success_criteria)
    return int(sum(len(text) for text in texts) / CHARS_PER_TOKEN)


def _executor(spec: TaskSpec) -> str:
    if spec.command:
        return "shell"
    if spec.save_as:
        return "chat"
    return "agent" if spec.context.repo or spec.context.files or spec.verification else "chat"


def model_on(endpoint: EndpointReport, wanted: str) -> str:
    """The model that ``endpoint`` would use for a task that asks for ``wanted``; empty: it has none that fits.

    Without a wish the endpoint's default is taken, else its first model. A cloud endpoint that lists no models serves
    any name of its maker.
    """
    names = [model.name for model in endpoint.models]
    if not wanted:
        return endpoint.default_model or (names[0] if names else "")
    for name in (wanted, f"{wanted}:latest"):
        if name in names:
            return name
    if not names and not endpoint.local:
        is_claude = wanted.startswith("claude")
        return wanted if is_claude == (endpoint.kind == "anthropic") else ""
    return ""
