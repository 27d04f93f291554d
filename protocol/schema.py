"""Check what people send, and say everything that is wrong with it at once.

msgspec checks fast but stops at the first problem. The good case takes its way; only when it refuses does the slow walk
(:mod:`protocol.walk`) run, which visits every field and collects all problems with their paths. Rules that types cannot
tell (exact sizes, names, fields that need each other) follow in :func:`spec_problems`.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct, inspect

from protocol import codec, limits, traces
from protocol.checking import check_problems, path_problems
from protocol.checks import CheckJudge
from protocol.errors import BadInput, Problem
from protocol.git import has_login
from protocol.ids import LABEL, PROJECT, TASK_ID
from protocol.keystore import use_problems
from protocol.model import TaskSpec
from protocol.walk import HUGE, did_you_mean, first_problems, under

T = TypeVar("T", bound=Struct)
_STEP: Final = re.compile(r"[^.\[\]]+")
_WELL_FORMED: Final = {"type": "git_clean"}
EXECUTORS: Final = ("auto", "noop", "shell", "chat", "agent", "acp")
_UNASKED, _ASKED = frozenset({"auto", "noop"}), frozenset({"chat", "agent", "acp"})
"""Those that take any text, and those for which there has to be a prompt."""
_PLAIN: Final = TaskSpec()
_FEW_CHARS: Final = limits.MAX_TITLE_CHARS // 2
_ELSEWHERE: Final = frozenset({"title", "prompt", "command", "executor", "model", "labels"})
_NEVER_WRONG: Final = frozenset({"priority", "complexity", "escalation", "learning", "clean_room"})
_PLAIN_WORDS: Final = _ELSEWHERE | _NEVER_WRONG
_beside: Final = attrgetter(*[n for n in TaskSpec.__struct_fields__ if n not in _PLAIN_WORDS])
"""What a spec says beside its texts and labels that could be wrong."""
_NOTHING_BESIDE: Final = _beside(_PLAIN)
_type_info: Final = lru_cache(64)(inspect.type_info)
"""What is known of a shape: made out anew it takes milliseconds, and a batch may hold a thousand wrong tasks."""


def read(value: object, shape: type[T], what: str) -> T:
    """``value`` (decoded JSON) as ``shape``.

    Raises:
        BadInput: it is not one; all problems of type and structure are listed.
    """
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as exc:
        found = first_problems(value, _type_info(shape))
        raise BadInput(found or [Problem("", str(exc))], what) from exc


def read_plain(values: list[Any]) -> list[TaskSpec] | None:
    """These as task specs, if one look tells that nothing is wrong with any of them; most batches are like that."""
    try:
        # A list has to be made out anew with every call: too dear for one.
        specs = [msgspec.convert(values[0], TaskSpec)] if len(values) == 1 else msgspec.convert(values, list[TaskSpec])
    except msgspec.ValidationError:
        return None
    # What was not said is at its default, and need not be looked at.
    is_plain = _has_plain_texts if all(map(_PLAIN_WORDS.issuperset, values)) else _is_plain
    return specs if all(map(is_plain, specs)) else None


def read_spec(value: object, path: str = "") -> tuple[TaskSpec | None, list[Problem]]:
    """``value`` as a task spec, and everything that is wrong with it (the spec is ``None`` if anything is).

    ``path`` is put before every problem's own path (``tasks[3]``).
    """
    spec: TaskSpec | None = None
    try:
        spec = read(value, TaskSpec, "task")
        problems = [] if _is_plain(spec) else list(spec_problems(spec))
    except BadInput as exc:
        problems = [*exc.problems, *_rest(value, exc.problems)]
    if not problems:
        return spec, []
    return None, [Problem(under(path, p.path), p.problem) for p in problems]


def _rest(value: object, found: list[Problem]) -> list[Problem]:
    """Problems of what has the right type, when other parts have not."""
    if not isinstance(value, Mapping):
        return []
    good: dict[str, Any] = {name: part for name, part in value.items() if name in TaskSpec.__struct_fields__}
    for problem in found:
        good = _without(good, _STEP.findall(problem.path))
    try:
        spec = msgspec.convert(good, TaskSpec)
    except msgspec.ValidationError:
        return []  # a part that its neighbours need is gone with the bad one
    return [problem for problem in spec_problems(spec) if problem.path and problem not in found]


def _without(value: dict[str, Any], steps: list[str]) -> dict[str, Any]:
    """A copy of ``value`` that lacks what ``steps`` lead to.

    A bad check is replaced by one that is always well-formed, so that the others keep their numbers; another list goes
    as a whole.
    """
    name = steps[0] if steps else ""
    if name not in value:
        return value
    part = value[name]
    rest = {key: kept for key, kept in value.items() if key != name}
    if name == "verification" and isinstance(part, list) and len(steps) > 1:
        place = int(steps[1])
        return rest | {name: [_WELL_FORMED if n == place else entry for n, entry in enumerate(part)]}
    if isinstance(part, Mapping) and len(steps) > 1:
        return rest | {name: _without(dict(part), steps[1:])}
    return rest


def spec_problems(spec: TaskSpec) -> Iterator[Problem]:
    """What is wrong with a well-typed task spec."""
    if not (spec.title.strip() or spec.prompt.strip() or spec.command.strip()):
        yield Problem("", "nothing to do: give a title, a prompt or a command")
    is_short = _is_short(spec)
    if not is_short:
        yield from _sizes(spec)
        yield from _repository(spec)
    yield from _executor(spec)
    for number, check in enumerate(spec.verification):
        yield from check_problems(check, f"verification[{number}]")
    if spec.verification and all(isinstance(check, CheckJudge) for check in spec.verification):
        yield Problem("verification", "what a model thinks proves nothing by itself: give another check beside 'judge'")
    yield from _numbers(spec)
    yield from _names(spec)
    yield from use_problems(spec.secrets)
    if not is_short:
        yield from _whole(spec)


def _names(spec: TaskSpec) -> Iterator[Problem]:
    for path, names, pattern, kind in (
        ("needs", spec.needs, LABEL, "a capability name"),
        ("depends_on", spec.depends_on, TASK_ID, "a task id"),
    ):
        for number, name in enumerate(names):
            if not pattern.fullmatch(name):
                yield Problem(f"{path}[{number}]", f"not {kind}: {name[:60]!r}")
    if spec.project and not PROJECT.fullmatch(spec.project):
        yield Problem("project", f"not the name of a project: {spec.project[:60]!r}")
    if spec.traceparent and traces.read(spec.traceparent) is None:
        yield Problem("traceparent", f"not one of W3C Trace Context: {spec.traceparent[:60]!r}")
    if spec.parent is not None and not TASK_ID.fullmatch(spec.parent):
        yield Problem("parent", f"not a task id: {spec.parent[:60]!r}")
    for key, value in spec.labels.items():
        if not LABEL.fullmatch(key) or len(value) > limits.MAX_TITLE_CHARS:
            yield Problem(
                f"labels.{key[:60]}",
                f"a key of letters, digits and ._:/- with a value of at most {limits.MAX_TITLE_CHARS} characters",
            )


def _is_plain(spec: TaskSpec) -> bool:
    """Whether one look tells that :func:`spec_problems` would find nothing: texts, labels, and little else."""
    return _beside(spec) == _NOTHING_BESIDE and _has_plain_texts(spec)


def _has_plain_texts(spec: TaskSpec) -> bool:
    if not _has_room(spec):
        return False
    if spec.labels and any(_names(spec)):
        return False
    if spec.executor == "shell":
        return bool(spec.command.strip())
    text = spec.title or spec.prompt
    if spec.executor in _ASKED:
        return bool(text.strip())
    return spec.executor in _UNASKED and bool((text or spec.command).strip())


def _has_room(spec: TaskSpec) -> bool:
    """Whether its texts and labels are neither too long nor anything but text."""
    if len(spec.labels) > limits.MAX_LABELS:
        return False
    texts = f"{spec.title}{spec.prompt}{spec.command}{spec.model}"
    if spec.labels:
        texts = "".join([texts, *spec.labels, *spec.labels.values()])
    if not texts.isascii() or "\0" in texts:
        return _is_short(spec)
    return len(texts) <= _FEW_CHARS or (
        len(texts) <= limits.MAX_SPEC_BYTES // 2
        and len(spec.title) <= limits.MAX_TITLE_CHARS
        and len(spec.model) <= limits.MAX_TITLE_CHARS
        and len(spec.prompt) <= limits.MAX_PROMPT_BYTES
        and len(spec.command) <= limits.MAX_COMMAND_BYTES
    )


def _is_short(spec: TaskSpec) -> bool:
    """Whether it is so short as a whole that none of its parts can be too long: most are."""
    if spec.needs or spec.success_criteria or spec.verification or spec.depends_on or spec.artifacts:
        return False
    if spec.secrets or "\0" in spec.title or "\0" in spec.command or spec.context != _PLAIN.context:
        return False
    texts = f"{spec.title}{spec.prompt}{spec.command}{spec.executor}{spec.model}"
    if spec.parent or spec.save_as or spec.project:
        texts = f"{texts}{spec.parent}{spec.save_as}{spec.project}"
    if spec.labels:
        if len(spec.labels) > limits.MAX_LABELS:
            return False
        texts = "".join([texts, *spec.labels, *spec.labels.values()])
    if texts.isascii() and len(texts) <= limits.MAX_TITLE_CHARS // 2:
        return True
    try:
        return len(codec.encode_spec(spec)) <= limits.MAX_TITLE_CHARS
    except (UnicodeEncodeError, OverflowError):
        return False


def _whole(spec: TaskSpec) -> Iterator[Problem]:
    try:
        size = len(codec.encode_spec(spec))
    except UnicodeEncodeError:
        yield from _halves(msgspec.to_builtins(spec), "")
        return
    except OverflowError:
        return  # a number beyond 64 bits, which has its own problem already
    if size > limits.MAX_SPEC_BYTES:
        most = f"{limits.MAX_SPEC_BYTES:,}"
        yield Problem("", f"{size:,} bytes as a whole; at most {most}: put bulk into the repository")


def _halves(value: object, path: str) -> Iterator[Problem]:
    """Texts that JSON can carry and UTF-8 cannot."""
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        yield Problem(path, "contains a half of a character pair (U+D800 to U+DFFF), which is no text")
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _halves(part, under(path, key))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _halves(part, f"{path}[{number}]")


def _sizes(spec: TaskSpec) -> Iterator[Problem]:
    for path, text, most in (
        ("prompt", spec.prompt, limits.MAX_PROMPT_BYTES),
        ("command", spec.command, limits.MAX_COMMAND_BYTES),
        ("context.notes", spec.context.notes, limits.MAX_PROMPT_BYTES),
    ):
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > most:
            yield Problem(path, f"{size:,} bytes; at most {most:,}: put long material into a file of the repository")
    if len(spec.title) > limits.MAX_TITLE_CHARS:
        yield Problem(
            "title", f"{len(spec.title)} characters; at most {limits.MAX_TITLE_CHARS}: put the rest into prompt"
        )
    if len(spec.model) > limits.MAX_TITLE_CHARS:
        yield Problem("model", f"{len(spec.model)} characters; at most {limits.MAX_TITLE_CHARS}")
    for path, entries, most in (
        ("verification", spec.verification, limits.MAX_CHECKS),
        ("success_criteria", spec.success_criteria, limits.MAX_CRITERIA),
        ("context.files", spec.context.files, limits.MAX_FILES),
        ("labels", spec.labels, limits.MAX_LABELS),
        ("needs", spec.needs, limits.MAX_NEEDS),
        ("depends_on", spec.depends_on, limits.MAX_DEPENDENCIES),
        ("artifacts", spec.artifacts, limits.MAX_ARTIFACT_NAMES),
    ):
        if len(entries) > most:
            yield Problem(path, f"{len(entries)} entries; at most {most}")
    for path, text in (
        ("title", spec.title),
        ("command", spec.command),
        ("context.repo", spec.context.repo),
        ("context.branch", spec.context.branch),
    ):
        if "\0" in text:
            yield Problem(path, "contains a NUL character")


def _repository(spec: TaskSpec) -> Iterator[Problem]:
    if has_login(spec.context.repo):
        why = "the address carries credentials, which everybody would see; put them into the sidecar user's ~/.netrc"
        yield Problem("context.repo", why)


def _executor(spec: TaskSpec) -> Iterator[Problem]:
    if spec.executor not in EXECUTORS:
        near = did_you_mean(spec.executor, EXECUTORS)
        yield Problem("executor", f"no executor {spec.executor[:60]!r}; known: {', '.join(EXECUTORS)}{near}")
    if spec.executor == "shell" and not spec.command.strip():
        yield Problem("command", "executor 'shell' needs a command")
    if spec.executor in {"chat", "agent", "acp"} and not (spec.prompt.strip() or spec.title.strip()):
        yield Problem("prompt", f"executor {spec.executor!r} needs a prompt")
    if spec.save_as:
        yield from path_problems(spec.save_as, "save_as")
    for number, name in enumerate(spec.context.files):
        yield from path_problems(name, f"context.files[{number}]")
    for number, name in enumerate(spec.artifacts):
        yield from path_problems(name, f"artifacts[{number}]")


def path_problem(name: str) -> str:
    """Why ``name`` is no path inside a workspace; empty: it is one."""
    return next((problem.problem for problem in path_problems(name, "path")), "")


def _has_usual_numbers(spec: TaskSpec) -> bool:
    return (
        spec.budget == _PLAIN.budget
        and spec.max_retries == _PLAIN.max_retries
        and spec.ttl_s is None
        and spec.complete_by is None
        and spec.run_after is None
    )


def _numbers(spec: TaskSpec) -> Iterator[Problem]:
    budget = spec.budget
    if _has_usual_numbers(spec):
        return
    for path, number, least, most in (
        ("max_retries", spec.max_retries, 0, limits.MAX_RETRIES),
        ("budget.fix_attempts", budget.fix_attempts, 0, limits.MAX_FIX_ATTEMPTS),
        ("budget.tokens", budget.tokens, 1, 10**9),
        ("budget.usd", budget.usd, 0, 10**6),
        ("budget.seconds", budget.seconds, 0.1, 7 * 86_400),
        ("ttl_s", spec.ttl_s, 0.001, 366 * 86_400),
    ):
        if number is not None and not least <= number <= most:
            found = f"{number:g}" if abs(number) < HUGE else "a number far too large"
            yield Problem(path, f"{found}; from {least:g} to {most:g}")
    for path, at in (("complete_by", spec.complete_by), ("run_after", spec.run_after)):
        if at is not None and at.tzinfo is None:
            yield Problem(path, "has no time zone; write it like 2026-01-31T12:00:00Z")
    if (
        spec.complete_by
        and spec.run_after
        and spec.complete_by.tzinfo
        and spec.run_after.tzinfo
        and spec.complete_by <= spec.run_after
    ):
        yield Problem("complete_by", "is not after run_after")


def utc(at: datetime) -> datetime:
    """``at`` in UTC."""
    return at.astimezone(UTC)
