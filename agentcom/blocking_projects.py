"""What the blocking client asks about projects, pull requests, budgets and the audit log: ``agentcom/client.py``."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from agentcom.blocking import Blocking
from agentcom.files import TaskRef
from protocol.audit import AuditLines, AuditList, AuditVerdict
from protocol.budgets import BudgetBody, BudgetList, BudgetView
from protocol.projects import (
    CommitView,
    FileList,
    FileView,
    FileWritten,
    ProjectBody,
    ProjectList,
    ProjectPatch,
    ProjectView,
    PushView,
    RepositoryView,
)
from protocol.pulls import PullList, PullState, PullView
from protocol.usage import UsageBy, UsageList


class BlockingProjects(Blocking):
    """Projects with their files and repositories, pull requests, budgets."""

    def projects(self) -> ProjectList:
        """All projects."""
        return self._run(self._client.projects())

    def project(self, name: str) -> ProjectView:
        """One project."""
        return self._run(self._client.project(name))

    def add_project(self, project: ProjectBody | Mapping[str, Any]) -> ProjectView:
        """Register a repository or a directory; nothing is cloned yet."""
        return self._run(self._client.add_project(project))

    def change_project(self, name: str, patch: ProjectPatch) -> ProjectView:
        """Change a project; what is ``None`` stays."""
        return self._run(self._client.change_project(name, patch))

    def remove_project(self, name: str, *, force: bool = False) -> None:
        """Forget a project and remove the hub's clone; ``force``: also with work in it that is nowhere else."""
        self._run(self._client.remove_project(name, force=force))

    # --- files ----------------------------------------------------------------------------------------------------

    def files(self, project: str, path: str = "", *, limit: int = 1_000, cursor: str = "") -> FileList:
        """A page of what a directory of a project holds."""
        return self._run(self._client.files(project, path, limit=limit, cursor=cursor))

    def read_file(self, project: str, path: str) -> FileView:
        """A file of a project, of at most 8 MiB."""
        return self._run(self._client.read_file(project, path))

    def write_file(self, project: str, path: str, content: bytes) -> FileWritten:
        """Write a file of a project, whole."""
        return self._run(self._client.write_file(project, path, content))

    def delete_file(self, project: str, path: str) -> None:
        """Remove a file or an empty directory of a project."""
        self._run(self._client.delete_file(project, path))

    # --- git ------------------------------------------------------------------------------------------------------

    def clone(self, project: str) -> RepositoryView:
        """Make the hub's clone, or fetch what is new; what is checked out stays."""
        return self._run(self._client.clone(project))

    def repository(self, project: str) -> RepositoryView:
        """How the repository of a project stands."""
        return self._run(self._client.repository(project))

    def branch(self, project: str, name: str, start: str = "") -> RepositoryView:
        """Make a branch."""
        return self._run(self._client.branch(project, name, start))

    def checkout(self, project: str, branch: str) -> RepositoryView:
        """Check a branch out."""
        return self._run(self._client.checkout(project, branch))

    def add_files(self, project: str, paths: Sequence[str] = ()) -> RepositoryView:
        """Put the changes of these files (none: of all) into the next commit."""
        return self._run(self._client.add_files(project, paths))

    def commit(self, project: str, message: str, author: str = "") -> CommitView:
        """Commit what was added."""
        return self._run(self._client.commit(project, message, author))

    def push(self, project: str, branch: str = "") -> PushView:
        """Push a branch (empty: what is checked out) to where the project comes from."""
        return self._run(self._client.push(project, branch))

    # --- pull requests --------------------------------------------------------------------------------------------

    def pulls(self, *, state: PullState | str = "", project: str = "", cursor: str = "", limit: int = 100) -> PullList:
        """A page of pull requests, those of the newest tasks first."""
        return self._run(self._client.pulls(state=state, project=project, cursor=cursor, limit=limit))

    def pull(self, task: TaskRef) -> PullView:
        """The pull request of a task."""
        return self._run(self._client.pull(task))

    def approve_pull(self, task: TaskRef) -> PullView:
        """Let a draft go on."""
        return self._run(self._client.approve_pull(task))

    def retry_pull(self, task: TaskRef) -> PullView:
        """Have tried now what was refused, or is to be tried later."""
        return self._run(self._client.retry_pull(task))

    # --- budgets --------------------------------------------------------------------------------------------------

    def usage(self, by: UsageBy | str = UsageBy.MODEL, *, since: str = "", until: str = "") -> UsageList:
        """What attempts have used of models, by whom or what, of the last week or between two times."""
        return self._run(self._client.usage(by, since=since, until=until))

    def budgets(self) -> BudgetList:
        """All budgets, and how they stand today."""
        return self._run(self._client.budgets())

    def budget(self, budget: str) -> BudgetView:
        """One budget: ``hub``, ``submitter:TOKEN_ID`` or ``project:NAME``."""
        return self._run(self._client.budget(budget))

    def set_budget(self, budget: str, body: BudgetBody) -> BudgetView:
        """Set a budget, new or changed; what is ``None`` has no limit."""
        return self._run(self._client.set_budget(budget, body))

    def remove_budget(self, budget: str) -> None:
        """Forget a budget."""
        self._run(self._client.remove_budget(budget))

    # --- the audit log --------------------------------------------------------------------------------------------

    def audit(
        self,
        *,
        since: datetime | None = None,
        actor: str = "",
        action: str = "",
        subject: str = "",
        cursor: str = "",
        limit: int = 100,
    ) -> AuditList:
        """A page of decisions, the newest first."""
        call = self._client.audit(since=since, actor=actor, action=action, subject=subject, cursor=cursor, limit=limit)
        return self._run(call)

    def verify_audit(self, *, seq: int = 0, digest: str = "") -> AuditVerdict:
        """Look through the whole audit log."""
        return self._run(self._client.verify_audit(seq=seq, digest=digest))

    def audit_entries(self, after: str = "") -> Iterator[AuditLines]:
        """The whole audit log, page by page, the oldest entries first."""
        return self._each(self._client.audit_entries(after))
