"""Room on the cache's disk: files that nobody uses go, those first that were used longest ago.

Each attempt has a list of the files it is about to use, until they are laid out. What is on the list of one that lives
stays, and so does a file with a second hard link: a render has it. The lock of the cache's folder is held while room is
made and a list is added, so that an attempt finds a file gone before it looks, or not at all. Lists are called `.part`
as downloads are: when the lock of one is free, its maker has ended.
"""

import contextlib
import heapq
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.errors import Faulty
from agent.journal import note
from agent.locks import folder_locked, left_behind, locked

#: What stays free for outputs and for the machine itself, on small disks a part of them.
RESERVE_BYTES = 8 << 30
RESERVE_SHARE = 10
#: What is freed beyond that, so that the next attempts need not look through the cache again.
HEADROOM_SHARE = 20

_LISTS = "lists"
_BLOCK = 512


class _File(NamedTuple):
    """A file that may go. Shapes: the one used last is the least, for a heap."""

    age: int
    path: str
    size: int


@contextlib.contextmanager
def kept(root: Path, wanted: Mapping[Path, int]) -> Iterator[None]:
    """Make room for those of these files that are missing in the cache, and keep all of them meanwhile.

    Units: bytes. Raises: Faulty when no such disk can hold them; OSError.
    """
    root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        with folder_locked(root):
            mine = {str(path): size for path, size in wanted.items()}
            _make_room(root, _promised(root / _LISTS) | mine)
            held.enter_context(_listed(root / _LISTS, wanted))
        yield


def _make_room(root: Path, promised: Mapping[str, int]) -> None:
    """Remove files, but none of the `promised` ones, until what of these is missing fits, and a reserve."""
    needed = sum(size for path, size in promised.items() if not os.path.exists(path))
    disk = shutil.disk_usage(root)
    if needed > disk.total:
        raise Faulty(f"inputs of {needed >> 20} MiB do not fit on a disk of {disk.total >> 20} MiB")
    needed += min(RESERVE_BYTES, disk.total // RESERVE_SHARE)
    if disk.free >= needed:
        return
    excess = needed + disk.total // HEADROOM_SHARE - disk.free
    free = (each for each in _files(root) if each.path.removesuffix(".part") not in promised)
    files = _oldest(free, excess)
    removed = [each.size for each in files if _remove(Path(each.path))]
    freed = sum(removed)
    note("evicted", files=len(removed), mib=freed >> 20, free_mib=(disk.free + freed) >> 20)


def _files(root: Path) -> Iterator[_File]:
    """Yield what lies in the cache and takes room nobody else holds."""
    folders = [os.fspath(root)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink == 1 and status.st_blocks:
                        yield _File(-status.st_atime_ns, entry.path, status.st_blocks * _BLOCK)


def _oldest(files: Iterable[_File], wanted_bytes: int) -> list[_File]:
    """Return the files used longest ago that make up so many bytes, or all; remembers no more of them on the way."""
    found: list[_File] = []
    size = 0
    for file in files:
        heapq.heappush(found, file)
        size += file.size
        while size - found[0].size >= wanted_bytes:
            size -= heapq.heappop(found).size
    return found


def _remove(path: Path) -> bool:
    """Remove a file; a download only when nobody is at it. Returns whether it did."""
    with contextlib.suppress(FileNotFoundError):
        if path.suffix != ".part":
            path.unlink()
            return True
        with left_behind(path) as is_ours:
            if is_ours:
                path.unlink()
            return is_ours
    return False


@contextlib.contextmanager
def _listed(lists: Path, wanted: Mapping[Path, int]) -> Iterator[None]:
    """Have a list of these files as long as we live."""
    lists.mkdir(mode=0o700, exist_ok=True)
    with locked(lists / f"{uuid.uuid4().hex}.part") as path:
        try:
            path.write_text("".join(f"{size} {file}\n" for file, size in wanted.items()))
            yield
        finally:
            path.unlink(missing_ok=True)


def _promised(lists: Path) -> dict[str, int]:
    """Return the files on the lists of all who live; lists of others go."""
    found = {}
    for path in lists.glob("*.part"):
        with left_behind(path) as is_ours:
            if is_ours:
                path.unlink()
                continue
        with contextlib.suppress(FileNotFoundError):  # it ended just now
            for line in path.read_text().splitlines():
                size, _, file = line.partition(" ")
                found[file] = int(size)
    return found
