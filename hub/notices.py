"""Send notices of alerts: a signed webhook, a message to a browser, or whatever Apprise can reach.

The address was set by an operator. A redirect is not followed: who answers with one could point the hub at machines
that only it can reach. A name that leads to a link-local address is refused when it is looked up, too.
"""

import asyncio
import hashlib
import hmac
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from cryptography.hazmat.primitives.asymmetric import ec

from hub.core.reach import is_forbidden
from hub.pushes import Pushes
from hub.services.notifying import BROWSER, NotDelivered
from hub.store.alert_changes import NotifierRow
from protocol.clock import Clock

CALL_S: Final = 10.0
APPRISE_S: Final = 60.0
"""Some of what it reaches answers never, and everybody else would wait."""
NOBODY: Final = "mailto:nobody@agentcom.invalid"
"""Push services want to be told of somebody; a hub that has no address of its own does not know whom."""
SIGNATURE: Final = "X-AgentCom-Signature"
TIME: Final = "X-AgentCom-Timestamp"


class Careful(AbstractResolver):
    """Looks names up, and passes over addresses where no notice may go."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name."""
        found = [each for each in await self._resolver.resolve(host, port, family) if not is_forbidden(each["host"])]
        if not found:
            raise OSError(None, f"no notice may go to {host}")
        return found

    async def close(self) -> None:
        """Nothing is open."""


class Notices:
    """Sends, with one way out for webhooks and push services.

    Args:
        key: what browsers know the hub by.
        contact: where others find the people who run this hub.
    """

    def __init__(self, clock: Clock, key: Callable[[], Awaitable[ec.EllipticCurvePrivateKey]], contact: str) -> None:
        self._clock = clock
        self._pushes = Pushes(clock, key, _post, contact)

    async def send(self, row: NotifierRow, message: dict[str, Any]) -> None:
        """Tell.

        Raises:
            NotDelivered: it has not arrived.
        """
        if row.kind == "webhook":
            await self._webhook(row, message)
        elif row.kind == BROWSER:
            await self._pushes.send(row, message)
        else:
            await _apprise(row.url, message)

    async def _webhook(self, row: NotifierRow, message: dict[str, Any]) -> None:
        body, at_s = json.dumps(message).encode(), str(self._clock.now_ms() // 1000)
        headers = {"Content-Type": "application/json", TIME: at_s}
        if row.secret:
            headers[SIGNATURE] = "sha256=" + signature(row.secret, at_s, body)
        status, _ = await _post(row.url, body, headers)
        if not 200 <= status < 300:  # noqa: PLR2004 - what HTTP calls success
            raise NotDelivered(f"it answered {status}")


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
    """Status and headers of the answer; raises NotDelivered."""
    timeout = aiohttp.ClientTimeout(total=CALL_S)
    connector = aiohttp.TCPConnector(resolver=Careful())
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as client,
            client.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            return answer.status, answer.headers
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as exc:
        # Their words hold the address, with its secret, and what a machine said that speaks no HTTP.
        raise NotDelivered(f"its answer is no HTTP ({type(exc).__name__})") from None
    except UnicodeError:  # a name that can be none, like a..b; it is found when it is looked up
        raise NotDelivered("its host is no name that could be looked up") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        raise NotDelivered(f"{type(exc).__name__}: {exc}"[:300]) from exc


def signature(secret: str, at_s: str, body: bytes) -> str:
    """HMAC-SHA-256 of the time, a dot and the body: so nobody can send an old notice again as a new one."""
    return hmac.new(secret.encode(), at_s.encode() + b"." + body, hashlib.sha256).hexdigest()


async def _apprise(url: str, message: dict[str, Any]) -> None:
    title = "{severity}: {rule} {event}".format(**message) if "rule" in message else "AgentCom: a test"
    body = "\n".join(text for text in (message["summary"], message.get("runbook", "")) if text)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "hub.apprise_child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(APPRISE_S):
            said, _ = await child.communicate(json.dumps({"url": url, "title": title, "body": body}).encode())
    except TimeoutError as exc:
        raise NotDelivered(f"Apprise has not delivered it within {APPRISE_S:g} s") from exc
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    try:
        problem = json.loads(said.splitlines()[-1])["problem"]  # what it uses may write, too
    except (IndexError, ValueError, TypeError, KeyError) as exc:
        raise NotDelivered(f"Apprise has ended with status {child.returncode}") from exc
    if problem:
        raise NotDelivered(str(problem)[:300])
