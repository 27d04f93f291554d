"""The ways to do a task, by name: ``noop``, ``shell``, ``chat``, ``agent``."""

from sidecar.executors.agent import AgentExecutor
from sidecar.executors.base import Executor
from sidecar.executors.chat import ChatExecutor
from sidecar.executors.noop import NoopExecutor
from sidecar.executors.shell import ShellExecutor
from sidecar.llm.endpoints import Endpoints


def executors(endpoints: Endpoints) -> dict[str, Executor]:
    """All executors of this sidecar; those that ask models find them in ``endpoints``."""
    found: tuple[Executor, ...] = (NoopExecutor(), ShellExecutor(), ChatExecutor(endpoints), AgentExecutor(endpoints))
    return {executor.name: executor for executor in found}
