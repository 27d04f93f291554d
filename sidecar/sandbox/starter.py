"""What stands before every confined program on x86-64 Linux: it gives up the last rights, says so, and is the program.

Pure. The same steps as ``sidecar/sandbox/launcher.py``, which other machines use, as a file that the kernel runs by
itself: starting an interpreter for a dozen system calls costs more than all else that confines a command. It is written
anew for every command, in two parts. :func:`walls` is the same for all commands of an attempt: limits, Landlock, the
filter. :func:`starter` puts the command's own around that: the control groups it enters and the doors that it opens
before, the word that all of it holds, and the program, after.

There is no loop in it and nothing is computed: each step is a system call with operands that stand in the file. One
that fails tells what it was on stderr and ends the process with 125; nothing of the program has run then.

Encodings: Intel SDM volume 2; numbers of calls: ``asm/unistd_64.h``; form of the file: ``elf.h``. Caller:
``sidecar/sandbox/cell.py``.
"""

import errno
import os
import resource
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

MACHINE: Final = "x86_64"
_WRITE, _OPEN, _CLOSE, _FSTAT, _SIGACTION, _SOCKET, _SENDMSG, _BIND, _LISTEN = 1, 2, 3, 5, 13, 41, 46, 49, 50
_EXECVE, _FCNTL, _PRCTL, _SETRLIMIT, _EXIT = 59, 72, 157, 160, 231
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_O_PATH, _O_CLOEXEC, _SETFD, _CLOEXEC = 0o10000000, 0o2000000, 2, 1
_NO_NEW_PRIVS, _SECCOMP, _MODE_FILTER, _BENEATH = 38, 22, 2, 1
_INET, _STREAM, _SOL_SOCKET, _RIGHTS, _BACKLOG = 2, 1, 1, 1, 64
_SIGXFSZ, _IGNORE = 25, 1
_OF_FILES: Final = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""Accesses that a rule of Landlock for a single file may name: execute, write, read, truncate, ioctl."""
_MODE_AT, _KIND, _FOLDER = 24, 0o170000, 0o040000
"""Where in ``struct stat`` the mode stands, the bits of it that say what a thing is, and a directory's."""
_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127
_PAGE: Final = 4096
_WALL_CODE, _WALL_DATA, _CODE, _DATA = 0x10000000, 0x20000000, 0x30000000, 0x40000000
_OPERANDS: Final = (7, 6, 2, 10, 8)
"""Registers of the operands of a call, in order: rdi, rsi, rdx, r10, r8."""
_IF_NEGATIVE, _IF_EQUAL, _IF_OTHER = 0x88, 0x84, 0x85
_TOLD: Final = (
    *(errno.EPERM, errno.ENOENT, errno.EIO, errno.E2BIG, errno.ENOEXEC, errno.EBADF, errno.EAGAIN, errno.ENOMEM),
    *(errno.EACCES, errno.EFAULT, errno.EBUSY, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENFILE, errno.EMFILE),
    *(errno.ETXTBSY, errno.ENAMETOOLONG, errno.ENOSYS, errno.ELOOP, errno.EOPNOTSUPP, errno.EADDRINUSE),
)


class At(NamedTuple):
    """An operand that is what stands at an address."""

    address: int


class Part:
    """Code and the data that it uses, each for an address of its own."""

    def __init__(self, code_at: int, data_at: int) -> None:
        self.code, self.data = bytearray(), bytearray()
        self._code_at, self._data_at = code_at, data_at

    @property
    def here(self) -> int:
        """Address of the next instruction."""
        return self._code_at + len(self.code)

    def put(self, value: bytes) -> int:
        """The address of this in the data."""
        self.data += bytes(-len(self.data) % 8)
        self.data += value
        return self._data_at + len(self.data) - len(value)

    def text(self, value: bytes) -> int:
        """The address of this and a NUL byte."""
        return self.put(value + b"\0")

    def call(self, number: int, *operands: int | At) -> None:
        """A system call; what it answers is in rax."""
        for register, operand in zip(_OPERANDS, operands, strict=False):
            high, low = register >> 3, register & 7
            if isinstance(operand, At):
                self.code += struct.pack("<BBBBi", 0x48 | high << 2, 0x8B, low << 3 | 4, 0x25, operand.address)
            else:
                value = operand & 0xFFFFFFFFFFFFFFFF
                self.code += struct.pack("<BBQ", 0x48 | high, 0xB8 | low, value)
        self.code += struct.pack("<BI", 0xB8, number) + b"\x0f\x05"

    def keep(self, address: int, *, half: bool = False) -> None:
        """Store rax, or the lower half of it."""
        self.code += (b"" if half else b"\x48") + struct.pack("<BBBi", 0x89, 0x04, 0x25, address)

    def jump(self, to: int = 0, condition: int | None = None) -> int:
        """Go on at an address; the place of this jump, for :meth:`land`."""
        self.code += b"\xe9" if condition is None else bytes((0x0F, condition))
        self.code += bytes(4)
        place = len(self.code)
        if to:
            self._aim(place, to)
        return place

    def land(self, *places: int) -> None:
        """Have these jumps lead here."""
        for place in places:
            self._aim(place, self.here)

    def _aim(self, place: int, to: int) -> None:
        self.code[place - 4 : place] = struct.pack("<i", to - self._code_at - place)

    def answered(self, value: int) -> None:
        """Compare what a call has answered with a small number."""
        self.code += struct.pack("<BBBb", 0x48, 0x83, 0xF8, value)

    def say(self, what: bytes) -> None:
        """Write this on stderr."""
        self.call(_WRITE, 2, self.put(what), len(what))


class Walls(NamedTuple):
    """What is the same for all programs of an attempt."""

    code: bytes
    data: bytes
    start: int
    fail: int
    """Address of what tells the error in :attr:`kept`, and ends the process with the status in :attr:`status`."""
    kept: int
    status: int


def bounds(limits: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """These limits as soft and hard ones, none above what holds for us."""
    found = []
    for which, wanted in limits:
        soft, hard = (
            wanted if now == resource.RLIM_INFINITY else min(wanted, now) for now in resource.getrlimit(which)
        )
        found.append((which, soft, hard))
    return found


def walls(orders: Mapping[str, Any], limits: Iterable[tuple[int, int, int]]) -> Walls:
    """The part that is the same for all programs of an attempt.

    Args:
        orders: ``handled``, ``scoped``, ``network``, ``paths`` and ``filter`` as ``sidecar/sandbox/launcher.py`` tells.
        limits: resource, soft and hard limit of each.
    """
    part = Part(_WALL_CODE, _WALL_DATA)
    kept, status = part.put(bytes(8)), part.put(bytes(8))
    fail = part.here
    _tell(part, kept, status)
    start = part.here
    for which, soft, hard in limits:
        part.call(_SETRLIMIT, which, part.put(struct.pack("<QQ", soft, hard)))
        _check(part, "limits", kept, status, fail)
    # A file that grows too large is an error that a program can tell of, not its death.
    part.call(_SIGACTION, _SIGXFSZ, part.put(struct.pack("<4Q", _IGNORE, 0, 0, 0)), 0, 8)
    _check(part, "signals", kept, status, fail)
    part.call(_PRCTL, _NO_NEW_PRIVS, 1, 0, 0, 0)
    _check(part, "no_new_privs", kept, status, fail)
    if orders["handled"]:
        _restrict(part, orders, kept, status, fail)
    if code := orders["filter"]:
        program = part.put(struct.pack("<H6xQ", len(code) // 8, part.put(code)))
        part.call(_PRCTL, _SECCOMP, _MODE_FILTER, program, 0, 0)
        _check(part, "seccomp", kept, status, fail)
    part.code += b"\xc3"  # back to who has called
    return Walls(bytes(part.code), bytes(part.data), start, fail, kept, status)


def _restrict(part: Part, orders: Mapping[str, Any], kept: int, status: int, fail: int) -> None:
    handled = orders["handled"]
    attributes = struct.pack("<QQQ", handled, orders["network"], orders["scoped"])
    ruleset, parent, about = part.put(bytes(8)), part.put(bytes(8)), part.put(bytes(256))
    part.call(_CREATE_RULESET, part.put(attributes), len(attributes), 0)
    _check(part, "landlock", kept, status, fail)
    part.keep(ruleset)
    for path, wanted in orders["paths"]:
        what = f"landlock rule for {path}"
        part.call(_OPEN, part.text(os.fsencode(path)), _O_PATH | _O_CLOEXEC, 0)
        part.answered(-errno.ENOENT)
        is_missing = part.jump(condition=_IF_EQUAL)
        _check(part, what, kept, status, fail)
        part.keep(parent)
        of_folder, of_file = (
            part.put(struct.pack("<QI", access & handled, 0)) for access in (wanted, wanted & _OF_FILES)
        )
        for rule in (of_folder, of_file):
            part.keep(rule + 8, half=True)
        part.call(_FSTAT, At(parent), about)
        _check(part, what, kept, status, fail)
        # mov eax, mode; and eax, kind; cmp eax, folder
        part.code += struct.pack("<BBBi", 0x8B, 0x04, 0x25, about + _MODE_AT)
        part.code += struct.pack("<BI", 0x25, _KIND) + struct.pack("<BI", 0x3D, _FOLDER)
        is_file = part.jump(condition=_IF_OTHER)
        part.call(_ADD_RULE, At(ruleset), _BENEATH, of_folder, 0)
        is_done = part.jump()
        part.land(is_file)
        part.call(_ADD_RULE, At(ruleset), _BENEATH, of_file, 0)
        part.land(is_done)
        _check(part, what, kept, status, fail)
        part.call(_CLOSE, At(parent))
        part.land(is_missing)
    part.call(_RESTRICT_SELF, At(ruleset), 0)
    _check(part, "landlock", kept, status, fail)
    part.call(_CLOSE, At(ruleset))


def starter(walls: Walls, orders: Mapping[str, Any], env: Mapping[bytes, bytes], given: int, ready: int) -> bytes:
    """The file for one command.

    Args:
        walls: what is the same for all commands.
        orders: ``groups``, ``doors`` and ``argv`` as ``sidecar/sandbox/launcher.py`` tells.
        env: all variables of the program.
        given, ready: descriptors of this file, and of the pipe for the word that all of it holds.
    """
    part = Part(_CODE, _DATA)
    own = walls.kept, walls.status, walls.fail
    zero, one = part.put(b"0"), part.put(b"1")
    part.call(_CLOSE, given)
    part.call(_FCNTL, ready, _SETFD, _CLOEXEC)
    _check(part, "ready", *own)
    for door in orders["groups"]:
        part.call(_WRITE, door, zero, 1)
        _check(part, "control group", *own)
        part.call(_CLOSE, door)
    for line, port in orders["doors"]:
        _hand_over(part, line, port, one, own)
    place = part.jump(walls.start)
    part.code[place - 5] = 0xE8  # a call: the walls come back
    part.call(_WRITE, ready, one, 1)
    _check(part, "ready", *own)
    _become(part, [os.fsencode(word) for word in orders["argv"]], env, walls)
    return _file(walls, part)


def _hand_over(part: Part, line: int, port: int, one: int, own: tuple[int, int, int]) -> None:
    """Listen on a port, and send the socket over the line."""
    address = part.put(struct.pack("<H", _INET) + struct.pack(">H4s8x", port, bytes((127, 0, 0, 1))))
    door = part.put(bytes(8))
    part.call(_SOCKET, _INET, _STREAM | _O_CLOEXEC, 0)
    _check(part, "door", *own)
    part.keep(door)
    rights = part.put(struct.pack("<QiiI4x", 20, _SOL_SOCKET, _RIGHTS, 0))
    part.keep(rights + 16, half=True)
    part.call(_BIND, At(door), address, 16)
    _check(part, "door", *own)
    part.call(_LISTEN, At(door), _BACKLOG)
    _check(part, "door", *own)
    byte = part.put(struct.pack("<QQ", one, 1))
    message = part.put(struct.pack("<QI4xQQQQI4x", 0, 0, byte, 1, rights, 24, 0))
    part.call(_SENDMSG, line, message, 0)
    _check(part, "door", *own)
    part.call(_CLOSE, line)
    part.call(_CLOSE, At(door))


def _become(part: Part, argv: Sequence[bytes], env: Mapping[bytes, bytes], walls: Walls) -> None:
    """Try every place where the program may be, as a shell does; the first error that is not its absence is told."""
    words = part.put(_pointers(part, argv))
    variables = part.put(_pointers(part, (name + b"=" + value for name, value in env.items())))
    name = argv[0]
    folders = [b""] if b"/" in name else env.get(b"PATH", os.fsencode(os.defpath)).split(b":")
    is_kept = part.put(bytes(8))
    for folder in folders:
        part.call(_EXECVE, part.text(os.path.join(folder, name)), words, variables)  # noqa: PTH118 - bytes
        absent = []
        for gone in (errno.ENOENT, errno.ENOTDIR):
            part.answered(-gone)
            absent.append(part.jump(condition=_IF_EQUAL))
        part.code += struct.pack("<BBBBib", 0x48, 0x83, 0x3C, 0x25, is_kept, 0)  # is there one already
        told = part.jump(condition=_IF_OTHER)
        part.keep(is_kept)
        part.keep(walls.kept)
        part.land(*absent, told)
    part.code += struct.pack("<BBBBib", 0x48, 0x83, 0x3C, 0x25, is_kept, 0)
    failed = part.jump(condition=_IF_OTHER)
    part.say(name + b": command not found\n")
    part.call(_EXIT, _NOT_FOUND)
    part.land(failed)
    part.say(name + b": cannot be executed: ")
    _set(part, walls.status, _NOT_EXECUTABLE)
    part.jump(walls.fail)


def _pointers(part: Part, texts: Iterable[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", part.text(text)) for text in texts) + bytes(8)


def _check(part: Part, what: str, kept: int, status: int, fail: int) -> None:
    """If the last call has failed, tell that and end."""
    part.code += b"\x48\x85\xc0"  # test rax, rax
    failed = part.jump(condition=_IF_NEGATIVE)
    passed = part.jump()
    part.land(failed)
    part.keep(kept)
    part.say(f"{what}: ".encode("utf-8", "surrogateescape"))
    _set(part, status, _FAILED)
    part.jump(fail)
    part.land(passed)


def _set(part: Part, address: int, value: int) -> None:
    part.code += struct.pack("<BBBBiI", 0x48, 0xC7, 0x04, 0x25, address, value)


def _tell(part: Part, kept: int, status: int) -> None:
    """Say the error that is kept, and end."""
    said = []
    for number in _TOLD:
        part.code += struct.pack("<BBBBib", 0x48, 0x83, 0x3C, 0x25, kept, -number)
        other = part.jump(condition=_IF_OTHER)
        part.say(os.strerror(number).encode() + b"\n")
        said.append(part.jump())
        part.land(other)
    part.say(b"it failed\n")
    part.land(*said)
    part.call(_EXIT, At(status))


def _file(walls: Walls, part: Part) -> bytes:
    """An executable file that the kernel loads as it is: ELF, of four segments."""
    segments = (
        (walls.code, _WALL_CODE, 5),
        (walls.data, _WALL_DATA, 6),
        (bytes(part.code), _CODE, 5),
        (bytes(part.data), _DATA, 6),
    )
    heads, bodies, offset = [], [], _PAGE
    for body, address, flags in segments:
        heads.append(struct.pack("<IIQQQQQQ", 1, flags, offset, address, address, len(body), len(body), _PAGE))
        bodies.append(body + bytes(-len(body) % _PAGE))
        offset += len(bodies[-1])
    heads.append(struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16))  # a stack that nothing is run from
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _CODE, 64, 0, 0, 64, 56, len(heads), 0, 0, 0)
    return (head + b"".join(heads)).ljust(_PAGE, b"\0") + b"".join(bodies)
