"""The ways to do a task, by name: ``noop``, ``shell``, ``chat``, ``agent``, and ``acp`` where such agents are."""

from collections.abc import Sequence

from sidecar.core.programs import AgentProgram
from sidecar.executors.acp import AcpExecutor
from sidecar.executors.agent import AgentExecutor
from sidecar.executors.base import Executor
from sidecar.executors.chat import ChatExecutor
from sidecar.executors.noop import NoopExecutor
from sidecar.executors.shell import ShellExecutor
from sidecar.llm.endpoints import Endpoints


def executors(endpoints: Endpoints, programs: Sequence[AgentProgram] = ()) -> dict[str, Executor]:
    """All executors of this sidecar.

    Args:
        endpoints: where those that ask models find them.
        programs: coding agents of others that are installed here.
    """
    found: tuple[Executor, ...] = (NoopExecutor(), ShellExecutor(), ChatExecutor(endpoints), AgentExecutor(endpoints))
    found = (*found, AcpExecutor(programs)) if programs else found
    return {executor.name: executor for executor in found}
