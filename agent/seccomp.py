"""The system calls a renderer may make; every other one answers "not implemented".

That answer, rather than "not permitted", makes libraries fall back to an older call. libseccomp is called directly: the
binding for Python would be one more thing to install on the machine image.
"""

import ctypes
import errno
import os

_LIBRARY = "libseccomp.so.2"
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EQUAL, _MASKED_EQUAL = 4, 7  # enum scmp_compare
_OPTIMIZE, _BINARY_TREE = 8, 2  # enum scmp_filter_attr
_NEW_NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_FAMILIES = (
    1,
    2,
    10,
)  # AF_UNIX, AF_INET, AF_INET6: licence daemons and frame servers talk over the loopback
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # plain Linux, and asking

_CALLS = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr
flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl
lchown lchown32 lgetxattr link linkat listxattr llistxattr lremovexattr lseek _llseek lsetxattr lstat lstat64 mkdir
mkdirat mknod mknodat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead
readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile sendfile64 setxattr splice stat stat64
statfs statfs64 statx symlink symlinkat sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime
utimensat utimensat_time64 utimes vmsplice write writev
brk get_mempolicy madvise map_shadow_stack mbind membarrier memfd_create mincore mlock mlock2 mlockall mmap mmap2
mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
set_mempolicy set_mempolicy_home_node shmat shmctl shmdt shmget
alarm arch_prctl capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getegid
getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid
getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 ioprio_get ioprio_set kill pause
pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
set_robust_list set_thread_area set_tid_address setfsgid setfsuid setgid setgid32 setgroups setgroups32 setpgid
setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
setuid setuid32 sigaltstack signalfd signalfd4 sigreturn sysinfo tgkill times tkill ugetrlimit uname vfork wait4
waitid waitpid
clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 epoll_create
epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_requeue futex_time64
futex_wait futex_waitv futex_wake getitimer getrandom gettimeofday io_cancel io_destroy io_getevents io_pgetevents
io_setup io_submit mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd
nanosleep _newselect pipe pipe2 poll ppoll ppoll_time64 pselect6 pselect6_time64 select semctl semget semop semtimedop
semtimedop_time64 setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmsg send sendmmsg
sendmsg sendto setsockopt shutdown socketpair
"""


class _Argument(ctypes.Structure):
    """One comparison of a system call's argument (struct scmp_arg_cmp)."""

    _fields_ = [
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


def is_available() -> bool:
    """Tell whether the machine has libseccomp."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def open_filter() -> int:
    """Return a descriptor from which bubblewrap reads the compiled filter. Raises: OSError."""
    library = ctypes.CDLL(_LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ERRNO | errno.ENOSYS)))
    if not context:
        raise OSError(errno.EINVAL, "libseccomp refuses its default action")
    try:
        _must(library.seccomp_attr_set(context, _OPTIMIZE, ctypes.c_uint32(_BINARY_TREE)))
        for name in _CALLS.split():
            _allow(library, context, name)
        _allow(library, context, "clone", _Argument(0, _MASKED_EQUAL, _NEW_NAMESPACE_FLAGS, 0))
        for family in _FAMILIES:
            _allow(library, context, "socket", _Argument(0, _EQUAL, family, 0))
        for persona in _PERSONALITIES:
            _allow(library, context, "personality", _Argument(0, _EQUAL, persona, 0))
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        _must(library.seccomp_export_bpf(context, fd))
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    finally:
        library.seccomp_release(context)


def _allow(
    library: ctypes.CDLL, context: ctypes.c_void_p, name: str, *arguments: _Argument
) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if (
        number < 0
    ):  # this processor, or this libseccomp, knows no such call: then it stays forbidden
        return
    array = (_Argument * len(arguments))(*arguments)
    _must(
        library.seccomp_rule_add_array(
            context, ctypes.c_uint32(_ALLOW), number, ctypes.c_uint(len(arguments)), array
        )
    )


def _must(result: int) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp: {os.strerror(-result)}")
