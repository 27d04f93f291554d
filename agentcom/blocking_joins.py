"""What the blocking client says about machines that join; see :class:`agentcom.client.Client`."""

from agentcom.blocking import Blocking
from protocol.joining import JoinRequestList, JoinTokenCreated, JoinTokenList


class BlockingJoins(Blocking):
    """Let machines in."""

    def create_join_token(
        self, *, label: str = "", ttl_s: float = 3_600.0, uses: int = 1, url: str = ""
    ) -> JoinTokenCreated:
        """Make a token with which machines may join, and the command for it; its secret is shown only now."""
        return self._run(self._client.create_join_token(label=label, ttl_s=ttl_s, uses=uses, url=url))

    def join_tokens(self) -> JoinTokenList:
        """Join tokens, newest first, without their secrets."""
        return self._run(self._client.join_tokens())

    def revoke_join_token(self, token: str) -> None:
        """End the join token with this id; machines that have joined with it stay."""
        self._run(self._client.revoke_join_token(token))

    def join_requests(self) -> JoinRequestList:
        """Machines that wait for a person, oldest first."""
        return self._run(self._client.join_requests())

    def remove_machine(self, name: str) -> None:
        """Throw a machine out that has joined under this name; what it has opened ends at once."""
        self._run(self._client.remove_machine(name))

    def decide_join(self, code: str, *, is_approved: bool) -> None:
        """Let a machine in that waits, or do not."""
        self._run(self._client.decide_join(code, is_approved=is_approved))
