"""Input files of one zone, by content: each is fetched once, whoever needs it first."""

import base64
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from hashlib import md5 as new_md5
from pathlib import Path
from urllib.parse import quote

from agent.evict import kept
from agent.locks import locked


class Damaged(Exception):
    """What arrived is not what was asked for."""


class Cache:
    """The files of one account. Never shared between accounts: two files can be forged to share an MD5.

    A file appears under its name only when it is complete and verified; while it arrives, it is called `<name>.part`
    and that file's lock keeps everybody else, in any process, from fetching it too.
    """

    def __init__(self, root: Path, account: str) -> None:
        self._shared_root = root
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

    def use(self, md5: str, size: int) -> bool:
        """Tell whether the file is there, and note that it is used now.

        Only the access time says so, which renders do not look at; most disks do not keep it by themselves.
        """
        path = self.path(md5)
        with contextlib.suppress(OSError):  # whoever fetched it may be another user
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return self.has(md5, size)

    def keep(self, sizes: Mapping[str, int]) -> AbstractContextManager[None]:
        """Make room for those of these files that are missing, and let nobody remove any of them meanwhile.

        Shapes: sizes by MD5. Raises: Faulty; OSError.
        """
        return kept(self._shared_root, {self.path(md5): size for md5, size in sizes.items()})

    def fetch(self, md5: str, size: int, download: Callable[[], Iterable[memoryview]]) -> None:
        """Have the file here: by `download`, unless another process brings it meanwhile.

        Raises: Damaged; whatever `download` raises.
        """
        path = self.path(md5)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(path.with_suffix(".part")) as part:
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
