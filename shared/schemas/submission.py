"""The body of POST /jobs/."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from marshmallow import (
    EXCLUDE,
    Schema,
    ValidationError,
    fields,
    post_load,
    pre_load,
    validate,
)

from shared.core.frames import Frames, scout_indices
from shared.core.paths import node_path
from shared.models.submission import Submission, SubmittedFile, SubmittedTask
from shared.schemas.bounded import MAX_COMPLAINTS, Pairs, Strings
from shared.schemas.md5 import PATTERN, is_md5
from shared.schemas.retries import RetryPolicies

MAX_TASKS = 100_000
MAX_FILES = 200_000
MAX_SCOUT_FRAMES = 10_000
MAX_COMMAND_BYTES = 32 * 1024
MAX_FRAMES_CHARACTERS = 8 * 1024
MAX_PATH_CHARACTERS = 4096
MAX_FILE_BYTES = 5 * 1024**4
# These are in the job's document, which may hold 1 MiB: all that it can come to is a fraction of it.
MAX_SCOUTS = 1000
MAX_EMAILS = 100
MAX_EMAIL_CHARACTERS = 254
MAX_METADATA = 100
MAX_METADATA_BYTES = 64 * 1024
MAX_PRIORITY = 1000
MAX_JOB_INSTANCES = 1_000_000
# This one is in object storage.
MAX_ENVIRONMENT_BYTES = 256 * 1024

Read = TypeVar("Read")

# The first word of a command, or what it quotes.
_PROGRAM = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|(\S+))""")
_TEXT = validate.ContainsNoneOf("\x00", error="Must not contain a null character.")


_TASKS = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_TASKS,
    "items": {
        "type": "object",
        "required": ["command", "frames"],
        "properties": {
            "command": {"type": "string", "minLength": 1, "maxLength": MAX_COMMAND_BYTES},
            "frames": {
                "type": "string",
                "maxLength": MAX_FRAMES_CHARACTERS,
                "description": "such as 1-10x2,20",
            },
        },
    },
}
_FILES = {
    "type": "array",
    "maxItems": MAX_FILES,
    "items": {
        "type": "object",
        "required": ["destination", "st_size"],
        "properties": {
            "destination": {"type": "string", "description": "its absolute path at the artist's"},
            "md5": {
                "type": ["string", "null"],
                "pattern": PATTERN,
                "description": "base64 of the 16 bytes; null until an upload daemon has read it",
            },
            "st_size": {"type": "integer", "minimum": 0},
            "st_mode": {"description": "where it is a number, the bits of its permissions"},
        },
    },
}


class Tasks(fields.Field[list[tuple[SubmittedTask, Frames]]]):
    """`tasks_data`, each with its frames. One tight loop: a job may have 100,000 of them."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> list[tuple[SubmittedTask, Frames]]:
        if not isinstance(value, list):
            raise ValidationError("Not a valid list.")
        if not 1 <= len(value) <= MAX_TASKS:
            raise ValidationError(f"Must have 1 to {MAX_TASKS} tasks.")
        read: dict[str, Frames] = {}
        return _each(value, partial(_task, read=read))


def _each(found: list[Any], read: Callable[[Any], Read]) -> list[Read]:
    """Read each item of a list. Raises: ValidationError that tells, by their places, what is wrong with the first."""
    items: list[Read] = []
    wrong: dict[int, object] = {}
    for index, each in enumerate(found):
        try:
            items.append(read(each))
        except ValidationError as error:
            wrong[index] = error.messages
            if len(wrong) >= MAX_COMPLAINTS:
                break
    if wrong:
        raise ValidationError(wrong)
    return items


def _task(found: Any, read: dict[str, Frames]) -> tuple[SubmittedTask, Frames]:
    if not isinstance(found, dict):
        raise ValidationError("Must be an object with command and frames.")
    command, spec = found.get("command"), found.get("frames")
    if not isinstance(command, str) or not command.strip() or "\0" in command:
        raise ValidationError({"command": ["Must be a command line."]})
    if len(command) * 4 > MAX_COMMAND_BYTES and len(command.encode()) > MAX_COMMAND_BYTES:
        raise ValidationError({"command": [f"Longer than {MAX_COMMAND_BYTES} bytes."]})
    if not isinstance(spec, str):
        raise ValidationError({"frames": ["Must be frames such as 1-10x2,20."]})
    frames = read.get(spec)
    if frames is None:
        frames = read[spec] = _frames(spec)
    return SubmittedTask(command, spec), frames


def _frames(spec: str) -> Frames:
    if len(spec) > MAX_FRAMES_CHARACTERS:
        raise ValidationError({"frames": [f"Longer than {MAX_FRAMES_CHARACTERS} characters."]})
    try:
        return Frames.parse(spec)
    except ValueError as error:
        raise ValidationError({"frames": [f"{error}."]}) from error


class Files(fields.Field[tuple[SubmittedFile, ...]]):
    """`upload_files`. Only what a node needs is read; the artist's other file attributes are left alone."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[SubmittedFile, ...]:
        if not isinstance(value, list):
            raise ValidationError("Not a valid list.")
        if len(value) > MAX_FILES:
            raise ValidationError(f"Must have at most {MAX_FILES} files.")
        return tuple(_each(value, _file))


def _file(found: Any) -> SubmittedFile:
    if not isinstance(found, dict):
        raise ValidationError("Must be an object with destination, md5 and st_size.")
    path, md5, size = found.get("destination"), found.get("md5"), found.get("st_size")
    if not isinstance(path, str):
        raise ValidationError({"destination": ["Must be a path."]})
    if len(path) > MAX_PATH_CHARACTERS:
        raise ValidationError({"destination": [f"Longer than {MAX_PATH_CHARACTERS} characters."]})
    try:
        node_path(path)
    except ValueError as error:
        raise ValidationError({"destination": [f"{error}."]}) from error
    if md5 is not None and not is_md5(md5):
        raise ValidationError({"md5": ["Must be the base64 of an MD5."]})
    if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        raise ValidationError(
            {"st_size": [f"Must be a number of bytes, at most {MAX_FILE_BYTES}."]}
        )
    return SubmittedFile(path, md5, size, _is_executable(path, found.get("st_mode")))


def _is_executable(path: str, mode: object) -> bool:
    """Windows knows no such bit, and its artists send scripts to be run: there, everything may be."""
    if not path.startswith("/") or path.startswith("//"):
        return True
    return type(mode) is int and bool(mode & 0o111)


def _check_output_path(path: str) -> None:
    try:
        node_path(path)
    except ValueError as error:
        raise ValidationError(f"{error}.") from error


class Emails(Schema):
    """Clients wrap whatever the artist gave them, even nothing."""

    class Meta:
        unknown = EXCLUDE

    emails = Strings(max_count=MAX_EMAILS, max_length=MAX_EMAIL_CHARACTERS, allow_none=True)

    @pre_load
    def leave_out_blanks(self, said: Any, **_: Any) -> Any:
        """An artist who named nobody may have left an empty line."""
        if not isinstance(said, dict) or not isinstance(said.get("emails"), list):
            return said
        return said | {"emails": [each for each in said["emails"] if each not in ("", None)]}


class SubmissionSchema(Schema):
    """Clients of all versions send the same 21 keys; what a later one adds is passed over."""

    class Meta:
        unknown = EXCLUDE

    instance_type = fields.String(required=True, validate=validate.Length(1, 100))
    project = fields.String(required=True, validate=validate.Length(1, 100))
    tasks_data = Tasks(required=True, metadata=_TASKS)
    output_path = fields.String(
        required=True, validate=[validate.Length(1, MAX_PATH_CHARACTERS), _check_output_path]
    )
    autoretry_policy = fields.Nested(RetryPolicies, load_default=lambda: RetryPolicies().load({}))
    environment = Pairs(
        max_count=1000,
        max_name=1024,
        max_value=32 * 1024,
        max_bytes=MAX_ENVIRONMENT_BYTES,
        load_default=dict,
    )
    job_title = fields.String(load_default="", validate=[_TEXT, validate.Length(0, 1000)])
    local_upload = fields.Boolean(load_default=True)
    docker_image = fields.String(
        load_default="", validate=validate.Equal("", error="Is not offered: name packages instead.")
    )
    location = fields.String(load_default="", validate=[_TEXT, validate.Length(0, 200)])
    preemptible = fields.Boolean(load_default=False)
    metadata = Pairs(
        max_count=MAX_METADATA,
        max_name=128,
        max_value=1024,
        max_bytes=MAX_METADATA_BYTES,
        has_reserved=True,
        load_default=dict,
    )
    priority = fields.Integer(strict=True, load_default=5, validate=validate.Range(0, MAX_PRIORITY))
    scout_frames = fields.String(load_default="", validate=validate.Length(0, 100_000))
    software_package_ids = Strings(max_count=100, max_length=200, load_default=())
    max_instances = fields.Integer(
        strict=True, load_default=0, validate=validate.Range(0, MAX_JOB_INSTANCES)
    )
    owner = fields.String(load_default="", validate=[_TEXT, validate.Length(0, 200)])
    notify = fields.Nested(Emails, load_default=dict, allow_none=True)
    upload_files = Files(load_default=(), metadata=_FILES)

    @pre_load
    def leave_out_nulls(self, said: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """What a plugin left null is as if it were not there."""
        return {name: value for name, value in said.items() if value is not None}

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> Submission:
        """Return the model."""
        return Submission(
            project=said["project"],
            instance_type=said["instance_type"],
            output_path=said["output_path"],
            tasks=tuple(task for task, _ in said["tasks_data"]),
            title=said["job_title"],
            owner=said["owner"],
            location=said["location"],
            is_preemptible=said["preemptible"],
            priority=said["priority"],
            max_instances=said["max_instances"],
            preempted_retries=said["autoretry_policy"]["preempted"]["max_retries"],
            standard_after=said["autoretry_policy"]["preempted"]["standard_after"],
            out_of_memory_retries=said["autoretry_policy"]["out_of_memory"]["max_retries"],
            scouts=_scouts([frames for _, frames in said["tasks_data"]], said["scout_frames"]),
            package_ids=tuple(dict.fromkeys(said["software_package_ids"])),
            environment=said["environment"],
            metadata=said["metadata"],
            notify_emails=tuple((said["notify"] or {}).get("emails") or ()),
            is_uploaded_by_client=said["local_upload"],
            files=_with_programs(said["upload_files"], said["tasks_data"]),
        )


def _with_programs(
    files: Sequence[SubmittedFile], tasks: Iterable[tuple[SubmittedTask, Frames]]
) -> tuple[SubmittedFile, ...]:
    """Return the files with those executable that a command begins with, whatever the artist's system says of them."""
    if not files:
        return ()
    started = (_PROGRAM.match(task.command) for task, _ in tasks)
    programs = {found[1] or found[2] or found[3] for found in started if found}
    return tuple(
        file._replace(is_executable=file.is_executable or node_path(file.path) in programs)
        for file in files
    )


def _scouts(tasks: Sequence[Frames], spec: str) -> tuple[int, ...]:
    """Return the positions of the scouts; a client without any may send nothing but separators."""
    if not spec.strip(", \t"):
        return ()
    try:
        scouts = Frames.parse(spec)
    except ValueError as error:
        raise ValidationError(f"{error}.", "scout_frames") from error
    if sum(map(len, scouts.progressions)) > MAX_SCOUT_FRAMES:
        raise ValidationError(f"Must name at most {MAX_SCOUT_FRAMES} frames.", "scout_frames")
    found = tuple(scout_indices(tasks, scouts))
    if len(found) > MAX_SCOUTS:
        raise ValidationError(f"Must be those of at most {MAX_SCOUTS} tasks.", "scout_frames")
    return found
