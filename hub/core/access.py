"""Who may do what, and what a token looks like.

Pure: :data:`PERMISSIONS` is the one table of rights, :class:`Scope` narrows them for one token, the rest makes, reads
and compares tokens. Knows no store and no
clock; the randomness is an argument. The caller is ``hub/services/access.py``; routes name a permission of the table.

A token is ``acm_<id>_<secret><check>``: a prefix that secret scanners can look for, an id that may be shown, 256 secret
bits, and a CRC-32 over all of that, so a mistyped or cut off token is told apart from an unknown one without a look-up.
Only its SHA-256 is kept: the secret is uniformly random, so a slow hash would add nothing.
"""

import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from protocol.errors import Problem, Unauthenticated
from protocol.ids import NAME, PROJECT
from protocol.limits import MAX_NAME_CHARS
from protocol.model import Role

_PEOPLE: Final = frozenset({Role.ADMIN, Role.OPERATOR, Role.SUBMITTER, Role.VIEWER})
_SUBMIT: Final = frozenset({Role.ADMIN, Role.OPERATOR, Role.SUBMITTER})
_OPERATE: Final = frozenset({Role.ADMIN, Role.OPERATOR})

PERMISSIONS: Final[Mapping[str, frozenset[Role]]] = MappingProxyType(
    {
        "tasks:read": _PEOPLE,
        "tasks:submit": _SUBMIT,
        "tasks:control": _SUBMIT,
        "tasks:review": _OPERATE,
        "agents:read": _PEOPLE,
        "agents:control": _OPERATE,
        "endpoints:read": _PEOPLE,
        "endpoints:write": _OPERATE,
        "projects:read": _PEOPLE,
        "projects:write": _SUBMIT,
        "projects:push": _OPERATE,
        "projects:manage": _OPERATE,
        "pulls:read": _PEOPLE,
        "pulls:review": _OPERATE,
        "budgets:read": _PEOPLE,
        "budgets:write": _OPERATE,
        "events:read": _PEOPLE,
        "metrics:read": _PEOPLE,
        "audit:read": _OPERATE,
        "alerts:read": _PEOPLE,
        "alerts:write": _OPERATE,
        "health:read": _PEOPLE,
        "docs:read": _PEOPLE,
        "dashboard:read": _PEOPLE,
        "sessions:open": _PEOPLE,
        "machines:manage": _OPERATE,
        "tokens:manage": frozenset({Role.ADMIN}),
        "backups:manage": frozenset({Role.ADMIN}),
        "secrets:manage": _OPERATE,
        "rates:read": _OPERATE,
        "rates:write": frozenset({Role.ADMIN}),
        "log_levels:read": _OPERATE,
        "log_levels:write": _OPERATE,
        "artifacts:write": frozenset({Role.ADMIN, Role.AGENT}),
        "progress:read": frozenset({Role.ADMIN, Role.AGENT}),
        "git:access": frozenset({Role.ADMIN, Role.AGENT}),
        "git:exchange": frozenset(),  # nobody's: an attempt shows the credential that it was given
        "mesh:join": frozenset({Role.ADMIN, Role.AGENT}),
    }
)
"""Every permission and the roles that hold it. A route names one; what is not in here nobody may do."""

OWN_ONLY: Final = frozenset({(Role.SUBMITTER, "tasks:control")})
"""What a role holds for those tasks only that the same token has submitted."""

WITHOUT_PROJECT: Final = frozenset({"health:read", "docs:read"})
"""What a token that is bound to projects may do beside them: it tells of no work and of no machine."""

MAX_BOUND: Final = 100
"""Projects, or names, that one token may be bound to."""

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_CHARS: Final = 12
_SECRET_CHARS: Final = 43  # 62 ** 43 > 2 ** 256
_CHECK_CHARS: Final = 6  # 62 ** 6 > 2 ** 32
PREFIX: Final = "acm_"
TOKEN: Final = re.compile(
    rf"acm_([0-9a-z]{{{_ID_CHARS}}})_([0-9A-Za-z]{{{_SECRET_CHARS}}})([0-9A-Za-z]{{{_CHECK_CHARS}}})"
)


class Scope(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a token is bound to; empty: to nothing, it is good for everything that its role may.

    ``projects``: it sees and does nothing outside of them. ``agents``: a sidecar that shows it may have one of these
    names, and asks for attempts of that name.
    """

    projects: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()


EVERYTHING: Final = Scope()


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: the id of the token, its role, the label a person gave it, and what it is bound to."""

    token: str
    role: Role
    label: str = ""
    scope: Scope = EVERYTHING

    def is_for(self, sidecar: str) -> bool:
        """Whether a sidecar of this name may show the token."""
        return not self.scope.agents or sidecar in self.scope.agents


def may(role: Role, permission: str) -> bool:
    """Whether ``role`` holds ``permission``; nobody holds one that is not in the table."""
    return role in PERMISSIONS.get(permission, ())


def roles_with(permission: str) -> tuple[str, ...]:
    """The roles that hold ``permission``, in the order of :class:`Role`."""
    return tuple(role.value for role in Role if may(role, permission))


def scope_problems(role: Role, scope: Scope) -> list[Problem]:
    """What is wrong with binding a token of ``role`` like this."""
    problems = []
    if scope.projects and role in {Role.ADMIN, Role.AGENT}:
        problems.append(Problem("projects", f"a token of role {role.value} cannot be bound to projects"))
    if scope.agents and role is not Role.AGENT:
        problems.append(Problem("agents", f"names bind tokens of role agent, not of role {role.value}"))
    for field, names, form in (("projects", scope.projects, PROJECT), ("agents", scope.agents, NAME)):
        if len(names) > MAX_BOUND:
            problems.append(Problem(field, f"{len(names)}; at most {MAX_BOUND}"))
        bad = [name for name in names[:MAX_BOUND] if not form.fullmatch(name)]
        problems += [Problem(field, f"{name[:MAX_NAME_CHARS]!r} is no name") for name in bad]
    return problems


def make_token(random_bits: Callable[[int], int]) -> tuple[str, str]:
    """A new token: its id, and the token itself.

    ``random_bits`` returns that many random bits as an integer; in production it is ``secrets.randbits``.
    """
    token_id = _digits(random_bits(5 * _ID_CHARS), _ID_ALPHABET, _ID_CHARS)
    body = f"{PREFIX}{token_id}_{_digits(random_bits(256), _BASE62, _SECRET_CHARS)}"
    return token_id, body + _check(body)


def token_id(token: str) -> str:
    """The id inside ``token``.

    Raises:
        Unauthenticated: it does not look like a token, or a character of it is wrong or missing.
    """
    match = TOKEN.fullmatch(token)
    if match is None:
        if token.startswith(PREFIX):
            raise Unauthenticated("the token is cut off or has a character too many")
        raise Unauthenticated("this is not a token of AgentCom: those start with 'acm_'")
    if _check(token[:-_CHECK_CHARS]) != match[3]:
        raise Unauthenticated("the token is mistyped: its check sum does not fit")
    return match[1]


def digest(token: str) -> bytes:
    """What is kept of a token: its SHA-256, 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def matches(token: str, kept: bytes) -> bool:
    """Whether ``kept`` is the digest of ``token``; takes the same time wherever they differ."""
    return hmac.compare_digest(digest(token), kept)


def _check(body: str) -> str:
    return _digits(zlib.crc32(body.encode()), _BASE62, _CHECK_CHARS)


def _digits(number: int, alphabet: str, count: int) -> str:
    base = len(alphabet)
    out = []
    for _ in range(count):
        number, digit = divmod(number, base)
        out.append(alphabet[digit])
    return "".join(reversed(out))
