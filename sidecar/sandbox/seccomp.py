"""The system calls that confined programs do not get, as a program for the kernel's filter.

Pure. Refused is what reaches past a sandbox or has again and again been the way out of one: other processes' memory,
mounts and namespaces, io_uring (which goes around the filter itself), kernel keys, BPF, clocks, modules, typing into
somebody else's terminal, and families of sockets that no network namespace holds. Everything else is allowed: this is
the second wall, the first is what the program can see at all. A refused call fails with ``EPERM``, so programs go on or
say so; ``clone3`` fails with ``ENOSYS``, because its flags cannot be looked at and every C library then uses ``clone``.

Numbers: ``asm/unistd.h`` of each machine. Caller: ``sidecar/sandbox/cell.py``.
"""

import errno
import struct
from typing import Final, NamedTuple

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16
_ERRNO: Final = 0x00050000
_X32: Final = 0x40000000
"""Numbers from here on are calls of x32, a second table for the same machine."""

_NAMESPACES: Final = 0x7E020080
"""CLONE_NEW*: mount, cgroup, uts, ipc, user, pid, net, time."""
_TERMINAL: Final = (0x5412, 0x541C, 0x5423)
"""ioctl TIOCSTI and TIOCLINUX type into a terminal, TIOCSETD loads line disciplines."""
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_ONE_BY_PRIORITY, _ONE_BY_DISK = 0, 1
"""PRIO_PROCESS and IOPRIO_WHO_PROCESS."""


class _Numbers(NamedTuple):
    """The calls of one machine.

    ``of_others``: prlimit64, sched_setscheduler, sched_setparam, sched_setattr, sched_setaffinity, setpriority and
    ioprio_set, each with the place of the argument that says whose: 0 is the caller itself.
    ``of_many``: setpriority and ioprio_set again, with the only first argument that means one process: of others, 0 is
    the whole group of processes, or all that the user runs.
    ``shared``: shared memory, semaphores and queues, of System V and of POSIX (mq_open, mq_unlink).
    """

    machine: int
    clone: int
    clone3: int
    unshare: int
    ioctl: int
    socket: int
    of_others: tuple[tuple[int, int], ...]
    of_many: tuple[tuple[int, int], ...]
    shared: tuple[int, ...]
    refused: tuple[int, ...]


_NEW: Final = (425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 442, 443, 467)
"""The same everywhere: io_uring (3), open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, pidfd_getfd,
mount_setattr, quotactl_fd, open_tree_attr."""

_X86_64: Final = _Numbers(
    machine=0xC000003E,
    clone=56,
    clone3=435,
    unshare=272,
    ioctl=16,
    socket=41,
    of_others=((302, 0), (144, 0), (142, 0), (314, 0), (203, 0), (141, 1), (251, 1)),
    of_many=((141, _ONE_BY_PRIORITY), (251, _ONE_BY_DISK)),
    shared=(29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 220, 240, 241),
    refused=(
        *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
        *(
            248,
            249,
            250,
            321,
            323,
            298,
            300,
        ),  # keys, bpf, userfaultfd, perf_event_open, fanotify_init
        *(165, 166, 155, 161, 308, 303, 304),  # mount, umount2, pivot_root, chroot, setns, files by handle
        *(167, 168, 169, 170, 171, 175, 176, 313, 246, 320),  # swap, reboot, names of the host, modules, kexec
        *(179, 163, 172, 173, 164, 227, 305, 159, 103, 153, 154, 134, 212),  # quota, acct, ports, clocks, log, ldt
        *_NEW,
    ),
)
_AARCH64: Final = _Numbers(
    machine=0xC00000B7,
    clone=220,
    clone3=435,
    unshare=97,
    ioctl=29,
    socket=198,
    of_others=((261, 0), (119, 0), (118, 0), (274, 0), (122, 0), (140, 1), (30, 1)),
    of_many=((140, _ONE_BY_PRIORITY), (30, _ONE_BY_DISK)),
    shared=(186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 180, 181),
    refused=(
        *(117, 270, 271, 272),
        *(217, 218, 219, 280, 282, 241, 262),
        *(40, 39, 41, 51, 268, 264, 265),
        *(224, 225, 142, 161, 162, 105, 106, 273, 104, 294),
        *(60, 89, 170, 112, 266, 171, 116, 58, 18),
        *_NEW,
    ),
)
_MACHINES: Final = {"x86_64": _X86_64, "AMD64": _X86_64, "aarch64": _AARCH64, "arm64": _AARCH64}


def families(*, isolated: bool, network: bool) -> tuple[int, ...]:
    """The families of sockets that a program gets.

    Args:
        isolated: it has a network and a file system of its own, so sockets lead nowhere by themselves. Where it has
            not, a socket file of the host would be a way out (Landlock does not look at connections to those).
        network: it may use the host's network.
    """
    if isolated:
        return (_UNIX, _INET, _INET6, _NETLINK)
    return (_INET, _INET6) if network else ()


def program(machine: str, sockets: tuple[int, ...], *, isolated: bool = True) -> bytes:
    """The filter for ``machine`` (as ``platform.machine()`` says it), empty if its numbers are not known here.

    Args:
        machine: the processor.
        sockets: families that ``socket`` may be asked for.
        isolated: it has a process table and shared memory of its own. Where it has not, it may change limits and
            priorities of itself only, and gets no shared memory, semaphores or queues that have a number or a name of
            their own: Landlock does not look at those calls, and a limit can end whoever is given it.
    """
    numbers = _MACHINES.get(machine)
    if numbers is None:
        return b""
    refuse = _ERRNO | errno.EPERM
    code = [_load(_MACHINE), _jump(_EQUAL, numbers.machine, 1, 0), _return(_KILL), _load(_NUMBER)]
    if numbers is _X86_64:
        code += [_jump(_AT_LEAST, _X32, 0, 1), _return(_KILL)]
    for number in numbers.refused if isolated else (*numbers.refused, *numbers.shared):
        code += [_jump(_EQUAL, number, 0, 1), _return(refuse)]
    code += [_jump(_EQUAL, numbers.clone3, 0, 1), _return(_ERRNO | errno.ENOSYS)]
    for number in (numbers.clone, numbers.unshare):
        code += _when(number, 0, [_jump(_ANY_BIT, _NAMESPACES, 0, 1), _return(refuse)])
    for number, place in () if isolated else numbers.of_others:
        code += _when(number, place, [_jump(_EQUAL, 0, 1, 0), _return(refuse)])
    for number, one in () if isolated else numbers.of_many:
        code += _when(number, 0, [_jump(_EQUAL, one, 1, 0), _return(refuse)])
    terminal = [part for request in _TERMINAL for part in (_jump(_EQUAL, request, 0, 1), _return(refuse))]
    code += _when(numbers.ioctl, 1, terminal)
    known = [part for family in sockets for part in (_jump(_EQUAL, family, 0, 1), _return(_ALLOW))]
    code += _when(numbers.socket, 0, [*known, _return(refuse)])
    return b"".join([*code, _return(_ALLOW)])


def _when(number: int, argument: int, judge: list[bytes]) -> list[bytes]:
    """For the call ``number``, look at the low half of an argument; the number is loaded before and after."""
    body = [_load(_ARGUMENTS + 8 * argument), *judge, _load(_NUMBER)]
    return [_jump(_EQUAL, number, 0, len(body)), *body]


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", _LOAD, 0, 0, offset)


def _jump(test: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", test, if_true, if_false, value)


def _return(value: int) -> bytes:
    return struct.pack("=HBBI", _RETURN, 0, 0, value)
