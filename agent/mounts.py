"""What the render sees of the file system: the machine's programs, the artist's files, and room of its own.

The artist's paths may fall anywhere, also into folders the machine uses itself. Where the two share a folder, that
folder is built anew and each of its entries is mounted by itself.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from agent.errors import Failed
from agent.paths import Tree, find, is_within
from agent.stage import Staged

SCRATCH = "/.baton"  # a name no artist's path has
HOME, WORK = f"{SCRATCH}/home", f"{SCRATCH}/work"
VAR_TMP = "/var/tmp"

_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")  # into /usr, on most machines

#: What the machine lends of its own, as far as it is there: programs, libraries, fonts, drivers; nothing that may hold
#: secrets.
SYSTEM_PATHS = (
    "/usr",
    *_LINKS,
    "/etc/OpenCL",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/povray",
    "/etc/vulkan",
    "/sys/devices/system",  # how many processors there are
)
_KERNEL = ("/proc", "/dev", "/sys", SCRATCH)


class Mount(NamedTuple):
    """One argument group of bubblewrap: `option` source target."""

    option: str
    source: str
    target: str


def plan_mounts(
    staged: Staged, *, scratch: str, system_files: Mapping[str, str], software_paths: Iterable[str]
) -> list[Mount]:
    """Return the mounts, outer ones first.

    `scratch` has the folders home, work and tmp; `system_files` are shown instead of the machine's, by their path.
    Raises: Failed when the artist's paths take the place of what the machine needs.
    """
    lent = [path for path in (*SYSTEM_PATHS, *software_paths) if os.path.lexists(path)]
    _check(staged, lent)
    mounts = [
        *(mount for path in lent for mount in _lend(path, find(staged.tree, path), path in _LINKS)),
        *(Mount("--ro-bind", source, target) for target, source in system_files.items()),
        Mount("--bind", scratch, SCRATCH),
        Mount("--bind", f"{scratch}/tmp", VAR_TMP),
    ]
    taken = {"/", "/tmp"} | {folder for mount in mounts for folder in _ancestry(mount.target)}
    mounts += _show("", staged.tree, str(staged.inputs_root), taken | {staged.output_path})
    mounts.append(Mount("--bind", str(staged.outputs_root), staged.output_path))
    return sorted(mounts, key=lambda mount: mount.target.count("/"))


def _check(staged: Staged, lent: Iterable[str]) -> None:
    output_path = staged.output_path
    for path in (*lent, *_KERNEL):
        if is_within(output_path, path) or is_within(path, output_path):
            raise Failed(
                f"output_path {output_path} would take the place of the machine's own {path}"
            )
    for path in _KERNEL:
        if find(staged.tree, path) is not None:
            raise Failed(f"inputs lie in {path}, which belongs to the machine")


def _lend(path: str, shared: Tree | None, may_link: bool) -> Iterator[Mount]:
    """Mount one of the machine's paths, entry by entry where the artist has files in it too."""
    if may_link and os.path.islink(path):
        yield Mount("--symlink", os.readlink(path), path)
    elif not shared or not os.path.isdir(path):
        yield Mount("--ro-bind", path, path)
    else:
        for name in sorted(os.listdir(path)):
            if name not in shared:
                yield from _lend(f"{path}/{name}", None, may_link=True)
            elif (inner := shared[name]) is not None:
                yield from _lend(f"{path}/{name}", inner, may_link=False)


def _show(path: str, tree: Tree, root: str, taken: set[str]) -> Iterator[Mount]:
    """Mount the artist's folders as high up as nothing else is mounted at or below them."""
    for name, inner in tree.items():
        inner_path = f"{path}/{name}"
        if inner is None or inner_path not in taken:
            yield Mount("--ro-bind", root + inner_path, inner_path)
        else:
            yield from _show(inner_path, inner, root, taken)


def _ancestry(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]
