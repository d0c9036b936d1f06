"""The bytes of objects: one immutable file each, measured while it is written.

A file that no row of the index names does not exist for anybody; `sweep` removes such files.
"""

import base64
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from emulators.storage.errors import Refusal, Refused

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """One file and its digests, base64. Composed objects have no MD5, as at the provider."""

    file_id: str
    size_bytes: int
    crc32c: str
    md5: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What a client says of the bytes it sends; None where it says nothing."""

    md5: str | None = None
    crc32c: str | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None

    def check(self, content: Content) -> None:
        """Raises: Refused, when `content` is not what was announced."""
        self.check_size(content.size_bytes)
        if self.min_bytes is not None and content.size_bytes < self.min_bytes:
            raise Refused(Refusal.TOO_SMALL, f"{content.size_bytes} bytes")
        for name, said, found in (
            ("MD5", self.md5, content.md5),
            ("CRC32C", self.crc32c, content.crc32c),
        ):
            if said is not None and said != found:
                details = f'Provided {name} "{said}" doesn\'t match calculated {name} "{found}".'
                raise Refused(Refusal.BAD_DIGEST, details)

    def check_size(self, size_bytes: int) -> None:
        """Raises: Refused, when `size_bytes` are more than may come."""
        if self.max_bytes is not None and size_bytes > self.max_bytes:
            raise Refused(Refusal.TOO_LARGE, f"more than {self.max_bytes} bytes")


ANYTHING = Expected()


class Meter:
    """Counts and digests bytes as they pass."""

    def __init__(self, *, with_md5: bool = True) -> None:
        self.size_bytes = 0
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
        self._crc32c = 0

    def update(self, block: bytes) -> None:
        """Take the next bytes into account."""
        self.size_bytes += len(block)
        self._crc32c = google_crc32c.extend(self._crc32c, block)
        if self._md5 is not None:
            self._md5.update(block)

    def content(self, file_id: str) -> Content:
        """Return the content of `file_id`, of which every byte has passed."""
        return Content(
            file_id=file_id,
            size_bytes=self.size_bytes,
            crc32c=base64.b64encode(self._crc32c.to_bytes(4)).decode(),
            md5=None if self._md5 is None else base64.b64encode(self._md5.digest()).decode(),
        )


class ContentFiles:
    """The directory of content files. Names are random; no file is ever changed once indexed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, file_id: str) -> Path:
        """Return where the bytes of `file_id` are."""
        return self._root / file_id

    def open(self, file_id: str) -> BinaryIO:
        """Open for reading; the bytes stay readable when the object is replaced meanwhile."""
        return self.path(file_id).open("rb", buffering=0)

    @contextmanager
    def received(self, blocks: Iterable[bytes], expected: Expected = ANYTHING) -> Iterator[Content]:
        """Yield `blocks` as checked content; its file goes again if anything raises."""
        with self._new_file() as file_id:
            content = self._write(file_id, blocks, Meter(), expected)
            expected.check(content)
            yield content

    @contextmanager
    def joined(self, files: Sequence[BinaryIO]) -> Iterator[Content]:
        """Yield the bytes of `files`, one after the other, as content without MD5."""
        with self._new_file() as file_id:
            blocks = (block for file in files for block in blocks_of(file))
            yield self._write(file_id, blocks, Meter(with_md5=False), ANYTHING)

    @contextmanager
    def linked(self, content: Content) -> Iterator[Content]:
        """Yield the same content under a name of its own, without copying a byte."""
        with self._new_file() as file_id:
            os.link(self.path(content.file_id), self.path(file_id))
            yield replace(content, file_id=file_id)

    def create(self) -> str:
        """Make an empty file that grows (a resumable upload's) and return its name."""
        file_id = uuid.uuid4().hex
        self.path(file_id).touch(exist_ok=False)
        return file_id

    def measure(self, file_id: str) -> Content:
        """Return the content of a file that has grown in pieces."""
        meter = Meter()
        with self.open(file_id) as file:
            for block in blocks_of(file):
                meter.update(block)
        return meter.content(file_id)

    def remove(self, file_id: str) -> None:
        """Remove a file; quiet when it is already gone."""
        self.path(file_id).unlink(missing_ok=True)

    def sweep(self, kept: set[str]) -> None:
        """Remove what a killed process has left half written or no longer named."""
        with os.scandir(self._root) as entries:
            for entry in entries:
                if entry.name not in kept:
                    os.unlink(entry.path)

    @contextmanager
    def _new_file(self) -> Iterator[str]:
        file_id = uuid.uuid4().hex
        try:
            yield file_id
        except BaseException:
            self.remove(file_id)
            raise

    def _write(
        self, file_id: str, blocks: Iterable[bytes], meter: Meter, expected: Expected
    ) -> Content:
        with self.path(file_id).open("xb", buffering=0) as file:
            for block in blocks:
                write_all(file, block)
                meter.update(block)
                expected.check_size(meter.size_bytes)
        return meter.content(file_id)


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of `file` in blocks."""
    while block := file.read(BLOCK_BYTES):
        yield block


def write_all(file: BinaryIO, block: bytes) -> None:
    """Write `block` to an unbuffered file, which may take it in several bites."""
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]
