"""Secrets: how a task names those that it needs, and the shapes of ``/api/v1/secrets``, which never hold a value back.

A secret is known by its name, which is also the variable that the work finds it in unless the task names another one.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.bounds import Few, Word
from protocol.error_base import Problem
from protocol.ids import PROJECT
from protocol.limits import LEAST_SECRET_CHARS, MAX_SECRET_BYTES, MAX_SECRETS

SECRETS: Final = "secrets"
"""Capability of a sidecar that asks for the secrets which a task names, and knows how to hide them."""
SECRET_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
MAX_SECRET_PROJECTS: Final = 100
OURS: Final = "AGENTCOM_"
"""What the names of our own variables begin with."""


Value = Annotated[str, Meta(max_length=MAX_SECRET_BYTES)]


class SecretUse(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A secret that a task needs: its programs find the value in the variable ``env``; left out: of the same name."""

    name: Word
    env: Word = ""

    @property
    def variable(self) -> str:
        """Where the programs find it."""
        return self.env or self.name


class SecretBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``PUT /secrets/{name}``: the value, and the projects whose tasks may use it.

    ``projects``: empty: tasks of any; left out: as it was, of a new secret any.
    """

    value: Value
    projects: Few[Word] | None = None

    def __repr__(self) -> str:
        return f"SecretBody(projects={self.projects!r})"  # whatever prints it, a trace among them, must not show it


class SecretView(Struct, kw_only=True):
    """What may be known of a secret; ``version`` counts its values, ``key`` names the key that it is sealed with."""

    name: str
    version: int
    projects: tuple[str, ...]
    created_at: datetime
    changed_at: datetime
    changed_by: str
    """Id of the token that has set it last."""
    key: str
    is_readable: bool
    """Whether this hub has that key."""


class SecretList(Struct, kw_only=True):
    """All secrets, by name; the key that new values are sealed with, empty: none was made yet."""

    secrets: tuple[SecretView, ...]
    key: str = ""


class Rotated(Struct, kw_only=True):
    """The keystore has a new ``key``, and everything is sealed with it; keys named ``dropped`` are gone."""

    key: str
    sealed: int
    dropped: tuple[str, ...]


def use_problems(uses: Sequence[SecretUse]) -> Iterator[Problem]:
    """What is wrong with the secrets that a task names, whatever secrets there are."""
    if len(uses) > MAX_SECRETS:
        yield Problem("secrets", f"{len(uses)} entries; at most {MAX_SECRETS}")
    seen = set[str]()
    for number, use in enumerate(uses[:MAX_SECRETS]):
        if not SECRET_NAME.fullmatch(use.name):
            yield Problem(f"secrets[{number}].name", f"not the name of a secret: {use.name[:60]!r}")
        if use.env and not SECRET_NAME.fullmatch(use.env):
            yield Problem(f"secrets[{number}].env", f"not the name of a variable: {use.env[:60]!r}")
        elif use.variable.startswith(OURS):
            yield Problem(f"secrets[{number}].env", f"variables that begin with {OURS} are AgentCom's own")
        elif use.variable in seen:
            yield Problem(f"secrets[{number}].env", f"two secrets for one variable, {use.variable[:60]}")
        seen.add(use.variable)


def body_problems(name: str, body: SecretBody) -> Iterator[Problem]:
    """What is wrong with a secret that somebody wants kept; never tells anything of its value but its size."""
    if not SECRET_NAME.fullmatch(name):
        yield Problem("name", "letters, digits and _, at most 64, no digit first: it is the name of a variable")
    if len(body.value.strip()) < LEAST_SECRET_CHARS:
        what = f"fewer than {LEAST_SECRET_CHARS} characters"
        yield Problem("value", f"{what}, which could not be told from words in output")
    try:
        size = len(body.value.encode())
    except UnicodeEncodeError:
        yield Problem("value", "is no text")
        return
    if size > MAX_SECRET_BYTES:
        yield Problem("value", f"{size:,} bytes; at most {MAX_SECRET_BYTES:,}")
    if "\0" in body.value:
        yield Problem("value", "contains a NUL character, which no variable can hold")
    projects = body.projects or ()
    if len(projects) > MAX_SECRET_PROJECTS:
        yield Problem("projects", f"{len(projects)} entries; at most {MAX_SECRET_PROJECTS}")
    for number, project in enumerate(projects[:MAX_SECRET_PROJECTS]):
        if not PROJECT.fullmatch(project):
            yield Problem(f"projects[{number}]", f"not the name of a project: {project[:60]!r}")
