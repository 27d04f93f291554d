"""One notice through Apprise, in a process of its own: ``python -m hub.apprise_child`` with JSON on its standard input.

Apprise reads where it connects to out of an address in a hundred ways: hosts, options, names that a stranger's server
says, redirects. So what is looked at is the connection itself: Python tells of each before it is made, with the address
that the name has led to, and one to the machine's own network services ends the notice. Nobody can take that look out
again, which is why it is not the hub's own process that has it. What never answers ends with the process.
"""

import importlib
import json
import logging
import socket
import sys
from typing import Any, Final

from hub.core.reach import is_forbidden

_CONNECTING: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
UNKNOWN: Final = "Apprise does not know such an address"
NOT_INSTALLED: Final = "Apprise is not installed on the hub: pip install 'agentcom[notify]'"


class Look:
    """Watches where this process connects to; ``refused``: where it wanted to and must not."""

    def __init__(self) -> None:
        self.refused = ""

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raise if it must not."""
        if event not in _CONNECTING or not isinstance(address := arguments[1], tuple) or not address:
            return
        # A name may come this far, with a datagram: it is looked up as the call is going to.
        for host in (address[0], *(found[4][0] for found in socket.getaddrinfo(address[0], None))):
            if is_forbidden(str(host)):
                self.refused = str(host)
                raise OSError(None, f"no notice may go to {host}")


def problem_of(url: str, title: str, body: str) -> str:
    """Send it; why it has not arrived, empty: it has."""
    look = Look()
    sys.addaudithook(look)
    try:
        apprise: Any = importlib.import_module("apprise")
    except ImportError:
        return NOT_INSTALLED
    logging.disable()  # it says addresses, with the secrets in them
    notice = apprise.Apprise()
    if not notice.add(url):
        return UNKNOWN
    if notice.notify(title=title, body=body):
        return ""
    return f"no notice may go to {look.refused}" if look.refused else "Apprise could not deliver it"


if __name__ == "__main__":
    print(json.dumps({"problem": problem_of(**json.load(sys.stdin))}))  # noqa: T201 - for the hub
