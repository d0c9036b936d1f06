"""Lay the inputs out under the artist's own paths.

Inputs lie in a tree of hard links to the cache, which the render sees read-only. Those inside output_path are copies
of their own in the output tree, which the render may change as it likes: a link there would reach into the cache.
"""

import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from agent.errors import Failed
from agent.inputs import Input
from agent.paths import Tree, is_within, on_node, tree_of

_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)
_CANNOT_CLONE = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
_COPY_BYTES = 1 << 30


class Stamp(NamedTuple):
    """What tells that nobody wrote to a file: the change time cannot be set back, as the modification time can."""

    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Return the stamp of a file's status."""
        return cls(status.st_ino, status.st_size, status.st_ctime_ns)


class Staged(NamedTuple):
    """Where things lie on the host.

    `tree`: what of the artist's paths is below `inputs_root`; `known`: the files which are below `outputs_root` before
    the render, by path relative to it.
    """

    inputs_root: Path
    outputs_root: Path
    output_path: str
    tree: Tree
    known: dict[str, Stamp]


class Sourced(NamedTuple):
    """An input, and the file in the cache that has its bytes."""

    path: str
    md5: str
    is_executable: bool
    source: Path


def located(
    inputs: Iterable[Input], cached: dict[str, Path], output_path: str
) -> dict[str, Sourced]:
    """Return the inputs by their path on the node.

    Raises: Failed when they cannot all exist at once, which happens where two drives fall together.
    """
    found: dict[str, Sourced] = {}
    for one in inputs:
        path = on_node(one.path)
        sourced = Sourced(path, one.md5, one.is_executable, cached[one.md5])
        if found.setdefault(path, sourced).md5 != one.md5:
            raise Failed(f"two different inputs are called {path}")
    tree_of(found, [output_path])
    return found


def stage(inputs: Mapping[str, Sourced], output_path: str, *, root: Path, owner_uid: int) -> Staged:
    """Lay `inputs` out below `root`; what the render may change belongs to `owner_uid`. Raises: OSError."""
    inside = {path for path in inputs if is_within(path, output_path)}
    outside = inputs.keys() - inside
    inputs_root, outputs_root = root / "inputs", root / "outputs"
    (inputs_root / output_path[1:]).mkdir(parents=True)
    make_folder(outputs_root, owner_uid)
    for path in outside:
        place(inputs[path], inputs_root / path[1:], is_own=False)
    known = {}
    for path in inside:
        relative_path = path[len(output_path) + 1 :]
        target = outputs_root / relative_path
        _make_folders(outputs_root, relative_path, owner_uid)
        place(inputs[path], target, is_own=True)
        _give(target, owner_uid)
        known[relative_path] = Stamp.of(target.stat())
    return Staged(inputs_root, outputs_root, output_path, tree_of(outside, [output_path]), known)


def place(one: Sourced, target: Path, *, is_own: bool) -> None:
    """Put an input at `target`: a copy which the render may change if `is_own`, else if possible the cached file.

    An executable is always a copy: the bit belongs to the file, not to the link.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_own:
        _copy(one.source, target, 0o755 if one.is_executable else 0o644)
    elif one.is_executable:
        _copy(one.source, target, 0o555)
    else:
        try:
            os.link(one.source, target)
        except OSError as exc:
            if exc.errno not in _CANNOT_LINK:
                raise
            _copy(one.source, target, 0o444)


def stamps(root: Path) -> dict[str, Stamp]:
    """Return the stamps of all regular files below `root`, by relative path. Links are never followed."""
    found = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    found[path] = Stamp.of(entry.stat(follow_symlinks=False))
    return found


def make_folder(path: Path, owner_uid: int) -> None:
    """Make a folder for the render to write to."""
    path.mkdir(exist_ok=True)
    _give(path, owner_uid)


def _make_folders(root: Path, relative_path: str, owner_uid: int) -> None:
    for folder in reversed(Path(relative_path).parents):
        if not (root / folder).is_dir():
            make_folder(root / folder, owner_uid)


def _give(path: Path, owner_uid: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, owner_uid, owner_uid)


def _copy(source: Path, target: Path, mode: int) -> None:
    """Copy a file, or clone it where the file system can."""
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), _COPY_BYTES):
                pass
        except OSError as exc:
            if exc.errno not in _CANNOT_CLONE:
                raise
            while os.sendfile(writer.fileno(), reader.fileno(), None, _COPY_BYTES):
                pass
        os.fchmod(writer.fileno(), mode)
