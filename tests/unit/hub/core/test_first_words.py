"""What is worth a place inside, and when it is worth to look again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.first_words import ENOUGH, LOOK_BYTES, MOST_BYTES, NONSENSE, wanted_of_hello, wanted_of_request

HEAD = b"GET / HTTP/1.1\r\nHost: hub\r\n"
FORM = b"POST /session HTTP/1.1\r\nHost: hub\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize(
    "said, wanted",
    [
        (b"", 1),
        (b"G", 2),
        (HEAD, len(HEAD) + 1),
        (HEAD + b"\r\n", ENOUGH),
        (HEAD + b"\r\nmore", ENOUGH),
        (FORM + b"\r\n", len(FORM) + 7),
        (FORM + b"\r\n1234", len(FORM) + 7),
        (FORM + b"\r\n12345", ENOUGH),
    ],
)
def test_a_request_is_whole_with_its_head_and_what_little_it_carries(said: bytes, wanted: int) -> None:
    assert wanted_of_request(said) == wanted


@pytest.mark.parametrize(
    "more", [b"Authorization: Bearer x", b"cookie: a=b", b"Expect: 100-continue", b"Transfer-Encoding: chunked"]
)
def test_who_says_who_it_is_or_waits_for_an_answer_is_let_in_before_its_body(more: bytes) -> None:
    assert wanted_of_request(FORM + more + b"\r\n\r\n") == ENOUGH


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00",  # TLS, where none is spoken
        b"\r\n",
        b"GET / HTTP/1.0\n",
        HEAD + b"\n",
        b"A" * MOST_BYTES,
        FORM.replace(b"5", b"99999") + b"\r\n",
        FORM.replace(b"5", b"five") + b"\r\n",
    ],
    ids=["TLS", "empty line", "bare line feed", "bare line feed later", "too long", "large body", "no number"],
)
def test_what_the_server_has_an_answer_to_gets_it_at_once(said: bytes) -> None:
    assert wanted_of_request(said) == ENOUGH


HELLO = b"\x16\x03\x01\x00\x06\x01" + bytes(5)


@pytest.mark.parametrize(
    "said, wanted",
    [
        (b"", 5),
        (HELLO[:1], 5),
        (HELLO[:4], 5),
        (HELLO[:5], 11),
        (HELLO[:10], 11),
        (HELLO, ENOUGH),
        (HELLO + b"more", ENOUGH),
        (b"G", NONSENSE),
        (b"\x16\x02", NONSENSE),
        (b"\x16\x03\x01\x00\x03", NONSENSE),
        (b"\x16\x03\x01\xff\xff", NONSENSE),
        (b"\x16\x03\x01\x00\x06\x02", NONSENSE),
    ],
)
def test_a_hello_is_whole_with_its_record_and_anything_else_is_no_handshake(said: bytes, wanted: int) -> None:
    assert wanted_of_hello(said) == wanted


@given(st.binary(max_size=64) | st.sampled_from([HEAD + b"\r\n", FORM + b"\r\n12345", HELLO]), st.data())
def test_to_look_again_is_only_asked_for_more_than_there_is_and_never_for_too_much(
    said: bytes, data: st.DataObject
) -> None:
    part = said[: data.draw(st.integers(0, len(said)))]
    for wanted in (wanted_of_request(part), wanted_of_hello(part)):
        assert wanted in {ENOUGH, NONSENSE} or len(part) < wanted <= LOOK_BYTES
