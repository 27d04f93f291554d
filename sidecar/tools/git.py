"""The tools for the repository of a workspace; what git refuses comes back to the model as text."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from msgspec import Meta, Struct

from protocol.errors import WorkspaceFailed
from sidecar.repository import Repository
from sidecar.tools.base import Arguments, Tool


class StatusArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``git_status``: none."""


class BranchArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``git_branch``."""

    name: Annotated[str, Meta(description="of the new branch")]
    start: Annotated[str, Meta(description="branch that it begins at; empty: what is checked out")] = ""


class CheckoutArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``git_checkout``."""

    name: Annotated[str, Meta(description="a branch, here or at the remote")]


class AddArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``git_add``."""

    paths: Annotated[tuple[str, ...], Meta(description="files or folders; none: all that changed")] = ()


class CommitArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``git_commit``."""

    message: Annotated[str, Meta(description="what it does, and why")]


class PushArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``git_push``: none."""


def git_tools(repository: Repository, *, author: str, model: str) -> tuple[Tool[Any], ...]:
    """Status, branch, checkout, add and commit; push where the task allows it.

    Args:
        repository: of the workspace.
        author, model: who commits, and with which model.
    """
    git, at = repository.workspaces, repository.workspace

    async def status(_: StatusArguments) -> str:
        return await git.see(at)

    async def branch(arguments: BranchArguments) -> str:
        return await git.make_branch(at, arguments.name, arguments.start)

    async def checkout(arguments: CheckoutArguments) -> str:
        return await git.check_out(at, arguments.name)

    async def add(arguments: AddArguments) -> str:
        return await git.stage(at, arguments.paths)

    async def commit(arguments: CommitArguments) -> str:
        return await git.commit_stage(at, arguments.message, author, model)

    async def push(_: PushArguments) -> str:
        return await git.push_now(at)

    all_of_them = "What you do not commit is committed for you when the checks have passed."
    found: list[Tool[Any]] = [
        Tool("git_status", "Show branch, newest commits and changes.", StatusArguments, _told(status)),
        Tool("git_branch", "Make a branch and check it out.", BranchArguments, _told(branch)),
        Tool("git_checkout", "Check out a branch.", CheckoutArguments, _told(checkout)),
        Tool("git_add", "Put changes of files into the next commit.", AddArguments, _told(add)),
        Tool("git_commit", f"Commit what was added. {all_of_them}", CommitArguments, _told(commit)),
    ]
    if repository.may_push:
        found.append(Tool("git_push", "Push what is checked out to the remote.", PushArguments, _told(push)))
    return tuple(found)


def _told(work: Callable[[Arguments], Awaitable[str]]) -> Callable[[Arguments], Awaitable[str]]:
    """What git cannot do is for the model to know; a lease that is over is not."""

    async def tell(arguments: Arguments) -> str:
        try:
            return await work(arguments)
        except WorkspaceFailed as exc:
            return f"error: {exc}"

    return tell
