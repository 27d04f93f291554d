"""The asynchronous client: one method a thing that can be asked of a hub.

Values are the shapes of :mod:`protocol.api`, errors the tree of :mod:`protocol.errors`. ``agentcom/client.py`` is the
same for programs without an event loop.
"""

from types import TracebackType
from typing import Self

from agentcom import settings
from agentcom.alerts import AlertCalls
from agentcom.audit import AuditCalls
from agentcom.budgets import BudgetCalls
from agentcom.joining import JoinCalls
from agentcom.keystore import SecretCalls
from agentcom.machines import MachineCalls
from agentcom.projects import ProjectCalls
from agentcom.pulls import PullCalls
from agentcom.tasks import TaskCalls
from agentcom.upkeep import UpkeepCalls


class AsyncClient(
    TaskCalls,
    ProjectCalls,
    PullCalls,
    BudgetCalls,
    AlertCalls,
    SecretCalls,
    MachineCalls,
    UpkeepCalls,
    AuditCalls,
    JoinCalls,
):
    """A hub, seen from a program with an event loop.

    Args:
        hub: its address, or several, separated by commas, of hubs that share one database; left out: ``AGENTCOM_HUB``,
            the settings file, or the hub of this machine.
        token, token_file: one or the other; left out: ``AGENTCOM_TOKEN``, ``AGENTCOM_TOKEN_FILE``, the settings file or
            the token that the local hub left in its data directory.
        data_dir: data directory of the local hub, if not the usual one.
        ca_file, ca_hash: the authority of the hub, or its SHA-256, if no public one has signed its certificate; left
            out: ``AGENTCOM_CA_FILE``, ``AGENTCOM_CA_HASH``, the settings file, or what the local hub has made.
        patience_s: how long a call is repeated while the hub cannot be reached or asks to wait.
    Raises:
        BadInput: the settings are wrong.
    """

    def __init__(
        self,
        hub: str | None = None,
        token: str | None = None,
        *,
        token_file: str | None = None,
        data_dir: str | None = None,
        ca_file: str | None = None,
        ca_hash: str | None = None,
        patience_s: float = 10.0,
    ) -> None:
        from agentcom.transport import Transport  # a command that starts does without it

        given = {"hub": hub, "token": token, "token_file": token_file, "data_dir": data_dir}
        found = settings.load({**given, "ca_file": ca_file, "ca_hash": ca_hash})
        self._transport = Transport(found.hub, found.token, patience_s=patience_s, trust=found.trust)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
