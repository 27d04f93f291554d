"""What is asked of the store about machines that join, and how they are kept. What the verbs do is ``join_verbs.py``.

A machine is its public key. It is let in by a join token, one use of it, or by a person; both is decided in the commit
that gives it its token (role agent), so no use counts twice and none is lost with a hub that dies.
"""

from typing import Protocol

from msgspec import Struct

from hub.store.token_changes import TokenRow
from protocol.errors import Conflict
from protocol.events import Event
from protocol.joining import MachineFacts

WAITING, APPROVED, DENIED, JOINED, LEFT = "waiting", "approved", "denied", "joined", "left"
REPLACED = "replaced"
"""A key that its machine has given up for another one: it never counts again."""


class MachineNameTaken(Conflict):
    """Another machine has joined under this name."""

    code = "name_taken"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return f"another machine is called {self.name!r}; use another --name"


class NotAMachine(Conflict):
    """The token that was shown is no machine's that has joined."""

    code = "not_a_machine"

    def __init__(self, token: str) -> None:
        self.token = token
        super().__init__(token)

    def __str__(self) -> str:
        return f"no machine has joined with the token {self.token}; machines do so with: agentcom join URL"


class JoinTokenRow(Struct, frozen=True, kw_only=True):
    """A join token; only the digest of its secret is kept."""

    id: str
    label: str
    digest: bytes
    uses: int
    created_ms: int
    expires_ms: int
    created_by: str
    used: int = 0
    revoked_ms: int | None = None


class MachineRow(Struct, frozen=True, kw_only=True):
    """A machine that has asked to join, or has joined.

    ``attempt`` is the number of the last thing that it has asked; ``token``: its token of role agent; ``let_in``: the
    join token, or ``request``.
    """

    key: str
    code: str
    state: str
    name: str
    address: str
    facts: MachineFacts
    attempt: int
    asked_ms: int
    expires_ms: int | None = None
    token: str = ""
    let_in: str = ""
    decided_by: str = ""
    joined_ms: int | None = None
    bound_ms: int | None = None
    """Since when its sidecar has to sign every connection; ``None``: it never did, and need not yet."""
    replaces: str = ""
    """The key that it had before, which counts no more."""


class AddJoinToken(Struct, frozen=True):
    """Keep a new join token. Outcome: ``None``."""

    token: JoinTokenRow
    event: Event


class RevokeJoinToken(Struct, frozen=True):
    """A join token ends; revoking it again changes nothing. Outcome: ``None``, or NotFound."""

    id: str
    at_ms: int
    event: Event


class AskToJoin(Struct, frozen=True):
    """Remember that a machine asks to be let in by a person.

    Outcome: the row that is kept now, JoinRefused (the request was heard before), or Overloaded: too many wait.
    """

    machine: MachineRow
    most: int
    event: Event


class DecideJoin(Struct, frozen=True):
    """A person lets a machine in, or does not. Outcome: ``None``, NotFound, or Conflict: that was decided."""

    code: str
    is_approved: bool
    by: str
    at_ms: int
    event: Event


class LetIn(Struct, frozen=True):
    """A machine joins: one use of its join token is burned, or the approval of a person, and its token is kept.

    A machine that has joined with this join token before gets a new token in the place of the one it had, and no use is
    burned: its answer was lost. One that gives up a key (``machine.replaces``, which has consented) for another needs
    neither join token nor person while it takes part, unless it is in quarantine.

    Outcome: the row that is kept now (``state`` is ``waiting`` if nobody has decided yet); JoinRefused, or
    MachineNameTaken.

    Attributes:
        machine: as it asks; ``name`` is what it will be called unless it has joined before under another one.
        join_token, digest: of the join token that it shows; empty: a person has approved it.
        names_itself: it wants that name, also if it had another one.
        token: what it gets.
        events: told when it is in.
        binds: its sidecar signs every connection; from then on none counts that is not signed.
    """

    machine: MachineRow
    join_token: str
    digest: bytes
    names_itself: bool
    token: TokenRow
    events: tuple[Event, ...]
    at_ms: int
    binds: bool = False


class BindMachine(Struct, frozen=True):
    """A sidecar has signed its connection: from now on this machine's always has to. Outcome: ``None``."""

    key: str
    at_ms: int


class LetGo(Struct, frozen=True):
    """A machine leaves, or is thrown out: its token counts no more. Outcome: ``None``, also if there is none."""

    token: str
    at_ms: int
    event: Event


class JoinReads(Protocol):
    """What a store tells about machines that join; a part of :class:`hub.store.store.Store`."""

    async def join_tokens(self) -> tuple[JoinTokenRow, ...]:
        """Tokens with which machines may join, newest first; at most 1,000."""
        ...

    async def machines_waiting(self) -> tuple[MachineRow, ...]:
        """Machines that wait for a person, oldest first."""
        ...

    async def machines_at_door(self, token: str, name: str) -> tuple[MachineRow, ...]:
        """The machine whose token this is, and the one that has joined under this name: one, or none, or two."""
        ...

    async def machine_of_token(self, token: str) -> MachineRow | None:
        """The machine that has joined and got this token."""
        ...
