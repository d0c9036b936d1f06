"""The bodies of uploads."""

from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

from shared.models.submission import CompletedUpload, OfferedFile, UploadRequest
from shared.schemas.md5 import is_md5

MAX_OFFERED_FILES = 500
MAX_FILE_BYTES = 5 * 1024**4


def _check_md5(value: str) -> None:
    if not is_md5(value):
        raise ValidationError("Must be the base64 of an MD5.")


class OfferedFileSchema(Schema):
    """One file of get_upload_urls."""

    class Meta:
        unknown = EXCLUDE

    path = fields.String(required=True, validate=validate.Length(1, 4096))
    hash = fields.String(required=True, validate=_check_md5)
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
    hash = fields.String(required=True, validate=_check_md5)
    completedParts = fields.List(  # noqa: N815  the wire's name
        fields.Nested(PartSchema), required=True, validate=validate.Length(1, 10_000)
    )

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> CompletedUpload:
        """Return the model."""
        etags = {part["partNumber"]: part["etag"] for part in said["completedParts"]}
        return CompletedUpload(upload_id=said["uploadID"], md5=said["hash"], etags=etags)
