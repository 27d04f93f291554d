"""Forges: servers of repositories that know pull requests, each spoken to in its own API."""

from hub.core.pulls import Place
from hub.forges.forgejo import Forgejo
from hub.forges.github import GitHub
from hub.forges.http import Sessions
from hub.forges.shapes import Forge
from protocol.pulls import Forge as Kind


def connect(sessions: Sessions, kind: Kind, place: Place, login: tuple[str, str]) -> Forge:
    """A repository at its forge, asked with this user and password (or token)."""
    made = GitHub if kind is Kind.GITHUB else Forgejo
    return made(sessions, place, *login)
