"""Promises of :mod:`sidecar.sandbox.seccomp`: the filter refuses what it says, on both machines, and nothing else."""

import errno
import struct

import pytest

from sidecar.sandbox import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSED, MISSING = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
READ = {"x86_64": 0, "aarch64": 63}
SOCKET = {"x86_64": 41, "aarch64": 198}
CLONE = {"x86_64": 56, "aarch64": 220}
IOCTL = {"x86_64": 16, "aarch64": 29}
PTRACE = {"x86_64": 101, "aarch64": 117}


def judge(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel does with a call: the machine of linux/filter.h, as far as these programs use it."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        what, if_true, if_false, value = code[at]
        at += 1
        if what == 0x06:
            return int(value)
        if what == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
            continue
        holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[what]
        at += if_true if holds else if_false


@pytest.fixture(params=sorted(ARCH))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_ordinary_calls_pass(machine: str) -> None:
    code, arch = seccomp.program(machine, (1,)), ARCH[machine]

    assert judge(code, arch, READ[machine]) == ALLOW
    assert judge(code, arch, CLONE[machine], 17) == ALLOW
    assert judge(code, arch, IOCTL[machine], 0, 0x5401) == ALLOW


def test_what_leads_out_is_refused(machine: str) -> None:
    code, arch = seccomp.program(machine, (1,)), ARCH[machine]

    assert judge(code, arch, PTRACE[machine]) == REFUSED
    assert judge(code, arch, CLONE[machine], 0x10000000 | 17) == REFUSED
    assert judge(code, arch, IOCTL[machine], 0, 0x5412) == REFUSED
    assert judge(code, arch, 425) == REFUSED
    assert judge(code, arch, 435) == MISSING


def test_only_the_named_families_of_sockets_are_given(machine: str) -> None:
    code, arch = seccomp.program(machine, seccomp.families(isolated=True, network=False)), ARCH[machine]
    none = seccomp.program(machine, seccomp.families(isolated=False, network=False))

    assert [judge(code, arch, SOCKET[machine], family) == ALLOW for family in (1, 2, 10, 16, 17, 38, 40)] == [
        *[True] * 4,
        *[False] * 3,
    ]
    assert judge(none, arch, SOCKET[machine], 1) == REFUSED


def test_without_namespaces_nobody_elses_limits_and_priorities_are_changed(machine: str) -> None:
    bare, arch = seccomp.program(machine, (), isolated=False), ARCH[machine]
    inside = seccomp.program(machine, ())
    prlimit, setpriority = {"x86_64": (302, 141), "aarch64": (261, 140)}[machine]

    assert [judge(bare, arch, prlimit, pid) for pid in (0, 1, 4000)] == [ALLOW, REFUSED, REFUSED]
    assert [judge(bare, arch, setpriority, 0, pid) for pid in (0, 4000)] == [ALLOW, REFUSED]
    assert judge(inside, arch, prlimit, 4000) == ALLOW


def test_without_namespaces_no_priority_is_set_for_a_group_or_a_user(machine: str) -> None:
    bare, arch = seccomp.program(machine, (), isolated=False), ARCH[machine]
    setpriority, ioprio_set = {"x86_64": (141, 251), "aarch64": (140, 30)}[machine]

    assert [judge(bare, arch, setpriority, which, 0) for which in (0, 1, 2)] == [ALLOW, REFUSED, REFUSED]
    assert [judge(bare, arch, ioprio_set, which, 0) for which in (1, 2, 3)] == [ALLOW, REFUSED, REFUSED]


def test_without_namespaces_there_is_no_memory_or_queue_to_share_with_others(machine: str) -> None:
    bare, arch = seccomp.program(machine, (), isolated=False), ARCH[machine]
    inside = seccomp.program(machine, ())
    shmget, shmat, semop, msgsnd, msgrcv, mq_open = {
        "x86_64": (29, 30, 65, 69, 70, 240),
        "aarch64": (194, 196, 193, 189, 188, 180),
    }[machine]
    calls = (shmget, shmat, semop, msgsnd, msgrcv, mq_open)

    assert {judge(bare, arch, call, 1) for call in calls} == {REFUSED}
    assert {judge(inside, arch, call, 1) for call in calls} == {ALLOW}


def test_another_table_of_calls_is_the_end(machine: str) -> None:
    code = seccomp.program(machine, ())

    assert judge(code, 0x40000003, READ[machine]) == KILL
    if machine == "x86_64":
        assert judge(code, ARCH[machine], 0x40000000) == KILL


def test_an_unknown_machine_gets_no_filter() -> None:
    assert seccomp.program("sparc", (1,)) == b""
