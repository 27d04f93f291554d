"""Send alerts to browsers: sealed messages to the push services that those have named (RFC 8030).

What the message says is for ``dashboard/static/push.js``. While a browser is away its service keeps the newest message
of an alert: that it has ended takes the place of that it has fired.
"""

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from hub.core import webpush
from hub.services.notifying import NotDelivered
from hub.store.alert_changes import NotifierRow
from protocol.alerts import Severity
from protocol.clock import Clock
from protocol.errors import BadInput, Conflict

KEPT_S: Final = 86_400
"""How long a service keeps a message for a browser that is off; as long as a hub tries."""
LONGEST_S: Final = 86_400.0
"""Further off than this no service may put its next try."""
GONE: Final = frozenset({404, 410})
NOT_OURS: Final = frozenset({400, 401, 403})
MOST_TITLE: Final = 100
MOST_BODY: Final = 400
"""Characters: a control character takes six bytes, so that all fits."""
Post = Callable[[str, bytes, Mapping[str, str]], Awaitable[tuple[int, Mapping[str, str]]]]
"""Sends a body with headers to an address; status and headers of the answer. Raises NotDelivered."""


class Pushes:
    """Sends to browsers.

    Args:
        key: what they know the hub by.
        post: the way out.
        contact: where people who run a push service find those who run this hub.
    """

    def __init__(
        self, clock: Clock, key: Callable[[], Awaitable[ec.EllipticCurvePrivateKey]], post: Post, contact: str
    ) -> None:
        self._clock, self._key, self._post, self._contact = clock, key, post, contact

    async def send(self, row: NotifierRow, message: Mapping[str, Any]) -> None:
        """Tell.

        Raises:
            NotDelivered: it has not arrived, or the browser is not to be told any more.
        """
        now_s = self._clock.now_ms() // 1000
        try:
            key = await self._key()
        except (Conflict, BadInput) as exc:
            raise NotDelivered(str(exc)) from exc
        browser, auth = map(webpush.unb64, row.secret.split())
        once, salt = ec.generate_private_key(ec.SECP256R1()), secrets.token_bytes(webpush.SALT_BYTES)
        headers = {
            "Authorization": webpush.authorization(key, row.url, now_s, self._contact),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(KEPT_S),
            "Urgency": "high" if message.get("severity") == Severity.CRITICAL else "normal",
        }
        if "id" in message:
            headers["Topic"] = webpush.mark(message["id"])  # letters, digits, - and _, at most 32 (section 5.4)
        status, answered = await self._post(row.url, webpush.sealed(told(message), browser, auth, once, salt), headers)
        _judge(status, answered, now_s)


def told(message: Mapping[str, Any]) -> bytes:
    """What a browser shows: title and text, and which alert it is about."""
    title = "AgentCom: a test"
    if "rule" in message:
        title = "{severity}: {rule} {event}".format(**message)
    found = {
        "event": message["event"],
        "alert": message.get("id", ""),
        "title": title[:MOST_TITLE],
        "body": message["summary"][:MOST_BODY],
    }
    return json.dumps(found, ensure_ascii=False).encode()


def _judge(status: int, headers: Mapping[str, str], now_s: int) -> None:
    """Raise NotDelivered unless the service has taken the message."""
    if 200 <= status < 300:  # noqa: PLR2004 - what HTTP calls success
        return
    if status in GONE:
        raise NotDelivered(f"the browser has ended its subscription (its push service answered {status})", is_gone=True)
    if status in NOT_OURS:
        raise NotDelivered(f"its push service takes nothing from this hub ({status}): turn it off and on there again")
    raise NotDelivered(f"its push service answered {status}", after_s=wait_s(headers.get("Retry-After", ""), now_s))


def wait_s(text: str, now_s: float) -> float:
    """Seconds in a ``Retry-After``, which may be a date (RFC 9110, section 10.2.3); 0: it says nothing of use."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # numbers of any length, as the parts of a date
        return 0.0
    return max(0.0, min(at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now_s, LONGEST_S))
