"""The bodies of downloads."""

from typing import Any

from marshmallow import EXCLUDE, Schema, fields, post_load, validate

from shared.models.submission import DownloadStatus


class DownloadsRequestSchema(Schema):
    """POST /jobs/{jid}/downloads: which tasks, null for all."""

    class Meta:
        unknown = EXCLUDE

    tids = fields.List(
        fields.String(validate=validate.Regexp(r"[0-9]{1,9}\Z")),
        load_default=None,
        allow_none=True,
        validate=validate.Length(0, 100_000),
    )


class DownloadStatusSchema(Schema):
    """POST /downloads/status; what it says of bytes does not matter."""

    class Meta:
        unknown = EXCLUDE

    download_id = fields.String(
        required=True, validate=validate.Regexp(r"[0-9]{1,12}-[0-9]{1,9}-[0-9]{1,6}\Z")
    )
    status = fields.String(
        required=True, validate=validate.OneOf(["downloaded", "pending", "downloading"])
    )

    @post_load
    def make(self, said: dict[str, Any], **_: Any) -> DownloadStatus:
        """Return the model."""
        return DownloadStatus(**said)
