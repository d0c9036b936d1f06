"""Find what a render made, and store it."""

import base64
import os
import threading
import time
from collections.abc import Mapping, Sequence
from hashlib import md5 as new_md5
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from agent.ending import Ending
from agent.errors import Failed
from agent.parallel import each
from agent.service import PER_CALL, Service, pauses
from agent.stage import Stamp, stamps
from agent.transport import NoAnswer, Transport

_THREADS = 8
_TRIES = 5  # of what another try seldom cures: a refused URL
_BLOCK = 1 << 20
_STORED = (200, 201, 204)


class Output(NamedTuple):
    """A file to store, relative to output_path."""

    relative_path: str
    md5: str
    size: int

    def as_wire(self) -> dict[str, Any]:
        """Return what the protocol calls it."""
        return self._asdict()


def written_files(root: Path, known: Mapping[str, Stamp]) -> list[str]:
    """Return the regular files below `root` which are new or changed, by relative path. Links are never followed.

    Raises: Failed when a name cannot be told to the server; OSError.
    """
    found = [path for path, stamp in stamps(root).items() if known.get(path) != stamp]
    for path in found:
        try:
            path.encode()
        except UnicodeEncodeError as exc:
            raise Failed(f"the output {path!r} has a name that is not UTF-8") from exc
    return sorted(found)


class Uploader:
    """Stores files, several at a time."""

    def __init__(
        self, service: Service, transport: Transport, ending: Ending, root: Path, patience_s: float
    ) -> None:
        self._service = service
        self._transport = transport
        self._ending = ending
        self._root = root
        self._patience_s = patience_s

    def upload(self, relative_paths: Sequence[str]) -> list[Output]:
        """Store them all. Raises: Failed when one cannot be stored; OSError; what `each` raises."""
        stored: list[Output] = []
        for first in range(0, len(relative_paths), PER_CALL):
            stored += self._upload_batch(relative_paths[first : first + PER_CALL])
        return stored

    def _upload_batch(self, relative_paths: Sequence[str]) -> list[Output]:
        outputs: list[Output] = []
        lock = threading.Lock()

        def digest(path: str) -> None:
            output = self._digest(path)
            with lock:
                outputs.append(output)

        each(digest, relative_paths, thread_count=_THREADS, ending=self._ending)
        urls, _ = self._service.outputs([output.as_wire() for output in outputs])
        each(
            lambda output: self._store(output, urls.get(output.relative_path, "")),
            outputs,
            thread_count=_THREADS,
            ending=self._ending,
        )
        return sorted(outputs)

    def _digest(self, relative_path: str) -> Output:
        digest, size = new_md5(usedforsecurity=False), 0
        with _open(self._root / relative_path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
        return Output(relative_path, base64.b64encode(digest.digest()).decode(), size)

    def _store(self, output: Output, url: str) -> None:
        """PUT one file; a URL that storage refuses may have run out, a fresh one is asked for."""
        deadline = time.monotonic() + self._patience_s
        refused_count = 0
        for pause_s in pauses():
            if not url:
                raise Failed(f"the server gives no place for the output {output.relative_path}")
            try:
                with _open(self._root / output.relative_path) as file:
                    reply = self._transport.upload(url, {"Content-MD5": output.md5}, file)
                if reply.status in _STORED:
                    return
                problem = f"storage answers {reply.status}"
                if reply.status < 500 and reply.status not in (408, 429):
                    refused_count += 1
                    urls, _ = self._service.outputs([output.as_wire()])
                    url = urls.get(output.relative_path, "")
            except NoAnswer as exc:
                problem = str(exc)
            if refused_count == _TRIES or time.monotonic() > deadline:
                raise Failed(f"output {output.relative_path} cannot be stored: {problem}")
            self._ending.wait(pause_s)
            self._ending.check()


def _open(path: Path) -> BinaryIO:
    """Open a file, never through a link in its place."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
