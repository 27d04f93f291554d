"""Promises of :mod:`sidecar.machine`: this machine is known by its name and addresses, and no other is."""

import socket

import pytest

from sidecar import machine


def test_it_is_known_by_its_name_and_by_no_address_that_others_have_too() -> None:
    found = machine.names()

    assert found[0] == socket.gethostname().lower()
    assert len(found) <= machine.MOST
    assert not {"127.0.0.1", "::1"} & {*found}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", socket.gethostname(), f"{socket.gethostname()}.lan"])
def test_what_leads_here_is_here(host: str) -> None:
    assert machine.is_here(host.lower())


@pytest.mark.parametrize("host", ["192.0.2.1", "example.org", ""])
def test_what_leads_elsewhere_is_not(host: str) -> None:
    assert not machine.is_here(host)
