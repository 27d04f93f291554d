"""Somebody else's push service, and a browser that subscribes there: RFC 8030 over real HTTP.

The service does what those of browsers do: it takes a message only if the header names the key that the subscription
was made with and the signature is good (RFC 8292). The browser opens what it gets with its own key (RFC 8291), step by
step as the standard tells, with nothing of the hub's.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.running_hub import PATIENCE_S
from tests.support.serving import served

CURVE = ec.SECP256R1()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def hmac256(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


class Browser:
    """A browser that has subscribed: it has keys of its own, and a path at the service."""

    def __init__(self, service: str) -> None:
        self._key, self._auth = ec.generate_private_key(CURVE), os.urandom(16)
        self._point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.path = f"/push/{os.urandom(12).hex()}"
        self.endpoint = service + self.path

    def body(self, **more: Any) -> dict[str, Any]:
        """What its page sends to the hub."""
        return {"endpoint": self.endpoint, "keys": {"p256dh": b64(self._point), "auth": b64(self._auth)}, **more}

    def read(self, message: bytes) -> dict[str, Any]:
        """What a message says (RFC 8291, section 3.4; the record is the one of RFC 8188)."""
        salt, size, length = message[:16], int.from_bytes(message[16:20], "big"), message[20]
        sender, record = message[21 : 21 + length], message[21 + length :]
        assert len(record) <= size
        assert length == 65
        shared = self._key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVE, sender))
        secret = hmac256(hmac256(self._auth, shared), b"WebPush: info\0" + self._point + sender + b"\1")
        random = hmac256(salt, secret)
        key = hmac256(random, b"Content-Encoding: aes128gcm\0\1")[:16]
        nonce = hmac256(random, b"Content-Encoding: nonce\0\1")[:12]
        plain = AESGCM(key).decrypt(nonce, record, None).rstrip(b"\0")
        assert plain.endswith(b"\2"), "the only record is the last one"
        found: dict[str, Any] = json.loads(plain[:-1])
        return found


class PushService:
    """What was taken; :attr:`status` is what it answers, with ``retry_after`` if there is one."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self.refused: list[str] = []
        self.status, self.retry_after = 201, ""
        self.url, self.key = "", ""
        """``key``: the one that browsers have subscribed with; empty: it takes any."""
        self._rang = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        """One message."""
        body = await request.read()
        if problem := self._problem(request, body):
            self.refused.append(problem)
            return web.Response(status=403, text=problem)
        if self.status == 201:
            self.taken.append((request.path, dict(request.headers), body))
            self._rang.set()
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        return web.Response(status=self.status, headers={"Location": f"{self.url}/m/1", **headers})

    def _problem(self, request: web.Request, body: bytes) -> str:
        if request.method != "POST" or not request.headers.get("TTL", "").isdigit():
            return "no TTL"
        if request.headers.get("Content-Encoding") != "aes128gcm" or not 103 <= len(body) <= 4096:
            return "no message"
        topic = request.headers.get("Topic", "x")
        if len(topic) > 32 or not topic.replace("-", "").replace("_", "").isalnum():
            return "no topic"
        scheme, _, words = request.headers.get("Authorization", "").partition(" ")
        said = dict(each.strip().split("=", 1) for each in words.split(","))
        if scheme != "vapid" or (self.key and said["k"] != self.key):
            return "not the key of the subscription"
        return self._problem_of_token(said["t"], unb64(said["k"]))

    def _problem_of_token(self, token: str, key: bytes) -> str:
        head, claims, signature = token.split(".")
        raw = unb64(signature)
        r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        ec.EllipticCurvePublicKey.from_encoded_point(CURVE, key).verify(
            encode_dss_signature(r, s), f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256())
        )
        said = json.loads(unb64(claims))
        if json.loads(unb64(head))["alg"] != "ES256" or not said["sub"].startswith(("https:", "mailto:")):
            return "no token"
        return "" if said["aud"] == self.url else "a token for somebody else"

    async def until(self, many: int) -> None:
        """Wait until so many messages were taken.

        Raises:
            TimeoutError: they were not.
        """
        async with asyncio.timeout(PATIENCE_S):
            while len(self.taken) < many:
                self._rang.clear()
                await self._rang.wait()


@contextlib.asynccontextmanager
async def push_service() -> AsyncIterator[PushService]:
    """A service that answers at its ``url``."""
    service, app = PushService(), web.Application()
    app.router.add_route("*", "/{path:.*}", service.answer)
    async with served(app) as service.url:
        yield service
