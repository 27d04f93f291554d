"""Ways out of a sandbox, each a program that exits 0 only if it has got out, and 1 if it was refused.

What lies outside is told in the environment: ``OUTSIDE`` (a directory with a file ``secret`` and a socket ``door``),
``PID`` (a process of the host), ``USERS`` (a file of whoever runs this, at home), ``STATE`` (the state of the sidecar),
``TCP`` and ``UDP`` (ports that the test listens on), ``ABSTRACT`` (the name of a socket without a file), ``MEMORY``,
``SEMAPHORE``, ``QUEUE`` (numbers of objects of System V), ``NAMED`` (a queue of POSIX) and ``REPOSITORY`` (that of the
attempt, which it may write, but not what git obeys in it). Every program
is Python, because that is always there, and uses raw system calls where no module has them.
"""

from collections.abc import Iterable
from typing import Final

_CALL: Final = """
import ctypes, os, socket, sys, platform, struct, errno
libc = ctypes.CDLL(None, use_errno=True)
E = os.environ
ALONE = not os.path.exists(f"/proc/{E.get('PID')}")  # our own process table: the user is nobody but us
ARM = platform.machine() == "aarch64"
def call(x86, arm, *args):
    return libc.syscall(arm if ARM else x86, *args)
def out(escaped):
    sys.exit(0 if escaped else 1)
"""

_DRIVER: Final = """
import json, os, traceback
codes = {}
for way, body in BODIES.items():
    pid = os.fork()
    if pid == 0:
        try: exec(body, {})
        except SystemExit as exc: os._exit(exc.code)
        except OSError: os._exit(1)
        except BaseException: traceback.print_exc()
        os._exit(3)
    codes[way] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps(codes))
"""

EVERYWHERE: Final = {
    "write outside": "open(E['OUTSIDE'] + '/written', 'w')",
    "write among the system's programs": "open('/usr/bin/agentcom-was-here', 'w')",
    "write the system's settings": "open('/etc/agentcom-was-here', 'w')",
    "read a secret of the host": "open(E['OUTSIDE'] + '/secret').read()",
    "read passwords": "open('/etc/shadow').read()",
    "list homes": "os.listdir(E['OUTSIDE'])",
    "change the mode of a file of the host": "os.chmod(E['OUTSIDE'] + '/secret', 0o640)",
    "change the times of a file of the host": "os.utime(E['OUTSIDE'] + '/secret', (1, 1))",
    "link a secret into the workspace": "os.link(E['OUTSIDE'] + '/secret', 'linked'); open('linked').read()",
    "read it through a symbolic link": "os.symlink(E['OUTSIDE'] + '/secret', 'soft'); open('soft').read()",
    "read it through another root": "open(f\"/proc/{E['PID']}/root{E['OUTSIDE']}/secret\").read()",
    "read it through our parent's root": "open(f'/proc/{os.getppid()}/root' + E['OUTSIDE'] + '/secret').read()",
    "read it through its working directory": "open(f\"/proc/{E['PID']}/cwd/secret\").read()",
    "read the environment of the host": "out(b'CANARY' in open(f\"/proc/{E['PID']}/environ\", 'rb').read())",
    "read all environments": """
found = b''
for pid in filter(str.isdigit, os.listdir('/proc')):
    try: found += open(f'/proc/{pid}/environ', 'rb').read()
    except OSError: pass
out(b'CANARY' in found)""",
    "read the memory of the host": "open(f\"/proc/{E['PID']}/mem\", 'rb')",
    "trace a process of the host": "out(call(101, 117, 16, int(E['PID']), 0, 0) == 0)",
    "trace at all": "out(call(101, 117, 0, 0, 0, 0) == 0)",
    "copy memory out of a process": """
buffer = ctypes.create_string_buffer(8)
here = struct.pack('QQ', ctypes.addressof(buffer), 8)
out(call(310, 270, int(E['PID']), here, 1, here, 1, 0) >= 0)""",
    "signal a process of the host": "os.kill(int(E['PID']), 0)",
    "signal it by its descriptor": """
pidfd = call(434, 434, int(E['PID']), 0)
out(pidfd >= 0 and call(424, 424, pidfd, 0, 0, 0) == 0)""",
    "limit a process of the host": "import resource; resource.prlimit(int(E['PID']), resource.RLIMIT_CORE, (0, 0))",
    "slow a process of the host": "os.setpriority(os.PRIO_PROCESS, int(E['PID']), 19)",
    "move a process of the host": "os.sched_setaffinity(int(E['PID']), os.sched_getaffinity(0))",
    "reschedule a process of the host": "os.sched_setscheduler(int(E['PID']), os.SCHED_BATCH, os.sched_param(0))",
    "share memory with the host": """
libc.shmat.restype = ctypes.c_long
out(libc.shmat(int(E['MEMORY']), None, 0) != -1)""",
    "withdraw memory of the host": "out(libc.shmctl(int(E['MEMORY']), 0, None) == 0)",
    "turn a semaphore of the host": "out(libc.semctl(int(E['SEMAPHORE']), 0, 16, 1) == 0)",
    "send into a queue of the host": "out(libc.msgsnd(int(E['QUEUE']), struct.pack('q4s', 1, b'CANA'), 4, 2048) == 0)",
    "open a named queue of the host": "out(call(240, 180, E['NAMED'].lstrip('/').encode(), os.O_RDWR, 0, 0) >= 0)",
    "slow a whole group of processes": """
if ALONE: out(False)
os.setpriority(os.PRIO_PGRP, 0, os.getpriority(os.PRIO_PROCESS, 0))""",
    "starve a whole group of processes of its disk": """
if ALONE: out(False)
out(call(251, 30, 2, 0, call(252, 31, 1, 0)) == 0)""",
    "starve a process of the host of its disk": "out(call(251, 30, 1, int(E['PID']), 3 << 13) == 0)",
    "see what a process of the host has mapped": "open(f\"/proc/{E['PID']}/maps\").read()",
    "read what the user has at home": "open(E['USERS'], 'rb').read()",
    "read the token of the sidecar": "open(E['STATE'] + '/agent.token').read()",
    "take a descriptor of a process": """
pidfd = call(434, 434, int(E['PID']), 0)
out(pidfd >= 0 and call(438, 438, pidfd, 0, 0) >= 0)""",
    "connect to the host by TCP": "socket.create_connection(('127.0.0.1', int(E['TCP'])), 2)",
    "send to the host by UDP": """
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'CANARY', ('127.0.0.1', int(E['UDP'])))
out(False)""",
    "ask a name server": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'CANARY', ('192.0.2.1', 53))",
    "connect to an abstract socket": "socket.socket(socket.AF_UNIX).connect('\\0' + E['ABSTRACT'])",
    "connect to a socket file": "socket.socket(socket.AF_UNIX).connect(E['OUTSIDE'] + '/door')",
    "reach the machine below": "socket.socket(40, socket.SOCK_STREAM)",
    "see raw packets": "socket.socket(17, socket.SOCK_RAW, 3)",
    "speak to the kernel's crypto": "socket.socket(38, socket.SOCK_SEQPACKET, 0)",
    "mount": "out(call(165, 40, b'none', b'.', b'tmpfs', 0, 0) == 0)",
    "mount the new way": "out(call(430, 430, b'tmpfs', 0) >= 0)",
    "open a tree": "out(call(428, 428, -100, b'/', 1) >= 0)",
    "change the root": "os.chroot('.')",
    "make a user namespace": "out(libc.unshare(0x10000000) == 0)",
    "clone into a user namespace": "out(call(56, 220, 0x10000000 | 17, 0, 0, 0, 0) >= 0)",
    "clone the new way": "out(call(435, 435, ctypes.create_string_buffer(88), 88) >= 0)",
    "enter a namespace": "out(libc.setns(os.open(f\"/proc/{E['PID']}/ns/mnt\", os.O_RDONLY), 0) == 0)",
    "go around the filter by io_uring": "out(call(425, 425, 8, ctypes.create_string_buffer(120)) >= 0)",
    "load BPF": "out(call(321, 280, 0, ctypes.create_string_buffer(64), 64) >= 0)",
    "watch the machine": "out(call(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0) >= 0)",
    "stop the kernel on page faults": "out(call(323, 282, 0) >= 0)",
    "use kernel keys": "out(call(250, 219, 0, -3, 1) >= 0)",
    "open by handle": """
handle = ctypes.create_string_buffer(136)
out(call(303, 264, -100, b'.', handle, ctypes.byref(ctypes.c_int()), 0) == 0)""",
    "type into a terminal": """
import fcntl
leader, follower = os.openpty()
fcntl.ioctl(follower, 0x5412, b'x')""",
    "make a device": "import stat; os.mknod('disk', stat.S_IFBLK | 0o600, os.makedev(8, 0)); open('disk', 'rb')",
    "use rights of the file system": "out('NoNewPrivs:\\t1' not in open('/proc/self/status').read())",
    "keep a capability": """
out(os.getuid() != 0 and 'CapEff:\\t0000000000000000' not in open('/proc/self/status').read())""",
    "find an open descriptor": "out(len([fd for fd in os.listdir('/proc/self/fd') if int(fd) > 2]) > 1)",
    "change a kernel setting": "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/true')",
    "press the magic key": "open('/proc/sysrq-trigger', 'w').write('h')",
    "set the clock": "import time; time.clock_settime(time.CLOCK_REALTIME, time.time())",
    "find our secrets in its variables": "out('CANARY' in ''.join(E.values()))",
    "repoint its repository": "open('.git', 'w').write('gitdir: /')",
    "plant a hook": "open(E['REPOSITORY'] + '/hooks/pre-commit', 'w')",
    "plant another folder of hooks": """
os.rename(E['REPOSITORY'] + '/hooks', E['REPOSITORY'] + '/old')
os.mkdir(E['REPOSITORY'] + '/hooks')""",
    "configure its repository": "open(E['REPOSITORY'] + '/config', 'a')",
    "configure it for its worktree": "open(E['REPOSITORY'] + '/config.worktree', 'a')",
    "give its files attributes": "open(E['REPOSITORY'] + '/info/attributes', 'w')",
    "find objects elsewhere": "open(E['REPOSITORY'] + '/objects/info/alternates', 'w').write('/')",
    "change the shell files of the user": "open(os.path.dirname(E['USERS']) + '/.bashrc', 'a')",
    "fill the disk with a file": "open('long', 'w').truncate((1 << 36) + 1)",
    "write the shared memory of the host": """
open('/dev/shm/agentcom-was-here', 'w')
out(False)""",
    "dump its memory where it likes": "import resource; out(resource.getrlimit(resource.RLIMIT_CORE)[1] != 0)",
}
"""By name; what must not be done at any level."""

ISOLATED: Final = {
    "see a process of the host": "out(os.path.exists(f\"/proc/{E['PID']}\"))",
    "see a capability": "out('CapEff:\\t0000000000000000' not in open('/proc/self/status').read())",
    "rename the host": "socket.sethostname('x')",
}
"""What namespaces stop besides."""


def program(ways: Iterable[str]) -> list[str]:
    """The command that tries these one after the other, each in a process of its own, and prints their exit codes."""
    bodies = {way: f"{_CALL}\n{(EVERYWHERE | ISOLATED)[way]}\nout(True)" for way in ways}
    return ["/usr/bin/env", "python3", "-c", f"BODIES = {bodies!r}\n{_DRIVER}"]
