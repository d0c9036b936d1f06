"""The artist's paths as they are on the node, and the tree they form. Pure."""

import posixpath
from collections.abc import Iterable

from agent.errors import Failed

#: A directory's entries; None is a file.
Tree = dict[str, "Tree | None"]


def on_node(path: str) -> str:
    """Return `path` with single slashes and no dots. Raises: Failed when it is not absolute or climbs."""
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise Failed(f"the path {path!r} is not absolute")
    return posixpath.normpath("/" + path.lstrip("/"))


def is_within(path: str, folder: str) -> bool:
    """Tell whether `path` is `folder` or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def tree_of(files: Iterable[str], folders: Iterable[str]) -> Tree:
    """Return the tree of absolute paths. Raises: Failed when one path is a file and a folder at once."""
    root: Tree = {}
    for folder in folders:
        _enter(root, folder)
    for file in files:
        parent, _, name = file.rpartition("/")
        if _enter(root, parent).setdefault(name, None) is not None:
            raise Failed(f"{file} is a file and a folder at once")
    return root


def find(tree: Tree, path: str) -> Tree | None:
    """Return the folder at `path`; None when the tree has no such folder."""
    node: Tree | None = tree
    for name in filter(None, path.split("/")):
        node = node.get(name) if node is not None else None
    return node


def _enter(root: Tree, folder: str) -> Tree:
    node = root
    for name in filter(None, folder.split("/")):
        inner = node.setdefault(name, {})
        if inner is None:
            raise Failed(f"{folder} leads through a file")
        node = inner
    return node
