"""The command line of bubblewrap for a view of the world.

Pure. Every program gets namespaces of its own: a process table with nobody else in it that ends with the program, a
network that leads nowhere (unless the host's owner opened it), and a file system in which only the view is. Caller:
``sidecar/sandbox/cell.py``.

Bubblewrap 0.8 or newer (for ``--disable-userns``); its manual page tells what each option does.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sidecar.sandbox.policy import Place, View

PROGRAM: Final = "bwrap"
_NOTHING: Final = "/dev/null"


def command(program: str, view: View, place: Place, *, network: bool) -> list[str]:
    """The command line up to the program that is to run inside.

    Args:
        program: path of bubblewrap.
        view, place: what is seen; the program starts in the workspace.
        network: leave the program in the host's network.
    """
    argv = [program, "--die-with-parent", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    argv += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    argv += [] if network else ["--unshare-net"]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    for device in view.devices:
        argv += ["--dev-bind-try", str(device), str(device)]
    for option, source, target in _mounts(view, place, network=network):
        argv += [option, str(source), str(target)] if option != "--tmpfs" else [option, str(target)]
    argv += ["--remount-ro", "/", "--chdir", str(place.workspace), "--"]
    return argv


def _mounts(view: View, place: Place, *, network: bool) -> Iterator[tuple[str, Path, Path]]:
    """What is mounted where, a directory before what lies in it."""
    tmp = place.tmp
    mounts = [("--bind", tmp, Path("/tmp")), ("--bind", tmp, Path("/var/tmp"))]  # noqa: S108 - inside, and its own
    # A mount costs more the more there are of them; a link costs nothing.
    mounts += [
        ("--symlink", path.readlink(), path) if path in view.links else ("--ro-bind", path, path) for path in view.read
    ]
    mounts += [("--tmpfs" if path.is_dir() else "--ro-bind", Path(_NOTHING), path) for path in view.hidden]
    mounts += [("--bind", path, path) for path in view.write]
    mounts += [("--ro-bind", path, path) for path in view.fixed]
    resolver = Path("/etc/resolv.conf").resolve()
    if network and resolver.exists():
        mounts.append(("--ro-bind", resolver, resolver))
    # Of the same depth, what is written to comes after what is only read, and what stays as it is last of all.
    yield from sorted(mounts, key=lambda mount: len(mount[2].parts))
