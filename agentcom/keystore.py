"""What the client asks about secrets: a part of :class:`agentcom.aio.AsyncClient`. No value ever comes back."""

from collections.abc import Iterable
from urllib.parse import quote

from agentcom.asking import Asking
from protocol.api import PREFIX
from protocol.keystore import Rotated, SecretBody, SecretList, SecretView


class SecretCalls(Asking):
    """Secrets that tasks name."""

    async def secrets(self) -> SecretList:
        """All secrets, without their values."""
        return await self._get("/secrets", SecretList)

    async def set_secret(self, name: str, value: str, projects: Iterable[str] | None = None) -> SecretView:
        """Keep a secret, or its next value.

        Args:
            name: also the variable that work finds it in, unless its task names another one.
            value: text of 8 characters or more.
            projects: whose tasks may use it; none: all; ``None``: as it was.
        """
        body = SecretBody(value=value, projects=None if projects is None else tuple(projects))
        path = f"{PREFIX}/secrets/{quote(name, safe='')}"
        return await self._transport.call("PUT", path, SecretView, body=body)

    async def remove_secret(self, name: str) -> None:
        """Keep a secret no more."""
        await self._transport.call("DELETE", f"{PREFIX}/secrets/{quote(name, safe='')}", type(None))

    async def rotate_keystore(self) -> Rotated:
        """Seal all secrets with a new key, and forget the old one."""
        return await self._post("/keystore/rotate", Rotated)
