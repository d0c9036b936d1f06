"""A file for a secret: whole or not there, and readable for its owner only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click


@contextmanager
def private_file(path: Path | None) -> Iterator[TextIO | None]:
    """Yield a file that is put at `path` when the block ends well; None without a path. Raises: ClickException.

    It is made before the block runs, so that no secret is made that could be written nowhere.
    """
    if path is None:
        yield None
        return
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.ClickException(f"--output: {path}: {error.strerror}") from error
    try:
        with os.fdopen(number, "w") as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
