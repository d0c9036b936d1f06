"""Bring an attempt's inputs into the zone's cache."""

import base64
import binascii
import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from agent.cache import Cache, Damaged
from agent.ending import Ending
from agent.errors import Failed
from agent.parallel import each
from agent.service import PER_CALL, Service, pauses
from agent.transport import NoAnswer, Transport

_THREADS = 8
_TRIES = 5  # of what another try seldom cures: a refused URL, a damaged file


class Input(NamedTuple):
    """One file as the artist has it."""

    path: str
    md5: str
    size: int
    is_executable: bool


class Spec(NamedTuple):
    """What an attempt needs besides its command."""

    environment: dict[str, str]
    inputs: tuple[Input, ...]


class _Rejected(Exception):
    """Storage answered that it does not give the file."""


def read_spec(content: bytes) -> Spec:
    """Understand the document behind `spec_url`. Raises: Failed."""
    try:
        document: dict[str, Any] = json.loads(content)
        inputs = tuple(
            Input(str(one["path"]), str(one["md5"]), int(one["size"]), bool(one["executable"]))
            for one in document["inputs"]
        )
        for one in inputs:
            if len(base64.b64decode(one.md5, validate=True)) != 16:
                raise ValueError(f"{one.md5!r} is no MD5")
        environment = {str(name): str(value) for name, value in document["environment"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as exc:
        raise Failed(f"the attempt's spec cannot be read: {exc!r}") from exc
    return Spec(environment, inputs)


class Fetcher:
    """Downloads what the cache lacks."""

    def __init__(
        self,
        cache: Cache,
        service: Service,
        transport: Transport,
        ending: Ending,
        patience_s: float,
    ) -> None:
        self._cache = cache
        self._service = service
        self._transport = transport
        self._ending = ending
        self._patience_s = patience_s
        self._urls: dict[str, str] = {}
        self._lock = threading.Lock()

    def fetch(self, inputs: Iterable[Input]) -> int:
        """Have all of them in the cache; return how many were missing. Raises: Failed; what `each` raises."""
        wanted = {one.md5: one for one in inputs}
        missing = [one for one in wanted.values() if not self._cache.use(one.md5, one.size)]
        self._renew([one.md5 for one in missing])
        each(self._fetch_one, missing, thread_count=_THREADS, ending=self._ending)
        return len(missing)

    def _renew(self, md5s: Sequence[str]) -> None:
        for first in range(0, len(md5s), PER_CALL):
            urls = self._service.inputs(md5s[first : first + PER_CALL])
            with self._lock:
                self._urls.update(urls)

    def _fetch_one(self, one: Input) -> None:
        deadline = time.monotonic() + self._patience_s
        rejected_count = 0
        for pause_s in pauses():
            try:
                self._cache.fetch(one.md5, one.size, lambda: self._blocks(one))
                return
            except (_Rejected, Damaged) as exc:
                problem = str(exc)
                rejected_count += 1
                if rejected_count < _TRIES:
                    self._renew([one.md5])
            except NoAnswer as exc:
                problem = str(exc)
            if rejected_count == _TRIES or time.monotonic() > deadline:
                raise Failed(f"input {one.path} cannot be fetched: {problem}")
            self._ending.wait(pause_s)
            self._ending.check()

    def _blocks(self, one: Input) -> Iterator[memoryview]:
        """Yield the file's bytes. Raises: _Rejected; NoAnswer."""
        with self._lock:
            url = self._urls.get(one.md5)
        if url is None:
            raise Failed(f"input {one.path} is not in the store")
        status, blocks = self._transport.download(url)
        if status in (429, 408) or status >= 500:
            for _ in blocks:  # read to the end, the connection is used again
                pass
            raise NoAnswer(f"storage answers {status}")
        if status != 200:
            for _ in blocks:
                pass
            raise _Rejected(f"storage answers {status}")
        yield from blocks
