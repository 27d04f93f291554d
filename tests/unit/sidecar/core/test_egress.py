"""The promise: only listed names are passed on, whatever a request is written like, and only to the public internet."""

import pytest

from sidecar.core.egress import Allowed, Denied, Wanted, is_name, is_public, request


def asked(target: str, method: str = "CONNECT", fields: str = "") -> Wanted:
    return request(f"{method} {target} HTTP/1.1\r\n{fields}\r\n".encode("latin-1"))


def test_a_tunnel_is_asked_for_by_name_and_port() -> None:
    assert asked("Example.org:443") == Wanted("example.org", 443, b"")
    assert asked("example.org.:8443") == Wanted("example.org", 8443, b"")


def test_a_plain_request_is_written_anew_for_the_server() -> None:
    fields = "Host: evil.example\r\nProxy-Authorization: Basic x\r\nConnection: keep-alive\r\nAccept: */*\r\n"
    wanted = asked("http://Example.org/a?b=c", "GET", fields)

    assert (wanted.host, wanted.port) == ("example.org", 80)
    assert wanted.first == b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    assert asked("http://example.org:8080?q", "POST").first.startswith(
        b"POST /?q HTTP/1.1\r\nHost: example.org:8080\r\n"
    )


@pytest.mark.parametrize(
    "target",
    [
        *("127.0.0.1:80", "2130706433:80", "0x7f000001:80", "0x7f.1:80", "127.1:80", "0177.0.0.1:80", "1.2.3.0x4:80"),
        *("[::1]:80", "[::ffff:127.0.0.1]:80", "::1:80", "user@example.org:443", "example.org\0.evil.org:443"),
        *("example.org", ":443", "example.org:", "example..org:443", ".example.org:443", "example.org:443/x", "-:1"),
        *("exämple.org:443", "example%2eorg:443", "exa_mple.org:443", "a" * 64 + ".org:443", "http://example.org/"),
    ],
)
def test_what_is_no_name_gets_no_tunnel(target: str) -> None:
    with pytest.raises(Denied) as told:
        asked(target)
    assert told.value.status == 400


@pytest.mark.parametrize(
    "target",
    [
        *("/", "http://127.0.0.1/", "http://[::1]/", "http://user:x@example.org/", "https://example.org/", "file:///x"),
        *("http://example.org@evil.org/", "http://example.org\\@evil.org/", "http:///x", "http://example.org:x/"),
        *("http://0x7f000001/", "http://example.org/\r\nX: y", "gopher://example.org/"),
    ],
)
def test_what_is_no_address_on_the_web_is_not_passed_on(target: str) -> None:
    with pytest.raises(Denied):
        asked(target, "GET")


@pytest.mark.parametrize(
    "fields", [" X: y\r\n", "X : y\r\n", "X\r\n", ": y\r\n", "X: a\nHost: evil.org\r\n", "X: \0\r\n"]
)
def test_a_field_that_could_be_read_in_two_ways_is_refused(fields: str) -> None:
    with pytest.raises(Denied):
        asked("http://example.org/", "GET", fields)


@pytest.mark.parametrize(
    "line", ["", "GET", "GET http://example.org/", "GET  http://example.org/ HTTP/1.1", "A B HTTP/2"]
)
def test_what_is_no_request_is_refused(line: str) -> None:
    with pytest.raises(Denied):
        request(f"{line}\r\n\r\n".encode())


def test_only_listed_names_and_their_ports_are_allowed() -> None:
    allowed = Allowed(["example.org", "*.Python.org", "git.example.net:8443"])
    good = [("example.org", 443), ("example.org", 80), ("pypi.python.org", 443), ("a.b.python.org", 80)]
    bad = [("python.org", 443), ("www.example.org", 443), ("example.org", 22), ("git.example.net", 443)]
    bad += [("evilexample.org", 443), ("example.org.evil.com", 443), ("evilpython.org", 443), ("org", 443)]
    for host, port in [*good, ("git.example.net", 8443)]:
        allowed.check(host, port)
    for host, port in bad:
        with pytest.raises(Denied, match="not among the names"):
            allowed.check(host, port)
    with pytest.raises(Denied):
        Allowed([]).check("example.org", 443)


@pytest.mark.parametrize("listed", ["example.org", "*.example.org", "example.org:8443", "Example.ORG"])
def test_names_can_be_listed(listed: str) -> None:
    assert is_name(listed)


@pytest.mark.parametrize(
    "listed",
    [
        "*",
        "",
        "org",
        "*.",
        "10.0.0.1",
        "1.2.3.0x4",
        "http://example.org",
        "example.org/",
        "a.*.org",
        "a.b:0",
        "a.b:99999",
    ],
)
def test_what_is_no_name_cannot_be_listed(listed: str) -> None:
    assert not is_name(listed)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
        ),
        *("100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "fe80::1", "fe80::1%eth0", "fc00::1"),
        *("fec0::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001:db8::1", "2001::1"),
    ],
)
def test_what_is_not_the_public_internet_is_out_of_reach(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "151.101.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_the_public_internet_is_public(address: str) -> None:
    assert is_public(address)
