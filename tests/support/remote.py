"""A machine of its own, as far as the network can tell: a network namespace with one cable to this one.

Packets are lost on the far side of the cable, inside the namespace, so nothing else on this machine is touched.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from typing import Final

from tests.support.bad_disk import need_programs

TO_US: Final = ("OUTPUT", "-o")
FROM_US: Final = ("INPUT", "-i")


class Remote:
    """A namespace; :attr:`here` is our address on the cable, :attr:`under` runs a command over there."""

    def __init__(self) -> None:
        number = os.getpid() % (1 << 14)
        self.name = f"agentcom-{number}"
        self._near, self._far = f"acm{number}a", f"acm{number}b"
        net = f"10.{77 + (number >> 12)}.{(number >> 4) & 255}"
        low = (number & 15) * 16
        self.here, self.there = f"{net}.{low + 1}", f"{net}.{low + 2}"
        self.under = ("ip", "netns", "exec", self.name)

    def lay(self) -> None:
        """Make the namespace and the cable."""
        _run("ip", "netns", "add", self.name)
        _run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self.name)
        _run("ip", "addr", "add", f"{self.here}/30", "dev", self._near)
        _run("ip", "link", "set", self._near, "up")
        _run(*self.under, "ip", "addr", "add", f"{self.there}/30", "dev", self._far)
        _run(*self.under, "ip", "link", "set", self._far, "up")
        _run(*self.under, "ip", "link", "set", "lo", "up")

    def remove(self) -> None:
        """Take both away."""
        subprocess.run(["ip", "link", "del", self._near], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    def drop(self, *ways: tuple[str, str]) -> None:
        """From now on every packet of these ways (:data:`TO_US`, :data:`FROM_US`) is lost."""
        for chain, side in ways:
            _run(*self.under, "iptables", "-A", chain, side, self._far, "-j", "DROP")

    def lose(self, share: float) -> None:
        """From now on this share of all packets is lost, both ways."""
        for chain, side in (TO_US, FROM_US):
            chance = ("-m", "statistic", "--mode", "random", "--probability", f"{share:.4f}")
            _run(*self.under, "iptables", "-A", chain, side, self._far, *chance, "-j", "DROP")

    def heal(self) -> None:
        """Nothing is lost any more."""
        _run(*self.under, "iptables", "-F")


@contextlib.contextmanager
def remote() -> Iterator[Remote]:
    """A remote machine; needs root."""
    need_programs("iptables", "iproute2")
    made = Remote()
    made.remove()  # of a run that was killed
    try:
        made.lay()
        yield made
    finally:
        made.remove()


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
