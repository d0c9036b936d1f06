"""Let the render's user reach folders that lie below closed ones, such as a home folder's.

Mounting needs a way to the source, and the unprivileged user who mounts has none below a folder that is closed to
others. So the child, while it is still root, opens a place of its own which nobody else sees, and mounts the sources
there.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_PLACE = "/run/baton"
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18


class Reach:
    """The sources that are out of the way. Made before the fork, opened after it."""

    def __init__(self, sources: Iterable[str]) -> None:
        closed = sorted({source for source in sources if not _is_open_to_all(source)})
        self._places = {
            source: f"{_PLACE}/{number}"
            for number, source in enumerate(closed)
            if os.geteuid() == 0
        }
        self._libc = ctypes.CDLL(None, use_errno=True)
        if self._places:
            Path(_PLACE).mkdir(mode=0o755, parents=True, exist_ok=True)

    def place_of(self, source: str) -> str:
        """Return where the user will find `source`."""
        return self._places.get(source, source)

    def open(self) -> None:
        """Mount the sources at their places, for this process and its children only. Raises: OSError."""
        if not self._places:
            return
        self._must(self._libc.unshare(_CLONE_NEWNS))
        self._mount(None, "/", None, _MS_REC | _MS_PRIVATE)
        self._mount("baton", _PLACE, "tmpfs", 0, "mode=0755")
        for source, place in self._places.items():
            if os.path.isdir(source):
                os.mkdir(place)
            else:
                os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
            self._mount(source, place, None, _MS_BIND | _MS_REC)

    def _mount(
        self,
        source: str | None,
        target: str,
        kind: str | None,
        flags: int,
        options: str | None = None,
    ) -> None:
        words = [
            None if word is None else os.fsencode(word) for word in (source, target, kind, options)
        ]
        self._must(self._libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]))

    def _must(self, result: int) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _is_open_to_all(source: str) -> bool:
    """Tell whether everybody may walk to `source`, also where its name goes through links."""
    return all(
        os.stat(folder).st_mode & stat.S_IXOTH
        for path in (Path(source), Path(os.path.realpath(source)))
        for folder in path.parents
    )
