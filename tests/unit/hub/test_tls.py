"""The certificate of a hub's port while it runs: renewed in time, read again when it changes, never lost."""

import hashlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from os import utime
from pathlib import Path

import pytest

from hub.authority import DAYS, RENEW_DAYS
from hub.settings import load
from hub.tls import Tls
from protocol.pinning import blind_context
from tests.support.certificates import self_signed

NOW = datetime.now(UTC)


@pytest.fixture
def moments() -> Iterator[int]:
    """Times of files, each later than the one before."""
    return count(2_000_000_000)


def given(folder: Path) -> Tls:
    cert, key = self_signed(folder, "127.0.0.1")
    settings = {"data_dir": str(folder / "hub"), "tls_cert": str(cert), "tls_key": str(key)}
    return Tls(load(settings, env={})[0])


def put(folder: Path, name: str, text: bytes, moments: Iterator[int]) -> None:
    (folder / name).write_bytes(text)
    at = next(moments)
    utime(folder / name, (at, at))


def shown(tls: Tls) -> bytes:
    """SHA-256 of the certificate that a client sees: a handshake without a network."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    client = blind_context().wrap_bio(to_client, to_server)
    for end in (client, server, client):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return hashlib.sha256(client.getpeercert(binary_form=True) or b"").digest()


def test_a_certificate_of_its_own_is_renewed_while_the_hub_runs(tmp_path: Path) -> None:
    tls = Tls(load({"data_dir": str(tmp_path), "tls": True}, env={})[0])
    first, authority = shown(tls), tls.authority

    tls.look(NOW + timedelta(days=DAYS - RENEW_DAYS - 1))
    assert shown(tls) == first

    tls.look(NOW + timedelta(days=DAYS - RENEW_DAYS + 1))
    assert shown(tls) == tls.channel != first
    assert tls.authority.ca_hash == authority.ca_hash
    assert tls.authority.ends_at > authority.ends_at


def test_a_given_certificate_is_read_again_when_both_files_have_changed(tmp_path: Path, moments: Iterator[int]) -> None:
    tls = given(tmp_path)
    first = shown(tls)
    (tmp_path / "new").mkdir()
    cert, key = self_signed(tmp_path / "new", "127.0.0.1")

    put(tmp_path, "given.pem", cert.read_bytes(), moments)
    tls.look(NOW)  # its key is not there yet
    assert shown(tls) == tls.channel == first

    put(tmp_path, "given.key", key.read_bytes(), moments)
    tls.look(NOW)
    assert shown(tls) == tls.channel != first


@pytest.mark.parametrize("name", ["given.pem", "given.key"])
@pytest.mark.parametrize("text", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"])
def test_what_cannot_be_used_leaves_the_old_certificate(
    tmp_path: Path, moments: Iterator[int], name: str, text: bytes
) -> None:
    tls = given(tmp_path)
    first = shown(tls)
    put(tmp_path, name, text, moments)

    tls.look(NOW)

    assert shown(tls) == tls.channel == first


def test_what_could_not_be_used_is_tried_again(tmp_path: Path, moments: Iterator[int]) -> None:
    tls = given(tmp_path)
    first, stamp = shown(tls), next(moments)
    (tmp_path / "new").mkdir()
    for made in self_signed(tmp_path / "new", "127.0.0.1"):
        (tmp_path / made.name).write_bytes(b"")
        utime(tmp_path / made.name, (stamp, stamp))
    tls.look(NOW)
    for name in ("given.pem", "given.key"):  # whole now, by the same clock
        (tmp_path / name).write_bytes((tmp_path / "new" / name).read_bytes())
        utime(tmp_path / name, (stamp, stamp))
    tls.look(NOW)

    assert shown(tls) == tls.channel != first
