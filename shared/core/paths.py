"""Artists' paths, and where the same files are on a node."""

import re

_DRIVE = re.compile(r"[A-Za-z]:")


def with_slashes(path: str) -> str:
    """Return a path with forward slashes if it is a Windows one; drive letter and all else stay."""
    if _DRIVE.match(path) or path.startswith("\\\\"):
        return path.replace("\\", "/")
    return path


def node_path(path: str) -> str:
    """Return where an artist's path is on a node: without drive letter, a share as a folder of the root.

    Raises: ValueError when the path is relative, names a root, climbs above it, or cannot be a path at all.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError("must not contain control characters")
    bare = _DRIVE.sub("", with_slashes(path), count=1) if _DRIVE.match(path) else with_slashes(path)
    if not bare.startswith("/") and bare:
        raise ValueError("must be an absolute path")
    parts: list[str] = []
    for part in bare.split("/"):
        if part == ".." and not parts:
            raise ValueError("must not climb above the root")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise ValueError("must be a folder, not the root of a drive")
    return "/" + "/".join(parts)
