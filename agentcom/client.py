"""The client for programs without an event loop: every method of :class:`agentcom.aio.AsyncClient`, blocking.

The calls run on an event loop in a thread of their own, so this works in a script, in a notebook and inside a program
that has a running loop. Shapes, errors and arguments are those of the asynchronous client.
"""

from agentcom.blocking_alerts import BlockingAlerts
from agentcom.blocking_joins import BlockingJoins
from agentcom.blocking_keystore import BlockingSecrets
from agentcom.blocking_machines import BlockingMachines
from agentcom.blocking_projects import BlockingProjects
from agentcom.blocking_tasks import BlockingTasks


class Client(BlockingTasks, BlockingAlerts, BlockingMachines, BlockingJoins, BlockingProjects, BlockingSecrets):
    """A hub, seen from a program; close it, or use it in a ``with`` block.

    Args:
        all of them: as for :class:`agentcom.aio.AsyncClient`.
    Raises:
        BadInput: the settings are wrong.
    """
