"""Requests that are alike but for two headers: what the fast look finds is what reading line by line finds."""

from hypothesis import given
from hypothesis import strategies as st

from hub.web.alike import Head

FIRST = b"POST /tasks HTTP/1.1"


def request(key: bytes | None, length: bytes, body: bytes, *more: bytes) -> bytes:
    named = () if key is None else (b"Idempotency-Key:" + key,)
    return b"\r\n".join([FIRST, b"Host: x", *named, b"Content-Length: " + length, *more, b"", b""]) + body


@given(
    key=st.none() | st.binary(max_size=9),
    length=st.integers(0, 9).map(lambda size: b"%d" % size) | st.binary(max_size=9),
    body=st.binary(max_size=9),
    more=st.sampled_from([(), (b"Accept: a",), (b"Content-Length: 3",)]),
)
def test_only_key_and_length_may_differ(key: bytes | None, length: bytes, body: bytes, more: tuple[bytes, ...]) -> None:
    head = Head.of(request(b" a", b"2", b"{}") if key is not None else request(None, b"2", b"{}"))
    assert head is not None
    data = request(key, length, body, *more)
    found = head.read(data)

    if found is not None:
        assert not more
        assert found.size == int(length.strip(b" \t"))
        assert found.rest == body
        assert found.key == (None if key is None else key.strip(b" \t"))
    elif not more and b"\r" not in (key or b""):
        size = length.strip(b" \t")
        assert not size.isdigit() or len(size) > 7


def test_a_head_that_is_not_whole_or_says_something_twice_is_none() -> None:
    assert Head.of(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n") is None
    assert Head.of(request(b"a", b"2", b"{}", b"Content-Length: 2")) is None
    assert Head.of(request(b"a", b"2", b"{}", b"Idempotency-Key: b")) is None
    assert Head.of(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n") is None
