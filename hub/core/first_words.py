"""What a caller has to say before it is worth a place inside: a whole request head, or the hello of a TLS handshake.

Each function is given all that has come so far and says when to look again: how many bytes have to be there, at least.
``ENOUGH`` means let it in, also for what is no request at all: the server behind has an answer to that. ``NONSENSE``
is what nobody has an answer to.

Who sends neither token nor cookie may say little, so such a request counts as whole with its body: one that drips in
then costs no more than a head that does.
"""

import re
from typing import Final

ENOUGH: Final = 0
NONSENSE: Final = -1
MOST_BYTES: Final = 16 << 10
"""Of a longer request the server judges for itself."""
_RECORD_BYTES: Final = 5
"""Before each record of TLS: its type, a version, its length (RFC 8446, section 5.1)."""
_MOST_RECORD_BYTES: Final = 1 << 14
_HANDSHAKE, _CLIENT_HELLO, _LEAST_RECORD_BYTES = 22, 1, 4
LOOK_BYTES: Final = _RECORD_BYTES + _MOST_RECORD_BYTES
"""More than that nobody has to hear to know what to do."""
_SHOWS_WHO: Final = re.compile(rb"\r\n(?:authorization|cookie|expect|transfer-encoding)[ \t]*:", re.IGNORECASE)
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,5})[ \t]*\r\n", re.IGNORECASE)


def wanted_of_request(said: bytes) -> int:
    """When to look again at the beginning of a request over HTTP."""
    if not said[:1].isalpha() or len(said) >= MOST_BYTES:
        return ENOUGH if said else 1
    end = said.find(b"\r\n\r\n")
    if end < 0:
        has_bare_line = said.count(b"\n") > said.count(b"\r\n")  # counted: no pattern, for this is done for each drip
        return ENOUGH if has_bare_line else len(said) + 1
    head = said[: end + 2]
    length = _LENGTH.search(head)
    if length is None or _SHOWS_WHO.search(head):
        return ENOUGH
    whole = end + 4 + int(length[1])
    return whole if len(said) < whole <= MOST_BYTES else ENOUGH


def wanted_of_hello(said: bytes) -> int:
    """When to look again at the beginning of a connection that should speak TLS."""
    expected = (_HANDSHAKE, 3)
    if any(found != wanted for found, wanted in zip(said, expected, strict=False)):
        return NONSENSE
    if len(said) < _RECORD_BYTES:
        return _RECORD_BYTES
    length = int.from_bytes(said[3:5])
    if not _LEAST_RECORD_BYTES <= length <= _MOST_RECORD_BYTES or said[5:6] not in {b"", bytes([_CLIENT_HELLO])}:
        return NONSENSE
    whole = _RECORD_BYTES + length
    return whole if len(said) < whole else ENOUGH
