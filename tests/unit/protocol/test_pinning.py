"""A hub is known by its authority, and a byte of another one is never kept."""

import asyncio
import ssl
from pathlib import Path

import pytest

from hub.authority import Authority, load_or_make_authority
from protocol.errors import BadInput
from protocol.pinning import (
    MAX_ANSWER_BYTES,
    WrongHub,
    authority_in,
    authority_request,
    blind_context,
    ca_hash,
    first_certificate,
    pinned_context,
)
from tests.support.certificates import self_signed


def answer(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/x-pem-file\r\n\r\n{body}".encode()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return load_or_make_authority(tmp_path_factory.mktemp("ours"), ["hub.example.org"])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return load_or_make_authority(tmp_path_factory.mktemp("other"), ["hub.example.org"])


def test_the_expected_authority_is_kept_in_one_spelling(ours: Authority) -> None:
    found = authority_in("https://hub", answer("\n  " + ours.ca_pem.replace("\n", "\r\n")), ours.ca_hash.upper())

    assert found == ours.ca_pem
    assert ca_hash(found) == ours.ca_hash


def test_what_stands_behind_the_expected_authority_is_not_trusted(ours: Authority, other: Authority) -> None:
    found = authority_in("https://hub", answer(ours.ca_pem + other.ca_pem), ours.ca_hash)

    assert found == ours.ca_pem
    assert len(pinned_context(ours.ca_pem + other.ca_pem).get_ca_certs()) == 1


def test_another_authority_is_refused_and_the_error_says_what_to_do(ours: Authority, other: Authority) -> None:
    with pytest.raises(WrongHub) as told:
        authority_in("https://hub:7420", answer(other.ca_pem), ours.ca_hash)

    assert (told.value.expected, told.value.found) == (ours.ca_hash, other.ca_hash)
    assert str(told.value) == (
        f"https://hub:7420 is not the hub that is known here (authority {ours.ca_hash[:16]}...): its authority is "
        f"{other.ca_hash[:16]}...; nothing secret was sent. If the hub was set up anew, compare what 'agentcom "
        "fingerprint' prints on its machine and set ca_hash (AGENTCOM_CA_HASH) to it; if not, somebody stands between"
    )


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 404 Not Found\r\n\r\n{}",
        answer("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"),
        b"\xff",
    ],
)
def test_an_answer_without_an_authority_is_no_hub(said: bytes) -> None:
    with pytest.raises(WrongHub):
        authority_in("https://hub", said, "0" * 64)


def test_text_without_a_certificate_is_an_error() -> None:
    for text in ("", "acm_secret", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"):
        with pytest.raises(BadInput, match="certificate"):
            pinned_context(text)
    with pytest.raises(BadInput):
        first_certificate("-----BEGIN CERTIFICATE-----")


def test_names_are_compared_unless_the_authority_signs_for_its_hub_alone(ours: Authority, tmp_path: Path) -> None:
    assert not pinned_context(ours.ca_pem).check_hostname
    assert pinned_context(self_signed(tmp_path, "hub.example.org")[0].read_text()).check_hostname


async def test_a_pinned_connection_is_the_hub_or_none(ours: Authority, other: Authority) -> None:
    async with asyncio.timeout(60):
        port, heard, server = await _serve(ours)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=blind_context())
        writer.write(authority_request(f"127.0.0.1:{port}"))
        pem = authority_in("https://hub", await reader.read(MAX_ANSWER_BYTES), ours.ca_hash)
        writer.close()
        _, good = await asyncio.open_connection("127.0.0.1", port, ssl=pinned_context(pem))
        good.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=pinned_context(other.ca_pem))
        server.close()

    assert heard[0] == authority_request(f"127.0.0.1:{port}")
    assert b"authorization" not in heard[0].lower()


async def _serve(authority: Authority) -> tuple[int, list[bytes], asyncio.Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.cert_file, authority.key_file)
    heard: list[bytes] = []

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.read(1 << 16)
        if said:
            heard.append(said)
            writer.write(answer(authority.ca_pem))
        writer.close()

    server = await asyncio.start_server(answers, "127.0.0.1", 0, ssl=context)
    return server.sockets[0].getsockname()[1], heard, server
