"""How a machine joins a mesh: the token that a person carries to it, and what it says over HTTP.

A join token is ``acj1.<pin>.<secret>``. The pin tells the machine which hub it may show the secret to: the SHA-256 of
the certificate of the hub's own authority (64 hex digits), ``web`` (a certificate that any browser trusts), or ``open``
(no TLS at all: a hub on the machine's own loopback address). The secret is ``<id>_<256 bits><check>``; the check is a
CRC-32, so what was cut off or mistyped is told on the machine itself. Pure; callers: ``hub/services/joining.py`` and
``provisioning``.

What a machine asks for is signed with the key that it has made (Ed25519), and counted: whoever repeats a request that
was heard elsewhere is refused, and a machine that asks again after an interruption is not.
"""

import re
import zlib
from collections.abc import Callable
from datetime import datetime
from typing import Final

from msgspec import Struct

from protocol.bounds import Measure, Sentence, Whole, Word
from protocol.errors import BadInput, Conflict, Problem, Refused

PREFIX: Final = "acj1."
OPEN, WEB = "open", "web"
MOST_TTL_S: Final = 7 * 86_400.0
MOST_USES: Final = 1_000
REQUEST_S: Final = 900.0
"""How long a machine without a token may wait for a person."""
MOST_WAITING: Final = 100
"""Requests of machines that wait at a time."""
UPGRADE: Final = "upgrade"
"""Capability of a sidecar on a machine that gets another release when its hub wants it."""
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_CHARS: Final = 12
_BITS_CHARS: Final = 52  # 5 bits each: 260
_CHECK_CHARS: Final = 7  # 35 bits hold a CRC-32
_SECRET: Final = re.compile(rf"([0-9a-z]{{{_ID_CHARS}}})_[0-9a-z]{{{_BITS_CHARS + _CHECK_CHARS}}}")
_PIN: Final = re.compile(rf"[0-9a-f]{{64}}|{OPEN}|{WEB}")
CODE: Final = re.compile(r"[0-9a-z]{5}-[0-9a-z]{5}")


class JoinRefused(Refused):
    """The hub does not let this machine in; ``why`` says what to do."""

    code = "join_refused"

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return self.why


class NotYetApproved(Conflict):
    """Nobody has decided about this machine yet; ask again."""

    code, retryable = "not_yet_approved", True

    def __init__(self, code: str) -> None:
        self.machine = code
        super().__init__(code)

    def __str__(self) -> str:
        return f"the machine {self.machine} waits for a person to approve it"


def make_secret(random_bits: Callable[[int], int]) -> tuple[str, str]:
    """The secret part of a new token: its id, and the whole of it; ``random_bits`` is ``secrets.randbits``."""
    token_id = _digits(random_bits(5 * _ID_CHARS), _ID_CHARS)
    body = f"{token_id}_{_digits(random_bits(5 * _BITS_CHARS), _BITS_CHARS)}"
    return token_id, body + _check(body)


def join_token(pin: str, secret: str) -> str:
    """The token that a person carries."""
    return f"{PREFIX}{pin}.{secret}"


def read_token(text: str) -> tuple[str, str]:
    """Pin and secret of a token, found sound without asking anybody.

    Raises:
        BadInput: it is no join token, or a character of it is wrong or missing.
    """
    pin, _, secret = text.strip().removeprefix(PREFIX).partition(".")
    if not text.strip().startswith(PREFIX):
        raise BadInput([Problem("token", "this is no join token: those start with 'acj1.'")], "command")
    if not _PIN.fullmatch(pin):
        raise BadInput([Problem("token", "the join token does not say which hub it is for")], "command")
    secret_id(secret)
    return pin, secret


def secret_id(secret: str) -> str:
    """The id inside the secret part of a token.

    Raises:
        BadInput: it is cut off or mistyped.
    """
    match = _SECRET.fullmatch(secret)
    if match is None:
        raise BadInput([Problem("token", "the join token is cut off or has a character too many")], "join")
    if _check(secret[:-_CHECK_CHARS]) != secret[-_CHECK_CHARS:]:
        raise BadInput([Problem("token", "the join token is mistyped: its check sum does not fit")], "join")
    return match[1]


def code_of(key: str) -> str:
    """What a person compares: ten characters made of the machine's public key, on its screen and at the hub."""
    import hashlib  # loads a library of the system, which a command that starts does without

    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 14
    text = _digits(number, 10)
    return f"{text[:5]}-{text[5:]}"


def signed(key: str, attempt: int, secret: str, name: str, *, signs: bool = False, replaces: str = "") -> bytes:
    """The bytes that a machine signs when it asks to join; no secret can be read from them.

    ``signs``: it also says that its sidecar will sign every connection; ``replaces``: which key of its own it gives up.
    """
    import hashlib  # as above

    digest = hashlib.sha256(secret.encode()).hexdigest()
    old = (replaces,) if replaces else ()
    return "\n".join((f"agentcom join {2 if signs else 1}", key, str(attempt), digest, name, *old)).encode()


def _check(body: str) -> str:
    return _digits(zlib.crc32(body.encode()), _CHECK_CHARS)


def _digits(number: int, count: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(count)))


class JoinTokenBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /join-tokens``.

    Attributes:
        label: what it is for; machines that join with it are listed with it.
        ttl_s: seconds that it is good for, at most seven days.
        uses: how many machines may join with it.
        url: the hub's address as the machine sees it; left out: the one that the hub knows of itself.
    """

    label: Sentence = ""
    ttl_s: Measure = 3_600.0
    uses: Whole = 1
    url: Word = ""


class JoinTokenView(Struct, kw_only=True):
    """A join token, without its secret; ``state``: ``good``, ``used``, ``expired`` or ``revoked``."""

    id: str
    label: str
    state: str
    uses: int
    used: int
    created_at: datetime
    expires_at: datetime
    created_by: str


class JoinTokenCreated(Struct, kw_only=True):
    """The only time the token itself is shown.

    Attributes:
        command: what to run on the new machine.
        install: what to run there if AgentCom is not installed on it.
        note: what would keep a machine from joining with it; empty: nothing that the hub knows of.
    """

    id: str
    token: str
    url: str
    command: str
    install: str
    label: str
    uses: int
    expires_at: datetime
    note: str = ""


class JoinTokenList(Struct, kw_only=True):
    """All join tokens, newest first."""

    join_tokens: tuple[JoinTokenView, ...]
    next_cursor: str | None = None


class MachineFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine says of itself, for the person who decides about it; nobody has checked it."""

    host: Word = ""
    system: Word = ""
    python: Word = ""
    version: Word = ""
    cores: Whole = 0
    ram_bytes: Whole = 0


class JoinBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /join`` and ``POST /join-requests``: a machine asks to join.

    Attributes:
        key: its public key (Ed25519, 43 characters of base64url).
        attempt: counts what it has asked, from 1.
        signature: of :func:`signed`, by that key (86 characters of base64url).
        token: the secret part of a join token; empty: a person approves the machine.
        name: what it wants to be called; empty: any name that is free.
        signs: its sidecar will sign every connection, and no other counts from now on; left out by older releases.
        replaces: the public key that it had, which counts no more when it is in; empty: it keeps the key that it has.
        consent: the same bytes, signed by that key.
    """

    key: Word
    attempt: Whole
    signature: Word
    token: Word = ""
    name: Word = ""
    facts: MachineFacts = MachineFacts()
    signs: bool = False
    replaces: Word = ""
    consent: Word = ""


class Joined(Struct, kw_only=True):
    """It has joined: the token (role agent) that its sidecar shows from now on, and its name."""

    name: str
    token: str
    version: str
    hubs: tuple[str, ...] = ()


class JoinAsked(Struct, kw_only=True):
    """A person has to approve it; ``state``: ``waiting``, ``approved``, ``denied`` or ``joined``."""

    code: str
    state: str
    expires_at: datetime


class JoinRequestView(Struct, kw_only=True):
    """A machine that asks to join without a token; ``code`` is what its screen shows, too."""

    code: str
    state: str
    name: str
    address: str
    facts: MachineFacts
    asked_at: datetime
    expires_at: datetime


class JoinRequestList(Struct, kw_only=True):
    """Machines that wait for a person, oldest first."""

    join_requests: tuple[JoinRequestView, ...]
    next_cursor: str | None = None


class MachineView(Struct, kw_only=True):
    """A machine as its own token sees it; ``state`` is its agent's, ``unseen`` before it has come."""

    name: str
    state: str
    version: str
    hub_version: str
    boot: int = 0
    """The last start of its sidecar that the hub has seen; 0: none."""
    protocol: tuple[int, int] = (1, 1)
    """The oldest and the newest version of the wire protocol that the hub speaks."""


class UpgradeTold(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /machine/upgrade``: the step that the upgrade of this machine does, or why that cannot be done."""

    step: Word
    why: Sentence = ""


class SmokeView(Struct, kw_only=True):
    """The first task of a machine: a command and a check of what it did. Fields as of any task."""

    task: str
    state: str
    execution_ok: bool | None
    verified: bool | None
    reason: str = ""
