"""What the blocking client asks about secrets; see :class:`agentcom.client.Client`."""

from collections.abc import Iterable

from agentcom.blocking import Blocking
from protocol.keystore import Rotated, SecretList, SecretView


class BlockingSecrets(Blocking):
    """Secrets that tasks name."""

    def secrets(self) -> SecretList:
        """All secrets, without their values."""
        return self._run(self._client.secrets())

    def set_secret(self, name: str, value: str, projects: Iterable[str] | None = None) -> SecretView:
        """Keep a secret, or its next value; ``projects``: whose tasks may use it, ``None``: as it was."""
        return self._run(self._client.set_secret(name, value, projects))

    def remove_secret(self, name: str) -> None:
        """Keep a secret no more."""
        self._run(self._client.remove_secret(name))

    def rotate_keystore(self) -> Rotated:
        """Seal all secrets with a new key, and forget the old one."""
        return self._run(self._client.rotate_keystore())
