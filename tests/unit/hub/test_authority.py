"""What a hub makes for itself stays the same, is private, and is renewed in time."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.authority import CA_DAYS, DAYS, RENEW_DAYS, given_authority, is_due, load_or_make_authority
from protocol.errors import BadInput
from protocol.pinning import ca_hash
from tests.support.certificates import self_signed

NOW = datetime(2027, 1, 1, tzinfo=UTC)
NAMES = ("127.0.0.1", "::1", "hub.example.org", "localhost")


def test_the_second_start_finds_what_the_first_has_made(tmp_path: Path) -> None:
    first = load_or_make_authority(tmp_path, NAMES, NOW)
    again = load_or_make_authority(tmp_path, [*reversed(NAMES), "LOCALHOST"], NOW)

    assert again == first
    assert first.names == NAMES
    assert first.ca_hash == ca_hash((tmp_path / "tls" / "ca.pem").read_text())
    assert first.ends_at == NOW + timedelta(days=DAYS)


def test_keys_are_nobody_elses_to_read(tmp_path: Path) -> None:
    load_or_make_authority(tmp_path, NAMES, NOW)

    folder = tmp_path / "tls"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == {
        "ca.key": 0o600,
        "ca.pem": 0o600,
        "hub.pem": 0o600,
    }


@pytest.mark.parametrize("days, is_new", [(DAYS - RENEW_DAYS - 1, False), (DAYS - RENEW_DAYS + 1, True), (-2, True)])
def test_a_certificate_is_renewed_when_a_third_is_left_and_the_authority_stays(
    tmp_path: Path, days: int, is_new: bool
) -> None:
    first = load_or_make_authority(tmp_path, NAMES, NOW)
    later = NOW + timedelta(days=days)
    again = load_or_make_authority(tmp_path, NAMES, later)

    assert is_due(first, later) is (days > 0 and is_new)
    assert (again.ends_at != first.ends_at) is is_new
    assert again.ca_hash == first.ca_hash
    assert CA_DAYS > 10 * 365


def test_new_names_make_a_new_certificate_of_the_same_authority(tmp_path: Path) -> None:
    first = load_or_make_authority(tmp_path, NAMES, NOW)
    again = load_or_make_authority(tmp_path, [*NAMES, "10.0.0.7"], NOW + timedelta(days=1))

    assert again.names == tuple(sorted([*NAMES, "10.0.0.7"]))
    assert again.ca_hash == first.ca_hash


def test_a_start_that_ended_half_way_is_finished_by_the_next(tmp_path: Path) -> None:
    load_or_make_authority(tmp_path, NAMES, NOW)
    (tmp_path / "tls" / "ca.pem").unlink()
    (tmp_path / "tls" / "hub.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAA")

    made = load_or_make_authority(tmp_path, NAMES, NOW)

    ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.pem"))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(made.cert_file, made.key_file)


@pytest.mark.parametrize("harm", ["no key", "damaged key", "another key", "damaged authority"])
def test_an_authority_that_machines_know_is_never_overwritten(tmp_path: Path, harm: str) -> None:
    load_or_make_authority(tmp_path, NAMES, NOW)
    load_or_make_authority(tmp_path / "other", NAMES, NOW)
    key, pem = tmp_path / "tls" / "ca.key", tmp_path / "tls" / "ca.pem"
    if harm == "no key":
        key.unlink()
    elif harm == "another key":
        key.write_bytes((tmp_path / "other" / "tls" / "ca.key").read_bytes())
    else:
        (key if harm == "damaged key" else pem).write_bytes(b"-----BEGIN NONSENSE-----\n")
    before = pem.read_bytes()

    with pytest.raises(BadInput, match=r"put the folder back from a copy; or remove it"):
        load_or_make_authority(tmp_path, NAMES, NOW)

    assert pem.read_bytes() == before


def test_a_given_certificate_that_signed_itself_is_what_clients_pin(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, "hub.example.org")

    found = given_authority(str(cert), str(key))

    assert found.ca_hash == ca_hash(cert.read_text())
    assert (found.names, found.is_own) == (("hub.example.org",), False)


def test_a_given_certificate_that_somebody_signed_is_left_to_the_trust_of_the_system(tmp_path: Path) -> None:
    made = load_or_make_authority(tmp_path, NAMES, NOW)
    leaf = tmp_path / "leaf.pem"
    leaf.write_text(
        Path(made.cert_file).read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )

    found = given_authority(str(leaf), made.key_file)

    assert (found.ca_pem, found.ca_hash, found.names) == ("", "", NAMES)


def test_a_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")

    with pytest.raises(BadInput, match="holds no certificate"):
        given_authority(str(tmp_path / "x.pem"), "")
