"""Folders to work in. Each is locked as long as its agent lives, so that what killed agents left can be told apart.

The folder around them may outlive a container, in which an agent has the same process id each time: names come of
chance, not of that.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.journal import note
from agent.locks import folder_locked, left_behind

_PREFIX = "baton-attempt-"


def sweep(parent: Path) -> None:
    """Remove the folders below `parent` whose agents have ended without doing so."""
    with contextlib.suppress(OSError):  # whoever needs to work there will say what is wrong with it
        for folder in parent.glob(f"{_PREFIX}*"):
            with left_behind(folder) as is_ours:
                if is_ours:
                    note("left_behind", path=str(folder))
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder below `parent`, and remove it. Raises: OSError when there can be none."""
    parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        folder = _make(parent, held)
        # What it cannot remove, the scheduler or the next agent will.
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        yield folder


def _make(parent: Path, held: contextlib.ExitStack) -> Path:
    """Make a folder and hold its lock; another agent may have taken it for one left behind before we had the lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        with contextlib.suppress(FileNotFoundError):
            if held.enter_context(folder_locked(folder)):
                return folder
