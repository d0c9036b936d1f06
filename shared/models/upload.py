"""The work of upload daemons."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from shared.models.job import JobRef


@dataclass(frozen=True, kw_only=True)
class QueuedUpload:
    """A job's place in the queue of uploads.

    It may be handed out from `available_at` on; until then `holder` has it, the mark of a daemon, empty when nobody
    has. `version` guards the change of it.
    """

    ref: JobRef
    location: str
    available_at: datetime
    holder: str = ""
    version: object = None


class AwaitedFile(NamedTuple):
    """A file that a daemon shall send. `source` is the artist's path, `path` the node's, `md5` None where unknown.

    `size_bytes` is what it had when the job was submitted: without an MD5, the daemon may find another file there.
    """

    source: str
    path: str
    md5: str | None
    size_bytes: int
    executable: bool


@dataclass(frozen=True, kw_only=True)
class SentBytes:
    """What a daemon says while it sends."""

    sent_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class HandedOut:
    """An upload as a daemon gets it. Shapes: `files` has at least one path, as the artist has it."""

    job_id: str
    project: str
    files: Mapping[str, str | None]
