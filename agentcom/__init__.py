"""The face of the project: the Python client and the ``agentcom`` command.

Other people's programs import this package or use HTTP; the other packages are the inside of the house::

    from agentcom import Client

    with Client() as hub:
        task = hub.wait(hub.submit({"command": "make test"}).id)
        print(task.state, task.verified)

The names below are imported when they are first used: the command line starts without the HTTP stack.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agentcom.aio import AsyncClient
    from agentcom.client import Client
    from protocol.errors import AgentComError, BadInput, Conflict, HubUnreachable, NotFound, Refused, Unavailable
    from protocol.model import TaskSpec

__all__ = [
    "AgentComError",
    "AsyncClient",
    "BadInput",
    "Client",
    "Conflict",
    "HubUnreachable",
    "NotFound",
    "Refused",
    "TaskSpec",
    "Unavailable",
]
_HOMES: Final = {"AsyncClient": "agentcom.aio", "Client": "agentcom.client", "TaskSpec": "protocol.model"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the names above
    if name not in __all__:
        message = f"module 'agentcom' has no attribute {name!r}"
        raise AttributeError(message)
    found = getattr(import_module(_HOMES.get(name, "protocol.errors")), name)
    globals()[name] = found
    return found
