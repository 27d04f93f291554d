"""The executor ``noop``: does nothing and succeeds. For measuring the mesh, and for tasks that are only checks."""

from protocol.model import Usage
from sidecar.executors.base import Execution, Pauses, Work


class NoopExecutor:
    """Does nothing."""

    name = "noop"
    pauses: Pauses = "never"

    async def execute(self, work: Work) -> Execution:  # noqa: ARG002 - the interface gives it
        """Succeed at once."""
        return Execution(ok=True, output="", summary="nothing to do", usage=Usage())
