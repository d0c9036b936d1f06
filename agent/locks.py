"""Locks on files and folders which other processes may remove meanwhile. The kernel takes them from those who end."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Path]:
    """Hold the lock of the file that has this name; make it if there is none. Raises: OSError."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if _is_at(fd, path):
            break
        os.close(fd)  # whoever held the lock renamed or removed the file: look again
    try:
        yield path
    finally:
        os.close(fd)


@contextlib.contextmanager
def folder_locked(path: Path) -> Iterator[bool]:
    """Hold a folder's lock; yield whether it is still there. Raises: OSError.

    Some file systems lock no folders: there nobody gets the lock, neither we nor those who would remove the folder.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield _is_at(fd, path)
    finally:
        os.close(fd)


@contextlib.contextmanager
def left_behind(path: Path) -> Iterator[bool]:
    """Yield whether whoever held the lock of a file or folder has ended; if so the lock is ours meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield _is_free(fd) and _is_at(fd, path)
    finally:
        os.close(fd)


def _is_free(fd: int) -> bool:
    """Take the lock if nobody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
