"""What an artist's client asks for, before it is a job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class SubmittedTask(NamedTuple):
    """One command; `frames` is a spec that has been checked."""

    command: str
    frames: str


class SubmittedFile(NamedTuple):
    """An input. `path` is the artist's own, `md5` base64, None where an upload daemon shall find out."""

    path: str
    md5: str | None
    size_bytes: int
    is_executable: bool


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The body of POST /jobs/.

    Shapes: `tasks` in the order that gives them their ids, at least one; `scouts` the positions of those that go first.
    """

    project: str
    instance_type: str
    output_path: str
    tasks: tuple[SubmittedTask, ...]
    title: str
    owner: str
    location: str
    is_preemptible: bool
    priority: int
    max_instances: int
    preempted_retries: int
    standard_after: int
    out_of_memory_retries: int
    scouts: tuple[int, ...]
    package_ids: tuple[str, ...]
    environment: Mapping[str, str]
    metadata: Mapping[str, str]
    notify_emails: tuple[str, ...]
    is_uploaded_by_client: bool
    files: tuple[SubmittedFile, ...]


@dataclass(frozen=True, kw_only=True)
class JobEdit:
    """What shall be otherwise about a job; None stays as it is."""

    priority: int | None = None
    instance_type: str | None = None
    is_preemptible: bool | None = None
    max_instances: int | None = None
    preempted_retries: int | None = None
    standard_after: int | None = None
    out_of_memory_retries: int | None = None


class OfferedFile(NamedTuple):
    """A file that a client could upload; `path` is given back exactly as it came, `md5` is base64."""

    path: str
    md5: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class UploadRequest:
    """The body of get_upload_urls; the command line names no project."""

    files: tuple[OfferedFile, ...]
    project: str | None


@dataclass(frozen=True, kw_only=True)
class CompletedUpload:
    """The body of multipart/complete. Shapes: `etags` by number of part, from 1."""

    upload_id: str
    md5: str
    etags: Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class DownloadStatus:
    """The body of downloads/status."""

    download_id: str
    status: str
