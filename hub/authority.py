"""The authority that a hub makes for itself, and the certificate that it signs with it: TLS without anybody's help.

Both lie in ``DIR/tls``: ``ca.key`` (0600) and ``ca.pem`` stay for as long as the data directory does, because machines
know the hub by the SHA-256 of ``ca.pem``; ``hub.pem`` (0600: certificate, authority and key in one file, so that a
power cut leaves a pair or none) is made anew when its names change or a third of its time is left. Callers:
``hub/tls.py``, and the commands that add a machine. What clients do with it is ``protocol/pinning.py``.
"""

import ipaddress
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from protocol.errors import BadInput, Problem
from protocol.pinning import OWN_AUTHORITY, ca_hash, first_certificate

log = structlog.get_logger(__name__)
FOLDER: Final = "tls"
CA_FILE, CA_KEY_FILE, HUB_FILE = "ca.pem", "ca.key", "hub.pem"
CA_DAYS: Final = 20 * 365
DAYS: Final = 90
RENEW_DAYS: Final = 30
"""A certificate with less time left is made anew: a month for somebody to notice that it was not."""
MOST_NAMES: Final = 200
_EARLIER: Final = timedelta(days=1)
"""Certificates count from a day ago: clocks of other machines may be behind."""


class Authority(Struct, frozen=True, kw_only=True):
    """With what a hub speaks TLS.

    Attributes:
        ca_pem, ca_hash: what clients pin; empty: a public authority has signed, and clients ask their system.
        cert_file, key_file: certificate chain and key, as ``ssl.SSLContext.load_cert_chain`` takes them.
        names: host names and addresses that the certificate is for.
        ends_at: when it ends.
        is_own: the hub has made both, and renews the certificate.
    """

    ca_pem: str
    ca_hash: str
    cert_file: str
    key_file: str
    names: tuple[str, ...]
    ends_at: datetime
    is_own: bool = False


def load_or_make_authority(data_dir: Path, names: Iterable[str], now: datetime | None = None) -> Authority:
    """The hub's own authority and a certificate for ``names`` that lasts; each is made if it is not there.

    Args:
        data_dir: of the hub.
        names: host names and IP addresses by which it is reached.
        now: aware; left out: the system's time.
    Raises:
        BadInput: a file is damaged or half of a pair is gone. Nothing is overwritten: machines know this hub by it.
        OSError: the files cannot be written.
    """
    now = now or datetime.now(UTC)
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, ca_key = _authority(folder, now)
    wanted = tuple(sorted({name.lower() for name in names}))[:MOST_NAMES]
    file = folder / HUB_FILE
    leaf = _usable(file, ca, wanted, now)
    if leaf is None:
        leaf = _issue(file, ca, ca_key, wanted, now)
    pem = first_certificate(_pem(ca).decode())
    return Authority(
        ca_pem=pem,
        ca_hash=ca_hash(pem),
        cert_file=str(file),
        key_file=str(file),
        names=wanted,
        ends_at=leaf.not_valid_after_utc,
        is_own=True,
    )


def given_authority(cert_file: str, key_file: str) -> Authority:
    """That of a certificate which somebody else has made; clients pin the top of its chain if that signed itself.

    Raises:
        BadInput: the file holds no certificate.
        OSError: it cannot be read.
    """
    try:
        chain = x509.load_pem_x509_certificates(Path(cert_file).read_bytes())
    except ValueError as exc:
        raise BadInput(
            [Problem("tls_cert", f"{cert_file} holds no certificate in PEM form: {exc}")], "settings"
        ) from exc
    leaf, top = chain[0], chain[-1]
    pem = first_certificate(_pem(top).decode()) if top.issuer == top.subject else ""
    return Authority(
        ca_pem=pem,
        ca_hash=ca_hash(pem) if pem else "",
        cert_file=cert_file,
        key_file=key_file,
        names=_names(leaf),
        ends_at=leaf.not_valid_after_utc,
    )


def is_due(authority: Authority, now: datetime) -> bool:
    """Whether its certificate should be made anew."""
    return authority.ends_at - now < timedelta(days=RENEW_DAYS)


# --- the authority ----------------------------------------------------------------------------------------------------


def _authority(folder: Path, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key_file, file = folder / CA_KEY_FILE, folder / CA_FILE
    if file.exists() and not key_file.exists():
        raise _broken(f"{key_file} is gone, and with it what signs certificates of this hub")
    if not key_file.exists():
        _write_private(key_file, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        ca = x509.load_pem_x509_certificate(file.read_bytes()) if file.exists() else None
    except (ValueError, TypeError) as exc:
        raise _broken(f"{folder} cannot be read as key and certificate: {exc}") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _broken(f"{key_file} is no key of this hub")
    if ca is None:  # the first start, or one that ended between the two files: nobody has seen the key yet
        ca = _make_authority(key, now)
        _write_private(file, _pem(ca))
        log.info("authority_made", path=str(file), sha256=ca_hash(_pem(ca).decode()))
    elif ca.public_key() != key.public_key():
        raise _broken(f"{file} and {key_file} do not belong together")
    return ca, key


def _make_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # A name of its own for every hub: browsers that have met two with one name and two keys refuse both.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, OWN_AUTHORITY),
            x509.NameAttribute(NameOID.COMMON_NAME, f"AgentCom {secrets.token_hex(4)}"),
        ]
    )
    return (
        _builder(name, name, key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _broken(why: str) -> BadInput:
    way = (
        "put the folder back from a copy; or remove it, and the hub makes a new authority, whose hash every machine "
        "has to be told"
    )
    return BadInput([Problem("data_dir", f"{why}; {way}")], "settings")


# --- the certificate --------------------------------------------------------------------------------------------------


def _usable(file: Path, ca: x509.Certificate, names: tuple[str, ...], now: datetime) -> x509.Certificate | None:
    """The certificate in ``file``, if it is this authority's, for these names, and lasts."""
    try:
        raw = file.read_bytes()
        leaf = x509.load_pem_x509_certificate(raw)
        serialization.load_pem_private_key(raw, None)
        leaf.verify_directly_issued_by(ca)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, InvalidSignature) as exc:
        log.warning("certificate_useless", path=str(file), why=str(exc) or type(exc).__name__, next="a new one is made")
        return None
    lasts = leaf.not_valid_after_utc - now >= timedelta(days=RENEW_DAYS) and leaf.not_valid_before_utc <= now
    return leaf if lasts and _names(leaf) == names else None


def _issue(
    file: Path, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, names: tuple[str, ...], now: datetime
) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AgentCom hub")])
    leaf = (
        _builder(subject, ca.subject, key.public_key(), now, DAYS)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write_private(file, _pem(leaf) + _pem(ca) + _key_pem(key))
    log.info("certificate_made", path=str(file), names=len(names), ends_at=leaf.not_valid_after_utc.isoformat())
    return leaf


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names = {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}
    return tuple(sorted(names))


# --- files ------------------------------------------------------------------------------------------------------------


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(file: Path, content: bytes) -> None:
    """Write a file of mode 0600 that is there as a whole or not at all, after a power cut too."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
