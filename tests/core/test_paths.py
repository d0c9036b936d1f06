"""Artists' paths on a node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.paths import node_path, with_slashes


@pytest.mark.parametrize(
    ("path", "on_node"),
    [
        ("/vol/otter/images", "/vol/otter/images"),
        ("/vol//otter/./a/../images/", "/vol/otter/images"),
        ("R:/reef/out", "/reef/out"),
        ("c:\\reef\\out", "/reef/out"),
        ("//srv/share/x", "/srv/share/x"),
        ("\\\\srv\\share\\x", "/srv/share/x"),
        ("/odd\\name", "/odd\\name"),
        ("/a b/ü:x", "/a b/ü:x"),
    ],
)
def test_a_path_keeps_its_folders_and_loses_its_drive(path: str, on_node: str) -> None:
    assert node_path(path) == on_node


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "X:", "X:/", "X:\\", "/..", "/a/../..", "/.", "a/b", "./a", "INVALID OUTPUT PATH",
     "X:a", "\\a", "/a\nb", "/a\0b"],
)  # fmt: skip
def test_a_path_that_is_no_folder_below_a_root_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="must"):
        node_path(path)


def test_the_artists_own_path_keeps_its_drive() -> None:
    assert with_slashes("C:\\a\\b") == "C:/a/b"


@given(st.text(alphabet="ab/.\\:C", max_size=12))
def test_a_node_path_is_always_absolute_and_needs_no_further_change(path: str) -> None:
    try:
        found = node_path(path)
    except ValueError:
        return
    assert found.startswith("/")
    assert node_path(found) == found
    assert ".." not in found.split("/")
