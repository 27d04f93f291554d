"""A machine that joins, as others would write it: a key, and requests that it signs."""

from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.joining import read_token, signed
from protocol.keys import KEY_FILE, said_at_hello, text
from protocol.pinning import Trust
from sidecar.clock import SystemClock
from sidecar.dial import dial
from sidecar.identity import Identity
from sidecar.keys import signer_in
from sidecar.link import Link
from tests.support.foreign_agent import ForeignAgent, Plain, hello
from tests.support.links import PACE
from tests.support.running_hub import RunningHub

API = "/api/v1"


class Machine:
    """A machine with a key; ``signs``: its sidecar signs every connection, as it says when it joins."""

    def __init__(self, *, signs: bool = False) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.key = text(self._key.public_key().public_bytes_raw())
        self.attempt = 0
        self.signs = signs
        self.old: Machine | None = None
        self.name = self.token = ""

    def renew(self) -> "Machine":
        """The same machine with another key, which is to come in the place of this one."""
        new = Machine(signs=self.signs)
        new.old, new.attempt, new.name = self, self.attempt, self.name
        return new

    def body(self, token: str = "", name: str = "", attempt: int | None = None, **more: object) -> dict[str, Any]:
        """A request to join."""
        self.attempt = attempt or self.attempt + 1
        replaces = self.old.key if self.old else ""
        said = signed(self.key, self.attempt, token, name, signs=self.signs, replaces=replaces)
        renews = {"replaces": replaces, "consent": text(self.old._key.sign(said))} if self.old else {}
        return (
            renews
            | {
                "key": self.key,
                "attempt": self.attempt,
                "signature": text(self._key.sign(said)),
                "token": token,
                "name": name,
                "facts": {"host": "box", "cores": 4},
                **({"signs": True} if self.signs else {}),
            }
            | more
        )

    async def join(self, hub: RunningHub, name: str = "") -> "Machine":
        """Come in with a join token of its own."""
        made = await (await hub.ask("POST", f"{API}/join-tokens", json={})).json()
        body = self.body(read_token(made["token"])[1], name)
        answer = await hub.ask("POST", f"{API}/join", json=body, role=None)
        assert answer.status == 201, await answer.text()
        joined = await answer.json()
        self.name, self.token = joined["name"], joined["token"]
        return self

    def keep(self, folder: Path) -> None:
        """Write the key where a sidecar looks for it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / KEY_FILE).write_text(self._key.private_bytes_raw().hex() + "\n", encoding="ascii")

    def sign(self, nonce: str, name: str = "", boot: int = 1, channel: str = "") -> Plain:
        """The answer to a challenge."""
        said = said_at_hello(nonce, channel, name or self.name, boot)
        return {"t": "signature", "signature": text(self._key.sign(said)), "channel": channel}

    async def dial(self, hub: RunningHub, boot: int = 1, **more: Any) -> ForeignAgent:
        """A connection that the hub has welcomed, of an agent that signs."""
        agent = await ForeignAgent.dial(hub.url, self.token)
        answer = await self.greet(agent, boot, **more)
        assert answer["t"] == "welcome", answer
        agent.welcome = answer
        return agent

    async def greet(self, agent: ForeignAgent, boot: int = 1, **more: Any) -> Plain:
        """Say hello and sign what is asked; what the hub answers to that."""
        await agent.say(hello(self.name, boot, key=self.key, **more))
        answer = await agent.next()
        if answer["t"] == "challenge":
            await agent.say(self.sign(answer["nonce"], boot=boot))
            answer = await agent.next()
        return answer


def link_of(hub: RunningHub, machine: Machine, folder: Path, url: str = "", boot: int = 7) -> Link:
    """The link of a real sidecar on this machine."""
    machine.keep(folder)
    return Link(
        url or hub.url,
        lambda: machine.token,
        Identity(machine.name, boot, "box", 1, "0.1.0", "state"),
        clock=SystemClock(),
        chance=lambda: 0.5,
        pace=PACE,
        dial=partial(dial, trust=Trust(hub.running.ca_pem)),
        signer=partial(signer_in, folder),
    )
