"""The last step before a confined program: gives up the last rights, says so, and becomes the program.

Run by a bare interpreter that sees none of our packages, inside the namespaces that bubblewrap has made or, where there
is no bubblewrap, directly: ``python -I -S -c START ORDERS_FD READY_FD``. It is handed over compiled, beside its orders,
and imports next to nothing: whatever it does first is part of what every command costs. The orders are a marshalled
dict, made by ``sidecar/sandbox/cell.py`` from the pure parts of this package:

``groups``
    descriptors of the control groups that it enters.
``doors``
    pairs of (descriptor, port): it listens there and hands the sockets over, the only ways out.
``limits``
    pairs of (resource, value): what neither the soft nor the hard limit may be above.
``handled``, ``scoped``, ``network``
    what Landlock takes charge of: bit masks of accesses to files, of scopes, of accesses to TCP ports.
``paths``
    pairs of (path, accesses that are allowed beneath it); a path that is not there is left out.
``filter``
    the seccomp program, or nothing.
``argv``
    the program and its arguments.
``env``
    variables of the program, as bytes, besides ours; those by which its processes are found are not changed.

A byte on READY_FD says that all of it holds. Without that byte nothing of the program has run: whatever goes wrong
before is told on stderr and ends this process, never the protection.
"""

import _ctypes  # the half of ctypes that is written in C: the other half takes as long to import as all else here
import os
import resource
import stat
import sys

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_BENEATH = 1
_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""Accesses that a rule for a single file may name: execute, write, read, truncate, ioctl."""
_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127


class _Short(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001 - as ctypes itself does it
    _type_ = "H"


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001 - as above
    _type_ = "l"


class _Text(_ctypes._SimpleCData):  # type: ignore[type-arg]  # noqa: SLF001 - as above
    _type_ = "z"


class _Program(_ctypes.Structure):
    _fields_ = (("length", _Short), ("code", _Text))


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


def main(orders: dict, ready_fd: int) -> None:  # type: ignore[type-arg]  # as marshalled
    """Do as ordered; never returns."""
    os.set_inheritable(ready_fd, False)  # noqa: FBT003 - it takes nothing else
    for door in orders["groups"]:
        os.write(door, b"0")
        os.close(door)
    for line_fd, port in orders["doors"]:
        _hand_over(line_fd, port)
    for which, wanted in orders["limits"]:
        soft, hard = (
            wanted if now == resource.RLIM_INFINITY else min(wanted, now) for now in resource.getrlimit(which)
        )
        resource.setrlimit(which, (soft, hard))
    if sys.platform == "linux":
        _close_off(orders)
    os.write(ready_fd, b"1")
    _become(orders["argv"], orders["env"])


def _close_off(orders: dict) -> None:  # type: ignore[type-arg]  # as marshalled
    libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # it takes it: what is loaded already
    prctl, syscall = _Function(_ctypes.dlsym(libc, "prctl")), _Function(_ctypes.dlsym(libc, "syscall"))
    _do(prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if orders["handled"]:
        _restrict(syscall, orders)
    if code := orders["filter"]:
        program = _Program(len(code) // 8, code)
        _do(prctl(_PR_SET_SECCOMP, _MODE_FILTER, _ctypes.byref(program), 0, 0), "seccomp")


def _hand_over(line_fd: int, port: int) -> None:
    import _socket  # most programs need it not, and the module above it takes a third of our time

    with_rights = _socket.SOL_SOCKET, _socket.SCM_RIGHTS
    door = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    line = _socket.socket(fileno=line_fd)
    door.bind(("127.0.0.1", port))
    door.listen(64)
    line.sendmsg([b"1"], [(*with_rights, door.fileno().to_bytes(4, sys.byteorder))])
    line.close()
    door.close()


def _restrict(syscall: "_Function", orders: dict) -> None:  # type: ignore[type-arg]  # as marshalled
    # struct landlock_ruleset_attr and, packed, struct landlock_path_beneath_attr
    attr = b"".join(orders[each].to_bytes(8, sys.byteorder) for each in ("handled", "network", "scoped"))
    ruleset = _do(syscall(_CREATE_RULESET, attr, len(attr), 0), "landlock")
    for path, wanted in orders["paths"]:
        try:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        access = wanted if stat.S_ISDIR(os.fstat(parent).st_mode) else wanted & _OF_FILES
        rule = (access & orders["handled"]).to_bytes(8, sys.byteorder) + parent.to_bytes(4, sys.byteorder)
        _do(syscall(_ADD_RULE, ruleset, _BENEATH, rule, 0), f"landlock rule for {path}")
        os.close(parent)
    _do(syscall(_RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def _do(result: int, what: str) -> int:
    if result < 0:
        sys.stderr.write(f"{what}: {os.strerror(_ctypes.get_errno())}\n")
        os._exit(_FAILED)
    return result


def _become(argv: list[str], env: dict[bytes, bytes]) -> None:
    marks = {name: value for name, value in os.environb.items() if name.startswith(b"AGENTCOM_")}
    try:
        os.execvpe(argv[0], argv, {**os.environb, **env, **marks})  # noqa: S606 - what all of this is for
    except (FileNotFoundError, NotADirectoryError):
        sys.stderr.write(f"{argv[0]}: command not found\n")
        sys.stderr.flush()
        os._exit(_NOT_FOUND)
    except OSError as exc:
        sys.stderr.write(f"{argv[0]}: cannot be executed: {exc.strerror}\n")
        sys.stderr.flush()
        os._exit(_NOT_EXECUTABLE)
