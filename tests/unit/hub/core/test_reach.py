"""Where the hub may send what others have told it to send."""

import pytest

from hub.core.reach import is_forbidden, is_here


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",  # noqa: S104 - what is asked about
        "::",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
    ],
)
def test_network_services_of_the_machine_are_forbidden(host: str) -> None:
    assert is_forbidden(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.0.0.1", "192.0.2.1", "example.org", "", "0", "169.254"])
def test_other_addresses_and_names_are_not(host: str) -> None:
    assert not is_forbidden(host)


def test_this_machine_is_known_by_name_and_address() -> None:
    assert [is_here(host) for host in ("localhost", "127.0.0.9", "::1", "10.0.0.1", "localhost.example.org", "")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
