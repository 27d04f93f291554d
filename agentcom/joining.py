"""What the client says about machines that join: a part of :class:`agentcom.aio.AsyncClient`."""

from urllib.parse import quote

from agentcom.calls import Calls
from protocol.api import PREFIX
from protocol.joining import JoinRequestList, JoinTokenBody, JoinTokenCreated, JoinTokenList


class JoinCalls:
    """Let machines in."""

    _transport: Calls

    async def create_join_token(
        self, *, label: str = "", ttl_s: float = 3_600.0, uses: int = 1, url: str = ""
    ) -> JoinTokenCreated:
        """Make a token with which machines may join, and the command for it; its secret is shown only now."""
        body = JoinTokenBody(label=label, ttl_s=ttl_s, uses=uses, url=url)
        return await self._transport.call("POST", f"{PREFIX}/join-tokens", JoinTokenCreated, body=body)

    async def join_tokens(self) -> JoinTokenList:
        """Join tokens, newest first, without their secrets."""
        return await self._transport.call("GET", f"{PREFIX}/join-tokens", JoinTokenList, is_repeatable=True)

    async def revoke_join_token(self, token: str) -> None:
        """End the join token with this id; machines that have joined with it stay."""
        await self._transport.call("DELETE", f"{PREFIX}/join-tokens/{quote(token, safe='')}", type(None))

    async def join_requests(self) -> JoinRequestList:
        """Machines that wait for a person, oldest first."""
        return await self._transport.call("GET", f"{PREFIX}/join-requests", JoinRequestList, is_repeatable=True)

    async def remove_machine(self, name: str) -> None:
        """Throw a machine out that has joined under this name; what it has opened ends at once.

        Raises:
            NotFound: there is none.
        """
        await self._transport.call("DELETE", f"{PREFIX}/machines/{quote(name, safe='')}", type(None))

    async def decide_join(self, code: str, *, is_approved: bool) -> None:
        """Let a machine in that waits, or do not.

        Raises:
            NotFound: no machine waits under this code.
        """
        verb = "approve" if is_approved else "deny"
        path = f"{PREFIX}/join-requests/{quote(code, safe='')}/{verb}"
        await self._transport.call("POST", path, type(None))
