from hub.web.stream import frame


def test_a_frame_is_as_the_standard_says() -> None:
    assert frame(b'{"a":1}', seq=7, name="end") == b'event: end\nid: 7\ndata: {"a":1}\n\n'
    assert frame(b"{}", seq="a-1.7") == b"id: a-1.7\ndata: {}\n\n"
    assert frame(b"{}") == b"data: {}\n\n"
