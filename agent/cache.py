"""Input files of one zone, by content: each is fetched once, whoever needs it first."""

import base64
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import md5 as new_md5
from pathlib import Path
from urllib.parse import quote


class Damaged(Exception):
    """What arrived is not what was asked for."""


class Cache:
    """The files of one account. Never shared between accounts: two files can be forged to share an MD5.

    A file appears under its name only when it is complete and verified; while it arrives, it is called `<name>.part`
    and that file's lock keeps everybody else, in any process, from fetching it too.
    """

    def __init__(self, root: Path, account: str) -> None:
        self._root = root / f"account-{quote(account, safe='')}"

    def path(self, md5: str) -> Path:
        """Return where the file is, or will be."""
        name = base64.b64decode(md5).hex()
        return self._root / name[:2] / name

    def has(self, md5: str, size: int) -> bool:
        """Tell whether the file is there. The size reveals one that the machine's crash cut short."""
        try:
            return self.path(md5).stat().st_size == size
        except FileNotFoundError:
            return False

    def fetch(self, md5: str, size: int, download: Callable[[], Iterable[memoryview]]) -> None:
        """Have the file here: by `download`, unless another process brings it meanwhile.

        Raises: Damaged; whatever `download` raises.
        """
        path = self.path(md5)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.with_suffix(".part")) as part:
            if self.has(md5, size):
                part.unlink()
                return
            try:
                _write(part, md5, size, download())
            except BaseException:
                part.unlink()
                raise
            part.chmod(0o444)
            part.rename(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[Path]:
    """Hold the lock of the file that has this name."""
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


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _write(path: Path, md5: str, size: int, blocks: Iterable[memoryview]) -> None:
    digest = new_md5(usedforsecurity=False)
    written = 0
    with path.open("wb") as file:
        for block in blocks:
            written += len(block)
            if written > size:
                break
            digest.update(block)
            file.write(block)
    found = base64.b64encode(digest.digest()).decode()
    if written != size or found != md5:
        raise Damaged(f"expected {size} bytes with MD5 {md5}, got {written} with {found}")
