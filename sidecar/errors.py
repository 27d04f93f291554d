"""What can go wrong on this machine while an attempt runs, and which class of failure each of these is.

Branches of ``WorkFailed`` in :mod:`protocol.errors`::

    WorkFailed
    ├── UploadFailed            a file could not be kept
    ├── CannotStart             a program could not be started at all
    ├── CannotTell              this machine cannot prove work of another one
    ├── DiskQuota               it has taken more of the disk than an attempt may
    ├── DiskFull                the disk is nearly full, and it had taken most of it
    ├── EndpointDown
    │   ├── EndpointBusy
    │   │   └── ServerFull      a server of ours takes no more requests for now; whoever waits gets a turn
    │   └── EndpointStalled     it took the request and then said nothing for too long
    ├── ModelFailed
    │   ├── AgentFailed         a coding agent of somebody else did not get through its work
    │   │   ├── AgentCrashed    its program ended in the middle of it
    │   │   ├── AgentGarbled    what it says is not the protocol
    │   │   ├── AgentRefused    it answered with an error
    │   │   ├── AgentSilent     it says nothing
    │   │   └── AgentStopped    it stopped before it was done
    │   ├── AnswerEndless       it goes on far beyond what was asked for
    │   └── PromptTooLong
    │       └── PromptCut       the server has read less than it was sent, and said nothing
    ├── AgentMissing            no such coding agent here
    ├── AgentUnmetered          nobody counts what a coding agent uses
    ├── SandboxFailed           it could not be confined, so it was not started
    └── WorkspaceFailed
        ├── RepositoryInvalid   not an address that we hand to git; input
        ├── RepositoryMissing   there is no such repository; input
        ├── BranchMissing       the repository has no such branch; input
        ├── RepositoryRefused   it asks for credentials that this host lacks, or refuses them
        ├── RepositoryUnreachable   the network, or the server, does not answer; worth another try
        ├── PushRefused         the remote did not take the branch
        ├── WorkUnreadable      what the work has left in its repository is in the way
        └── GitFailed           any other git command that failed

:class:`LeaseOver` and :class:`ProgressUnheard` are none of them: they say that the work has to stop, whatever it is
worth, or cannot begin here.

:func:`failure_of` tells the runner which class to report, so that a task whose input can never work is not tried again.
"""

from typing import Final

from protocol.errors import (
    AgentComError,
    BudgetSpent,
    EndpointBusy,
    EndpointDown,
    ModelFailed,
    PromptTooLong,
    Unpriced,
    WorkFailed,
    WorkspaceFailed,
)
from protocol.git import masked
from protocol.model import AttemptId, FailureClass


class CannotStart(WorkFailed):
    """A program could not be started: its text holds a NUL byte, its folder is gone, the machine is out of processes.

    A program that simply is not there is no error but exit code 127, as a shell gives it.
    """

    code = "cannot_start"

    def __init__(self, program: str, why: str, failure: FailureClass) -> None:
        self.program, self.failure = program, failure
        super().__init__(f"cannot start {program!r}: {why}")


class CannotTell(WorkFailed):
    """Whether the checks of another machine's work pass cannot be found out here; says nothing about the work."""

    code = "cannot_tell"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"whether its checks pass cannot be told here: {reason}")


class SandboxFailed(WorkFailed):
    """A program could not be confined, so nothing of it has run."""

    code = "sandbox_failed"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the sandbox of this host failed, so nothing was run: {reason}")


class DiskQuota(WorkFailed):
    """The files of the attempt take more of the disk than an attempt may take here: its own doing."""

    code = "disk_quota"

    def __init__(self, most_bytes: int, why: str = "") -> None:
        self.most_bytes, self.why = most_bytes, why
        super().__init__(
            f"{why or 'its files take too much of the disk'}: at most {most_bytes >> 20:,} MiB are allowed for an "
            "attempt here; the owner of the machine can change that (sandbox_disk_mb)"
        )


class DiskFull(WorkFailed):
    """The disk of this host is nearly full, and of all attempts this one has taken most of it."""

    code = "disk_full"

    def __init__(self, free_bytes: int, taken_bytes: int) -> None:
        self.free_bytes, self.taken_bytes = free_bytes, taken_bytes
        super().__init__(
            f"the disk of this machine has {free_bytes >> 20:,} MiB left, and of all attempts here this one has taken "
            f"most of it: {taken_bytes >> 20:,} MiB"
        )


class UploadFailed(WorkFailed):
    """A file that the task wants kept could not be: the hub refuses it, has no room, or does not answer for too long.

    ``failure`` says whether trying again can help.
    """

    code = "upload_failed"

    def __init__(self, path: str, why: str, failure: FailureClass) -> None:
        self.path, self.failure = path, failure
        super().__init__(f"artifact {path!r} could not be kept: {why}")


class LeaseOver(AgentComError):
    """The hub may have given the attempt to somebody else: nothing may happen for it any more.

    No failure of the work, so nothing that handles those may take it for one: only ``sidecar/rounds.py`` answers it.
    """

    code = "lease_over"

    def __init__(self, attempt: AttemptId) -> None:
        self.attempt = attempt
        super().__init__(attempt)

    def __str__(self) -> str:
        return f"the lease of attempt {self.attempt.epoch} may be over, so it was stopped"


class ProgressUnheard(AgentComError):
    """The hub does not give out now what an earlier attempt has left: to begin anew would lose it.

    No failure of the work either: after one that failed nothing is left to go on from.
    """

    code = "progress_unheard"

    def __init__(self, task: str, why: str) -> None:
        self.task, self.why = task, why
        super().__init__(f"what an earlier attempt at {task} has left could not be had from the hub: {why}")


class SecretsUnheard(AgentComError):
    """The hub does not say now which values the secrets of the task have: another attempt asks again."""

    code = "secrets_unheard"

    def __init__(self, task: str, seconds: float) -> None:
        self.task, self.seconds = task, seconds
        super().__init__(f"the secrets of {task} could not be had from the hub within {seconds:g} s")


class SecretMissing(WorkFailed):
    """The task names a secret that the hub does not keep, or not for it; ``why`` is the hub's word."""

    code = "secret_missing"


class SecretUnreadable(WorkFailed):
    """The hub keeps the secret and cannot open it: its key may come back."""

    code, retryable = "secret_unreadable", True


class ServerFull(EndpointBusy):
    """A server of ours has more requests than it lets wait, or is not up yet; no quota is used up."""

    code = "server_full"


class EndpointStalled(EndpointDown):
    """The LLM endpoint took the request and has been silent for longer than loading and reading can take."""

    code = "endpoint_stalled"

    def __init__(self, endpoint: str, phase: str, silent_s: float, tokens: int) -> None:
        self.phase, self.silent_s, self.tokens = phase, silent_s, tokens
        super().__init__(
            endpoint,
            f"no sign of life for {silent_s:.0f} s while {phase}, after {tokens} tokens; "
            "if it is only slow, give the endpoint a larger stall_s",
        )


class AnswerEndless(ModelFailed):
    """The server goes on far beyond the tokens that were asked for, so it was hung up on."""

    code = "answer_endless"

    def __init__(self, model: str, most_tokens: int, tokens: int) -> None:
        self.model, self.most_tokens, self.tokens = model, most_tokens, tokens
        super().__init__(
            f"the answer of {model} did not end: {tokens} pieces where {most_tokens} tokens were allowed; "
            "its server does not obey the limit"
        )


class AgentFailed(ModelFailed):
    """A coding agent of somebody else did not get through its work; what it has changed is there, and is checked."""

    code = "agent_failed"


class AgentCrashed(AgentFailed):
    """The program of an agent ended in the middle of its work."""

    code = "agent_crashed"

    def __init__(self, program: str, exit_code: int | None, said: str) -> None:
        self.program, self.exit_code = program, exit_code
        ended = "was ended" if exit_code is None else f"ended with exit code {exit_code}"
        last = said.strip().rpartition("\n")[2][-300:]
        super().__init__(f"{program} {ended} in the middle of its work{f': {last}' if last else ''}")


class AgentGarbled(AgentFailed):
    """What an agent says is not the protocol that it was started for."""

    code = "agent_garbled"

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(f"the agent does not speak the Agent Client Protocol: {found}")


class AgentRefused(AgentFailed):
    """An agent answered our request with an error; ``number`` is its code."""

    code = "agent_refused"

    def __init__(self, number: object, said: str) -> None:
        self.number, self.said = number, said
        super().__init__(f"the agent answered with error {number}: {said[:500]}")


class AgentMissing(WorkFailed):
    """This host has no coding agent of this name; ``known`` are those it has."""

    code = "agent_missing"

    def __init__(self, wanted: str, known: tuple[str, ...]) -> None:
        self.wanted, self.known = wanted, known
        super().__init__(f"there is no agent {wanted!r} here; there are {', '.join(known) or 'none'}")


class AgentUnmetered(WorkFailed):
    """A budget in dollars cannot be kept, as nobody counts what an agent uses while it works."""

    code = "agent_unmetered"

    def __init__(self, program: str) -> None:
        self.program = program
        super().__init__(
            f"nobody counts what {program} asks models for, so a budget in dollars cannot be kept: have it ask through "
            "the sidecar (sandbox_endpoints), or submit without such a budget"
        )


class AgentSilent(AgentFailed):
    """An agent says nothing, and asks for nothing that we are working on."""

    code = "agent_silent"

    def __init__(self, what: str, silent_s: float) -> None:
        self.silent_s = silent_s
        super().__init__(
            f"the agent is silent: {what} for {silent_s:.0f} s; if it is only slow, give it more silence_s"
        )


class AgentStopped(AgentFailed):
    """An agent stopped before it was done; ``reason`` is its own word for it."""

    code = "agent_stopped"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the agent stopped before it was done: {reason[:200]}")


class PromptCut(PromptTooLong):
    """The server has read less of the prompt than it was sent: without its beginning the answer is worth nothing."""

    code = "prompt_cut"

    def __init__(self, model: str, prompt_tokens: int, read_tokens: int, context_tokens: int) -> None:
        self.read_tokens = read_tokens
        super().__init__(
            model,
            prompt_tokens,
            context_tokens,
            f"the server cut the prompt for {model} without a word: it read {read_tokens} of about {prompt_tokens} "
            f"tokens, its context is {context_tokens}; shorten the prompt, or give the endpoint a larger num_ctx",
        )


class RepositoryInvalid(WorkspaceFailed):
    """The text in ``context.repo`` (or ``context.branch``) is nothing that is handed to git."""

    code = "repository_invalid"

    def __init__(self, repository: str, why: str) -> None:
        self.repository = repository
        super().__init__(
            f"repository {shown(repository)}: {why}; "
            "give an https:// or ssh:// address, user@host:path, or an absolute path"
        )


class RepositoryMissing(WorkspaceFailed):
    """There is no repository at this address."""

    code = "repository_missing"

    def __init__(self, repository: str, why: str) -> None:
        self.repository = repository
        super().__init__(f"repository {shown(repository)} does not exist: {why}; check the address and submit again")


class BranchMissing(WorkspaceFailed):
    """The repository has no such branch; ``known`` are branches that it has, at most ten."""

    code = "branch_missing"

    def __init__(self, repository: str, branch: str, known: tuple[str, ...]) -> None:
        self.repository, self.branch, self.known = repository, branch, known
        has = f"it has {', '.join(known)}" if known else "it has none: push a first commit"
        what = f"branch {shown(branch)}" if branch else "default branch"
        super().__init__(f"repository {shown(repository)} has no {what}; {has}")


class RepositoryRefused(WorkspaceFailed):
    """The server, or git, does not let this host in."""

    code = "repository_refused"

    def __init__(self, repository: str, why: str) -> None:
        self.repository = repository
        super().__init__(
            f"repository {shown(repository)} refuses this host: {why}; "
            "give the sidecar's user an ssh key or a ~/.netrc entry for it"
        )


class RepositoryUnreachable(WorkspaceFailed):
    """The repository does not answer now."""

    code, retryable = "repository_unreachable", True

    def __init__(self, repository: str, why: str) -> None:
        self.repository = repository
        super().__init__(f"repository {shown(repository)} does not answer: {why}")


class PushRefused(WorkspaceFailed):
    """The remote did not take the branch; nothing was overwritten there."""

    code = "push_refused"

    def __init__(self, repository: str, branch: str, why: str) -> None:
        self.repository, self.branch = repository, branch
        super().__init__(
            f"repository {shown(repository)} refused branch {branch}: {why}; the commits are kept in this host's cache"
        )


class WorkUnreadable(WorkspaceFailed):
    """What the work has left where git works cannot be read or put away: its own doing, on any machine."""

    code = "work_unreadable"

    def __init__(self, why: str, path: str) -> None:
        self.why, self.path = why, path
        super().__init__(f"what the work has left in its repository is in the way: {why}: {shown(path)}")


class GitFailed(WorkspaceFailed):
    """A git command failed for a reason that is none of the others; ``exit_code`` is ``None`` if it ran out of time."""

    code, retryable = "git_failed", True

    def __init__(self, action: str, exit_code: int | None, said: str) -> None:
        self.action, self.exit_code, self.said = action, exit_code, said
        ended = "ran out of time" if exit_code is None else f"exit code {exit_code}"
        super().__init__(f"git {action}: {ended}: {masked(said.strip())[-500:] or 'it said nothing'}")


class Paused(Exception):
    """The work stops here, to go on later, perhaps on another machine."""


_CLASSES: Final[dict[type[WorkFailed], FailureClass]] = {
    RepositoryInvalid: FailureClass.INPUT,
    RepositoryMissing: FailureClass.INPUT,
    BranchMissing: FailureClass.INPUT,
    RepositoryUnreachable: FailureClass.QUOTA,  # somebody else's server is away: it gets time to come back
    PushRefused: FailureClass.INPUT,  # the work is done and kept: doing it again would be refused again
    EndpointDown: FailureClass.QUOTA,
    ModelFailed: FailureClass.AGENT,
    WorkUnreadable: FailureClass.AGENT,
    DiskQuota: FailureClass.AGENT,
    SecretMissing: FailureClass.INPUT,
    BudgetSpent: FailureClass.BUDGET,
    Unpriced: FailureClass.BUDGET,
    AgentUnmetered: FailureClass.BUDGET,
}


def failure_of(error: WorkFailed) -> FailureClass:
    """The class to report for ``error``: input is never tried again, infra costs no retry."""
    if isinstance(error, CannotStart | UploadFailed):
        return error.failure
    return next((found for kind, found in _CLASSES.items() if isinstance(error, kind)), FailureClass.INFRA)


def shown(text: str, limit: int = 200) -> str:
    """``text`` quoted for a message: without credentials, control characters escaped, what is too long cut."""
    text = masked(text)
    return repr(text if len(text) <= limit else text[:limit] + "...")
