"""What is around a render: bubblewrap's arguments, and what the child does between fork and exec."""

import ctypes
import glob
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent import seccomp
from agent.errors import Failed, Unfit
from agent.memory import Memory
from agent.mounts import HOME, WORK, Mount
from agent.reach import Reach

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_GPU_DEVICES = ("/dev/nvidia*", "/dev/dri", "/dev/kfd")
_FILE_LIMIT, _PROCESS_LIMIT = 65_536, 32_768
_TMP_MIN_MIB, _TMP_MAX_MIB = 256, 4096
_MIB = 1 << 20


class Launch(NamedTuple):
    """A program ready to start.

    `uid`: whom it becomes, None to stay; `groups`: the cgroup files to enter; `status_fd`: where bubblewrap tells how
    it goes, -1 without it.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    pass_fds: Sequence[int]
    status_fd: int
    uid: int | None
    groups: Sequence[str]
    reach: Reach


def check_machine() -> None:
    """Raises: Unfit when renders cannot be locked up here."""
    missing = [
        name
        for name, is_there in (
            ("bubblewrap (bwrap)", _find("bwrap")),
            ("libseccomp (libseccomp.so.2)", seccomp.is_available()),
        )
        if not is_there
    ]
    if missing:
        raise Unfit(
            f"this machine cannot lock renders up: {' and '.join(missing)} missing. Install the Debian packages "
            "bubblewrap and libseccomp2; BATON_SANDBOX=off renders without any protection.",
            os.EX_CONFIG,
        )


def shell(command: str) -> list[str]:
    """Return the words that run `command`."""
    return ["/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh", "-c", command]


def render_environment(environment: Mapping[str, str], home: str) -> dict[str, str]:
    """Return the artist's environment, with what every program expects. Raises: Failed on names no process can have."""
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            raise Failed(f"the environment has an impossible variable {name!r}")
    own = [folder for folder in environment.get("PATH", "").split(":") if folder]
    path = [*own, *(folder for folder in _PATH.split(":") if folder not in own)]
    defaults = {
        "HOME": home,
        "USER": "render",
        "LOGNAME": "render",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",
    }
    return {**defaults, **environment, "PATH": ":".join(path)}


def write_system_files(folder: Path, uid: int) -> dict[str, str]:
    """Write the few files that libraries read to know who they are; return them by their path in the sandbox."""
    contents = {
        "/etc/passwd": f"root:x:0:0:root:/:/bin/false\nrender:x:{uid}:{uid}:render:{HOME}:/bin/sh\n",
        "/etc/group": f"root:x:0:\nrender:x:{uid}:\n",
        "/etc/hosts": "127.0.0.1 localhost render\n::1 localhost\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }
    folder.mkdir()
    files = {}
    for path, content in contents.items():
        own = folder / path.rpartition("/")[2]
        own.write_text(content)
        files[path] = str(own)
    return files


def sandboxed(
    command: str,
    environment: Mapping[str, str],
    mounts: Sequence[Mount],
    *,
    uid: int,
    memory_mib: int,
    memory: Memory,
) -> Launch:
    """Return `command` inside bubblewrap, with nothing of the machine but `mounts`."""
    reach = Reach(mount.source for mount in mounts if mount.option != "--symlink")
    filter_fd = seccomp.open_filter()
    status_fd, status_end = os.pipe()
    tmp_bytes = min(max(memory_mib // 4 or _TMP_MAX_MIB // 4, _TMP_MIN_MIB), _TMP_MAX_MIB) * _MIB
    devices = sorted(path for pattern in _GPU_DEVICES for path in glob.glob(pattern))
    arguments = [
        *(
            "--unshare-user",
            "--unshare-ipc",
            "--unshare-pid",
            "--unshare-net",
            "--unshare-uts",
            "--unshare-cgroup-try",
        ),
        *(
            "--disable-userns",
            "--die-with-parent",
            "--new-session",
            "--cap-drop",
            "ALL",
            "--hostname",
            "render",
        ),
        *("--seccomp", str(filter_fd), "--json-status-fd", str(status_end), "--clearenv"),
        *(word for name, value in environment.items() for word in ("--setenv", name, value)),
        *(
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--perms",
            "1777",
            "--size",
            str(tmp_bytes),
            "--tmpfs",
            "/dev/shm",
        ),
        *(word for path in devices for word in ("--dev-bind", path, path)),
        *("--perms", "1777", "--size", str(tmp_bytes), "--tmpfs", "/tmp"),
        *(word for mount in mounts for word in mount._replace(source=reach.place_of(mount.source))),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK),
    ]
    arguments_fd = os.memfd_create("arguments", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(arguments_fd), "wb") as file:
        file.write(b"".join(os.fsencode(word) + b"\0" for word in arguments))
    os.lseek(arguments_fd, 0, os.SEEK_SET)
    return Launch(
        argv=[_find("bwrap"), "--args", str(arguments_fd), "--", *shell(command)],
        environment={},
        folder="/",
        pass_fds=(filter_fd, status_end, arguments_fd),
        status_fd=status_fd,
        uid=uid if os.geteuid() == 0 else None,
        groups=[memory.procs_path] if memory.procs_path else [],
        reach=reach,
    )


class Child:
    """What the child does before it becomes the program. Everything it needs is looked up before the fork."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._parent = os.getpid()
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._file_limit = _FILE_LIMIT if most == resource.RLIM_INFINITY else min(_FILE_LIMIT, most)
        _, most = resource.getrlimit(resource.RLIMIT_NPROC)
        self._process_limit = (
            _PROCESS_LIMIT if most == resource.RLIM_INFINITY else min(_PROCESS_LIMIT, most)
        )

    def __call__(self) -> None:
        """Join the group, take the limits, become nobody, and die with the agent.

        Standard error is the render's log already: what goes wrong here is told there.
        """
        try:
            self._prepare()
        except OSError as exc:
            os.write(2, f"the sandbox cannot be prepared: {exc}\n".encode())
            raise

    def _prepare(self) -> None:
        for path in self._launch.groups:
            _write(path, b"0")
        _write(
            "/proc/self/oom_score_adj", b"1000"
        )  # should the machine run out, the agent must live to tell
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._file_limit, self._file_limit))
        self._launch.reach.open()
        uid = self._launch.uid
        if uid is not None:
            resource.setrlimit(resource.RLIMIT_NPROC, (self._process_limit, self._process_limit))
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        self._prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        self._prctl(
            _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0
        )  # after setresuid, which clears it
        if os.getppid() != self._parent:
            os._exit(1)


def _write(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, content)
    os.close(fd)


def _find(program: str) -> str:
    """Return where a program is, "" when the machine has none."""
    paths = (os.path.join(folder, program) for folder in os.get_exec_path())
    return next((path for path in paths if os.access(path, os.X_OK)), "")
