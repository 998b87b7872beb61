"""Attacks that harm nobody who is not enclosed badly: each is a piece of code, and what it wants.

Each is first run without a boundary, where it must succeed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.support.sandbox.calls import Outcome
from tests.support.sandbox.scene import SECRET, Scene

Wanted = Callable[[Outcome, Scene], bool]


@dataclass(frozen=True)
class Attack:
    """A piece of code, with what it aims at in {braces}, and whether it has reached it."""

    name: str
    code: str
    succeeded: Wanted
    needs_root: bool = False
    """Without a boundary, it succeeds for root only."""

    at_kernel: bool = False
    """It aims at the kernel, and there is nothing to gain in one that the session has alone."""

    spoils: bool = False
    """Where it succeeds, the session is of no use any more."""

    def __str__(self) -> str:
        return self.name

    def aimed(self, scene: Scene) -> str:
        """Returns the code."""
        values = {
            "abstract": scene.abstract,
            "database": str(scene.database),
            "other": str(scene.other),
            "pid": scene.pid,
            "port": scene.port,
            "root": str(scene.root),
            "shared": scene.shared,
            "socket": str(scene.socket_path),
            "theirs": str(scene.theirs),
        }
        code = self.code
        for name, value in values.items():
            code = code.replace("{" + name + "}", str(value))
        return code


def said(word: str) -> Wanted:
    """The code has printed a word when it had what it wanted."""
    return lambda outcome, scene: word in outcome.text


def secret(outcome: Outcome, scene: Scene) -> bool:
    """The code has printed the secret."""
    return SECRET in outcome.text


def hit(outcome: Outcome, scene: Scene) -> bool:
    """The server has been connected to."""
    return bool(scene.hits) or "CONNECTED" in outcome.text


def touched(outcome: Outcome, scene: Scene) -> bool:
    """Something of the server has changed."""
    return scene.touched


def signalled(outcome: Outcome, scene: Scene) -> bool:
    """The server has got a signal, or could have."""
    return bool(scene.signals) or "GOT" in outcome.text


TRY = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def attempt(name, function):
    try: print("GOT", name, function())
    except Exception as error: print("refused", name, repr(error))
"""

FILES = [
    Attack("a file of the system", "open('/etc/passwd').read(); print('GOT')", said("GOT")),
    Attack(
        "other folders of the system",
        TRY
        + """
for path in ('/home', '/var', '/root', '/srv', '/opt', '/mnt', '/sys', '/run', '/boot'):
    attempt(path, lambda: [name for name in os.listdir(path)
                           if (path, name) not in (('/opt', 'assistants'), ('/mnt', 'data'))][0])
attempt('/etc/shadow', lambda: open('/etc/shadow').read())
""",
        said("GOT"),
        at_kernel=True,
    ),
    Attack("the server's database", "print(open('{database}').read())", secret),
    Attack("another thread's files", "print(open('{theirs}').read())", secret),
    Attack(
        "another way to the server's files",
        TRY
        + """
attempt("link", lambda: os.link('{theirs}', 'hard') or open('hard').read())
attempt("symbolic", lambda: os.symlink('{theirs}', 'soft') or open('soft').read())
attempt("descriptor", lambda: open(os.open('{root}', os.O_PATH), opener=lambda d, f:
        os.open('other/theirs.txt', os.O_RDONLY, dir_fd=d)).read())
attempt("up", lambda: open('../' * 20 + '{theirs}').read())
attempt("root of a process", lambda: open('/proc/{pid}/root{theirs}').read())
attempt("folder of a process", lambda: os.listdir('/proc/{pid}/cwd'))
""",
        secret,
    ),
    Attack("the environment", "import os\nprint(os.environ)", secret),
    Attack(
        "the server's environment and memory",
        TRY
        + """
for name in ('environ', 'cmdline', 'maps', 'mem', 'cwd', 'fd', 'auxv', 'io', 'status'):
    path = '/proc/{pid}/' + name
    read = os.listdir if name in ('cwd', 'fd') else lambda path: open(path, 'rb').read(9)
    attempt(name, lambda: read(path))
""",
        said("GOT"),
    ),
    Attack(
        "the names of other processes",
        "import os\nprint('GOT' * (len([p for p in os.listdir('/proc') if p.isdigit()]) > 12))",
        said("GOT"),
    ),
    Attack(
        "the sockets and mounts of the machine",
        TRY
        + """
own = '/proc/self/task/%d' % os.getpid()
for folder in ('/proc', '/proc/self', '/proc/thread-self', '/proc/%d' % os.getpid(), own):
    attempt(folder, lambda: open(folder + '/net/unix').read().index('{socket}'))
    attempt(folder, lambda: open(folder + '/net/tcp').read().index(':%04X ' % {port}))
    attempt(folder, lambda: open(folder + '/mountinfo').read().index(' /proc/sys/') * 0)
""",
        said("GOT"),
    ),
    Attack(
        "files of the interpreter and the worker",
        TRY
        + """
import IPython, sys
for path in (IPython.__file__, sys.executable, '/usr/x', sys.prefix + '/x',
             '/opt/assistants/inside/jail.py', '/x', '/etc/x', '/opt/x'):
    attempt(path, lambda: open(path, 'ab').close())
for path in ('/usr/x', sys.prefix + '/x', '/x', '/etc/x', '/opt/x'):
    try: os.unlink(path)
    except OSError: pass
""",
        said("GOT"),
        needs_root=True,
    ),
    Attack(
        "modes, owners, times and attributes of the server's files",
        TRY
        + """
d, o = '{database}', '{other}'
attempt('chmod', lambda: os.chmod(d, 0o644))
attempt('chown', lambda: os.chown(d, os.getuid(), os.getgid()))
attempt('utime', lambda: os.utime(d, (1, 1)))
attempt('xattr', lambda: os.setxattr(d, 'user.x', b'1'))
attempt('truncate', lambda: os.truncate(d, 3))
attempt('mode of a folder', lambda: os.chmod(o, 0o777))
attempt('link', lambda: os.link(d, 'l'))
attempt('rename', lambda: os.rename(d, d + '2'))
attempt('unlink', lambda: os.unlink('{theirs}'))
""",
        touched,
    ),
    Attack(
        "a set-id file",
        "import os\nopen('x', 'w').close()\nos.chmod('x', 0o6777)\n"
        "print('GOT' * (os.stat('x').st_mode & 0o6000 != 0 and os.stat('x').st_uid == 0))",
        said("GOT"),
        needs_root=True,
        at_kernel=True,
    ),
]

NETWORK = [
    Attack(
        "TCP to this machine",
        "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)\nprint('CONNECTED')",
        hit,
    ),
    Attack(
        "TCP to the world",
        "import socket\ns = socket.socket()\ns.setblocking(False)\n"
        "print('GOT', s.connect_ex(('192.0.2.1', 80)))",
        said("GOT 115"),
    ),
    Attack(
        "other sockets",
        TRY
        + """
for family, kind in ((2, 1), (2, 2), (2, 3), (10, 1), (10, 2), (16, 3), (17, 3), (40, 1), (38, 5)):
    attempt((family, kind), lambda: socket.socket(family, kind))
""",
        said("GOT"),
        at_kernel=True,
    ),
    Attack(
        "TCP server",
        "import socket\ns = socket.socket()\ns.bind(('0.0.0.0', 0))\ns.listen()\nprint('GOT')",
        said("GOT"),
        at_kernel=True,
    ),
    Attack(
        "the server's Unix socket",
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('{socket}')\n"
        "print('CONNECTED')",
        hit,
    ),
    Attack(
        "an abstract Unix socket",
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0{abstract}')\n"
        "print('CONNECTED')",
        hit,
    ),
    Attack(
        "a datagram pair pointed elsewhere",
        TRY
        + """
kinds = (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
for kind in kinds: attempt(kind, lambda: socket.socketpair(socket.AF_UNIX, kind))
""",
        said("GOT"),
        at_kernel=True,
    ),
]

PROCESSES = [
    Attack(
        "signals to the server",
        TRY + "attempt('kill', lambda: os.kill({pid}, 28))\nattempt('1', lambda: os.kill(-1, 0))",
        signalled,
    ),
    Attack(
        "limits, priority and processors of the server",
        TRY
        + """
import resource
attempt('prlimit', lambda: resource.prlimit({pid}, resource.RLIMIT_CORE))
attempt('nice', lambda: os.setpriority(os.PRIO_PROCESS, {pid}, 0))
attempt('affinity', lambda: os.sched_setaffinity({pid}, os.sched_getaffinity({pid})))
attempt('ioprio', lambda: call(251, 1, {pid}, 0x4000))
attempt('group', lambda: os.setpgid({pid}, 0))
""",
        said("GOT"),
    ),
    Attack(
        "other ways to signal the server",
        TRY
        + """
import fcntl
info = ctypes.create_string_buffer(128)
fields = ctypes.cast(info, ctypes.POINTER(ctypes.c_int))
fields[0], fields[2] = 28, -1
attempt('queue', lambda: call(129, {pid}, 28, info))
attempt('queue to a thread', lambda: call(297, {pid}, {pid}, 28, info))
attempt('tgkill', lambda: call(234, {pid}, {pid}, 0))
attempt('tkill', lambda: call(200, {pid}, 0))
attempt('pidfd', lambda: call(424, call(434, {pid}, 0), 0, None, 0))
def owner():
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, {pid})
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(writer, b'x')
    return fcntl.fcntl(reader, fcntl.F_GETOWN) == {pid} or 1 / 0
attempt('owner of a pipe', owner)
""",
        signalled,
    ),
    Attack(
        "ptrace and memory of the server",
        TRY
        + """
attempt('read', lambda: call(310, {pid}, None, 0, None, 0, 0))
attempt('pidfd', lambda: call(438, call(434, {pid}, 0), 0, 0))
""",
        said("GOT"),
    ),
    Attack(
        "the process that encloses the session",
        TRY
        + """
for name in ('root', 'cwd', 'exe', 'fd/0'): attempt(name, lambda: os.readlink('/proc/1/' + name))
for name in ('mem', 'environ', 'maps'): attempt(name, lambda: open('/proc/1/' + name).close())
attempt('signal', lambda: os.kill(1, 0))
""",
        said("GOT"),
        needs_root=True,
    ),
    Attack(
        "shared memory, queues and watches of files",
        TRY
        + """
attempt('shared', lambda: call(29, {shared}, 0, 0))
attempt('queue', lambda: call(240, b'/sandbox-q', 0o102, 0o600, None))
libc.syscall(241, b'/sandbox-q')
attempt('watch', lambda: call(254, call(253), b'{root}', 0xfff))
""",
        said("GOT"),
    ),
]

KERNEL = [
    Attack(
        "namespaces and mounts",
        TRY
        + """
attempt('mounts', lambda: call(272, 0x20000))
attempt('chroot', lambda: call(161, b'/mnt'))
attempt('tree', lambda: call(428, -100, b'/', 1))
attempt('tmpfs', lambda: call(430, b'tmpfs', 0))
attempt('mount', lambda: call(165, b'none', b'/mnt', b'tmpfs', 0, None))
attempt('own', lambda: call(308, os.open('/proc/self/ns/mnt', 0), 0))
""",
        said("GOT"),
        needs_root=True,
        spoils=True,
        at_kernel=True,
    ),
    Attack(
        "a user namespace",
        TRY
        + """
def clone():
    child = call(56, 0x10000011, 0, 0, 0, 0)
    if not child: os._exit(0)
    os.waitpid(child, 0)
attempt('clone', clone)
""",
        said("GOT clone"),
        at_kernel=True,
    ),
    Attack(
        "risky system calls",
        TRY
        + """
attempt('io_uring', lambda: call(425, 8, ctypes.create_string_buffer(200)))
attempt('userfaultfd', lambda: call(323, 1))
attempt('keyring', lambda: call(250, 0, -3, 0))
event = ctypes.create_string_buffer(b'\\1\\0\\0\\0\\x70', 128)
attempt('perf', lambda: call(298, event, 0, -1, -1, 0))
attempt('memfd', lambda: call(319, b'm', 0))
attempt('personality', lambda: call(135, 0xffffffff))
attempt('attributes', lambda: open('f', 'w').close() or os.setxattr('f', 'user.x', b'1'))
attempt('vmsplice', lambda: call(278, os.pipe()[1], None, 0, 0))
""",
        said("GOT"),
        at_kernel=True,
    ),
    Attack(
        "knobs of the kernel",
        TRY
        + """
for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/kernel/uevent_helper',
             '/proc/sys/vm/drop_caches', '/dev/kvm', '/dev/mem', '/dev/kmsg', '/dev/vda'):
    attempt(path, lambda: open(path, 'r+b').close())
""",
        said("GOT"),
        needs_root=True,
    ),
    Attack(
        "devices and links to files of the kernel",
        TRY + "attempt('mknod', lambda: os.mknod('node', 0o20600, os.makedev(1, 3)))",
        said("GOT"),
        needs_root=True,
        at_kernel=True,
    ),
]

HARMLESS = [*FILES, *NETWORK, *PROCESSES, *KERNEL]
