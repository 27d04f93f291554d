"""The promises of the error tree: stable codes, pinned texts, and a docstring that tells the truth."""

import re

import pytest

from protocol import errors
from protocol.errors import AgentComError, Problem

EXAMPLES: dict[str, tuple[AgentComError, str, bool, str]] = {
    "AgentComError": (AgentComError("odd"), "error", False, "odd"),
    "BadInput": (
        errors.BadInput([Problem("a.b[2]", "is empty"), Problem("", "nothing to do")], "task"),
        "bad_input",
        False,
        "task has 2 problems: a.b[2]: is empty; nothing to do",
    ),
    "FrameTooLarge": (
        errors.FrameTooLarge(2_000_000, 1_048_576),
        "frame_too_large",
        False,
        "frame has 1 problem: 2000000 bytes, at most 1048576",
    ),
    "ArtifactTooLarge": (
        errors.ArtifactTooLarge("a.bin", "5 bytes, at most 4"),
        "artifact_too_large",
        False,
        "artifact has 1 problem: path: 'a.bin': 5 bytes, at most 4",
    ),
    "MalformedFrame": (
        errors.MalformedFrame("no message"),
        "malformed_frame",
        False,
        "frame has 1 problem: no message",
    ),
    "Refused": (errors.Refused("no"), "refused", False, "no"),
    "Unauthenticated": (
        errors.Unauthenticated("unknown token"),
        "unauthenticated",
        False,
        "unknown token; send a valid token as 'Authorization: Bearer acm_...'",
    ),
    "Forbidden": (
        errors.Forbidden("viewer", "tasks:submit", ("admin", "submitter")),
        "forbidden",
        False,
        "role 'viewer' may not tasks:submit; roles that may: admin, submitter",
    ),
    "OutOfScope": (
        errors.OutOfScope("projects", ("api", "web"), "events:read"),
        "out_of_scope",
        False,
        "this token is bound to projects api, web: it is not good for events:read",
    ),
    "NotYours": (
        errors.NotYours("submitter", "task 01h", "tasks:control"),
        "not_yours",
        False,
        "task 01h was submitted with another token, and role 'submitter' has tasks:control for its own only",
    ),
    "NotFound": (errors.NotFound("task", "01h"), "not_found", False, "no task '01h'"),
    "Conflict": (errors.Conflict("taken"), "conflict", False, "taken"),
    "StaleTask": (
        errors.StaleTask("01h", "queued", "running"),
        "stale_task",
        True,
        "task 01h: expected queued, found running",
    ),
    "StaleAttempt": (
        errors.StaleAttempt("01h", 1, 2, "running"),
        "stale",
        False,
        "task 01h: attempt 1 does not count, the task is running at attempt 2",
    ),
    "IllegalTransition": (
        errors.IllegalTransition("task 01h", "queued", "accept", ("claim", "cancel")),
        "illegal_transition",
        False,
        "task 01h: 'accept' is not allowed in state queued; allowed: claim, cancel",
    ),
    "IdempotencyConflict": (
        errors.IdempotencyConflict("k1"),
        "idempotency_conflict",
        False,
        "Idempotency-Key 'k1' was used before with another body; use a new key for a new request",
    ),
    "Unavailable": (errors.Unavailable("busy", 2.5), "unavailable", True, "busy; try again in 2.5 s"),
    "HubUnreachable": (
        errors.HubUnreachable("http://h:1", "connection refused"),
        "hub_unreachable",
        True,
        "cannot reach the hub at http://h:1: connection refused",
    ),
    "StoreFailed": (errors.StoreFailed("disk full"), "store_failed", True, "disk full"),
    "StoreDamaged": (
        errors.StoreDamaged("/d/hub.sqlite", "a page is wrong", ("agentcom restore FILE",)),
        "store_damaged",
        False,
        "the store /d/hub.sqlite is damaged: a page is wrong",
    ),
    "ReadOnly": (
        errors.ReadOnly(("agentcom restore FILE",)),
        "read_only",
        False,
        "this hub is read-only, its store is looked at, not used: agentcom restore FILE",
    ),
    "Overloaded": (errors.Overloaded("full", 1.0), "overloaded", True, "full; try again in 1 s"),
    "Throttled": (errors.Throttled("9 of yours wait", 2.0), "throttled", True, "9 of yours wait; try again in 2 s"),
    "StorageFull": (errors.StorageFull("no room", 5.0), "storage_full", True, "no room; try again in 5 s"),
    "VersionMismatch": (
        errors.VersionMismatch((1, 1), (2, 3)),
        "version_mismatch",
        False,
        "no common protocol version: we speak 1 to 1, the peer speaks 2 to 3; upgrade this side",
    ),
    "ProtocolViolation": (
        errors.ProtocolViolation("a hello", "an ack"),
        "protocol_violation",
        False,
        "expected a hello, found an ack",
    ),
    "WorkFailed": (errors.WorkFailed("no luck"), "work_failed", False, "no luck"),
    "EndpointDown": (errors.EndpointDown("o1", "no answer"), "endpoint_down", True, "endpoint o1: no answer"),
    "EndpointBusy": (
        errors.EndpointBusy("o1", "429", 7.0),
        "endpoint_busy",
        True,
        "endpoint o1: 429; it asks to come back in 7 s",
    ),
    "EndpointRefused": (errors.EndpointRefused("o1", "401"), "endpoint_refused", False, "endpoint o1: 401"),
    "ModelFailed": (errors.ModelFailed("cut off"), "model_failed", False, "cut off"),
    "ModelMissing": (
        errors.ModelMissing("o1", "qwen", ("a", "b")),
        "model_missing",
        False,
        "endpoint o1 has no model 'qwen'; it has a, b",
    ),
    "PromptTooLong": (
        errors.PromptTooLong("qwen", 9_000, 8_192),
        "prompt_too_long",
        False,
        (
            "the prompt of about 9000 tokens does not fit the 8192 tokens of context of qwen; "
            "shorten it, name fewer files, or give the endpoint a larger num_ctx"
        ),
    ),
    "ToolsUnsupported": (errors.ToolsUnsupported("no tools"), "tools_unsupported", False, "no tools"),
    "WorkspaceFailed": (errors.WorkspaceFailed("no repo"), "workspace_failed", False, "no repo"),
    "Unpriced": (
        errors.Unpriced("m", "box"),
        "unpriced",
        False,
        (
            "no price is known for model m on box, so a budget in dollars cannot be kept: set one at the hub "
            "(agentcom hub --price 'm=INPUT/OUTPUT', dollars for a million tokens), or submit without such a budget"
        ),
    ),
    "BudgetSpent": (
        errors.BudgetSpent("tokens", 100, 120),
        "budget_spent",
        False,
        "budget of 100 tokens is spent (used 120)",
    ),
}


def classes() -> dict[str, type[AgentComError]]:
    """Every error class of the module."""
    return {
        name: thing
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, AgentComError)
    }


def test_every_error_class_is_pinned_here() -> None:
    assert sorted(EXAMPLES) == sorted(classes())


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_code_and_the_text_of_an_error_are_stable(name: str) -> None:
    error, code, retryable, text = EXAMPLES[name]

    assert type(error) is classes()[name]
    assert (error.code, error.retryable, str(error)) == (code, retryable, text)


def test_every_code_names_one_class() -> None:
    codes = [kind.code for kind in classes().values()]

    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    "error, text",
    [
        (errors.Forbidden("agent", "tasks:read"), "role 'agent' may not tasks:read"),
        (errors.StaleTask("01h", "queued", None), "task 01h: expected queued, it is gone"),
        (
            errors.StaleAttempt("01h", 3, None, None),
            "task 01h: attempt 3 does not count, the task is unknown here",
        ),
        (
            errors.IllegalTransition("task 01h", "completed", "cancel", ()),
            "task 01h: 'cancel' is not allowed in state completed; allowed: none, it is final",
        ),
        (errors.Unavailable("busy"), "busy"),
        (
            errors.VersionMismatch((2, 3), (1, 1)),
            "no common protocol version: we speak 2 to 3, the peer speaks 1 to 1; upgrade the peer",
        ),
        (errors.EndpointBusy("o1", "overloaded"), "endpoint o1: overloaded"),
        (errors.ModelMissing("o1", "qwen"), "endpoint o1 has no model 'qwen'"),
        (errors.BadInput([]), "input has 0 problems: "),
        (
            errors.ReadOnly(),
            "this hub is read-only, its store is looked at, not used: start it without --read-only",
        ),
    ],
)
def test_the_text_follows_from_the_facts(error: AgentComError, text: str) -> None:
    assert str(error) == text


def drawn() -> dict[str, str]:
    """Each class of the docstring's tree and the class it hangs from."""
    parents: dict[str, str] = {}
    line_of: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ((?:│   |    )*)(?:├── |└── )?([A-Z]\w+)", line)
        if found is None:
            continue
        depth = len(found[1]) // 4 + (1 if "── " in line else 0)
        del line_of[depth:]
        line_of.append(found[2])
        parents[found[2]] = line_of[depth - 1] if depth else ""
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    built = {name: kind.__bases__[0].__name__ for name, kind in classes().items()}
    built["AgentComError"] = ""

    assert drawn() == built


def test_an_error_keeps_its_facts_as_fields() -> None:
    error = errors.StaleAttempt("01h", 1, 2, "running")

    assert (error.task, error.epoch, error.current, error.state) == ("01h", 1, 2, "running")
