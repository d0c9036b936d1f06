"""The bodies of uploads."""

from collections.abc import Mapping
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

from shared.models.submission import CompletedUpload, OfferedFile, UploadRequest
from shared.models.upload import SentBytes
from shared.schemas.bounded import MAX_COMPLAINTS
from shared.schemas.md5 import PATTERN, is_md5

MAX_OFFERED_FILES = 500
MAX_SENT_FILES = 200_000
# What the body of `finish` may hold: each path twice, and its MD5.
MAX_FINISH_BYTES = 32 * 1024**2
MAX_FILE_BYTES = 5 * 1024**4


def _check_md5(value: str) -> None:
    if not is_md5(value):
        raise ValidationError("Must be the base64 of an MD5.")


class OfferedFileSchema(Schema):
    """One file of get_upload_urls."""

    class Meta:
        unknown = EXCLUDE

    path = fields.String(required=True, validate=validate.Length(1, 4096))
    hash = fields.String(required=True, validate=_check_md5, metadata={"pattern": PATTERN})
    size = fields.Integer(required=True, strict=True, validate=validate.Range(0, MAX_FILE_BYTES))

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> OfferedFile:
        """Return the model."""
        return OfferedFile(said["path"], said["hash"], said["size"])


class UploadRequestSchema(Schema):
    """POST /api/v2/files/get_upload_urls."""

    class Meta:
        unknown = EXCLUDE

    upload_files = fields.List(
        fields.Nested(OfferedFileSchema),
        required=True,
        validate=validate.Length(0, MAX_OFFERED_FILES),
    )
    project = fields.String(load_default=None, allow_none=True)

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> UploadRequest:
        """Return the model."""
        return UploadRequest(files=tuple(said["upload_files"]), project=said["project"] or None)


class PartSchema(Schema):
    """One part of a completed upload."""

    class Meta:
        unknown = EXCLUDE

    partNumber = fields.Integer(required=True, strict=True, validate=validate.Range(1, 10_000))  # noqa: N815  the wire's name
    etag = fields.String(required=True, validate=validate.Length(1, 200))


class CompletedUploadSchema(Schema):
    """POST /api/v2/files/multipart/complete."""

    class Meta:
        unknown = EXCLUDE

    uploadID = fields.String(required=True, validate=validate.Regexp(r"[0-9a-zA-Z_-]{1,100}\Z"))  # noqa: N815  the wire's name
    hash = fields.String(required=True, validate=_check_md5, metadata={"pattern": PATTERN})
    completedParts = fields.List(  # noqa: N815  the wire's name
        fields.Nested(PartSchema), required=True, validate=validate.Length(1, 10_000)
    )

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> CompletedUpload:
        """Return the model."""
        etags = {part["partNumber"]: part["etag"] for part in said["completedParts"]}
        return CompletedUpload(upload_id=said["uploadID"], md5=said["hash"], etags=etags)


class DaemonSchema(Schema):
    """PUT /uploads/client/next. Daemons of old have no location, or an empty one."""

    class Meta:
        unknown = EXCLUDE

    location = fields.String(load_default="", allow_none=True, validate=validate.Length(0, 200))

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> str:
        """Return the location, empty where there is none."""
        return said["location"] or ""


def _bytes() -> fields.Integer:
    return fields.Integer(load_default=0, allow_none=True, validate=validate.Range(0, 2**63 - 1))


class UploadProgressSchema(Schema):
    """POST /uploads/{id}/update. The clients spell it like this."""

    class Meta:
        unknown = EXCLUDE

    transfer_size = _bytes()
    bytes_transfered = _bytes()

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> SentBytes:
        """Return the model."""
        return SentBytes(
            sent_bytes=said["bytes_transfered"] or 0, total_bytes=said["transfer_size"] or 0
        )


_SENT_FILES = {
    "type": "object",
    "maxProperties": MAX_SENT_FILES,
    "additionalProperties": {
        "type": "object",
        "required": ["md5"],
        "properties": {
            "source": {"type": "string"},
            "md5": {"type": "string", "pattern": PATTERN},
        },
    },
}


class SentFiles(fields.Field[dict[str, str]]):
    """`upload_files` of a daemon: the MD5 of each path. One tight loop: there may be very many."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValidationError("Not a valid mapping type.")
        if len(value) > MAX_SENT_FILES:
            raise ValidationError(f"Must have at most {MAX_SENT_FILES} files.")
        md5s: dict[str, str] = {}
        wrong: dict[str, object] = {}
        for path, each in value.items():
            md5 = each.get("md5") if isinstance(each, dict) else None
            if is_md5(md5):
                md5s[path] = str(md5)
                continue
            wrong[path[:200]] = {"md5": ["Must be the base64 of an MD5."]}
            if len(wrong) >= MAX_COMPLAINTS:
                break
        if wrong:
            raise ValidationError(wrong)
        return md5s


class FinishedUploadSchema(Schema):
    """POST /uploads/{id}/finish."""

    class Meta:
        unknown = EXCLUDE

    upload_files = SentFiles(required=True, metadata=_SENT_FILES)

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> dict[str, str]:
        """Return the MD5s by the artist's path."""
        return dict(said["upload_files"])
