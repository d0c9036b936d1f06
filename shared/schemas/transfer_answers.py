"""What clients are answered about files on their way: see answers.py."""

from marshmallow import Schema, fields, validate

from shared.schemas.answers import listed


class DownloadFileSchema(Schema):
    """A file, and where to get it."""

    output_dir = fields.String(required=True)
    job_id = fields.String(required=True)
    task_id = fields.String(required=True)
    relative_path = fields.String(required=True)
    md5 = fields.String(required=True, metadata={"description": "base64 of the 16 bytes"})
    size = fields.Integer(required=True, metadata={"description": "bytes"})
    url = fields.Url(required=True)


class DownloadSchema(Schema):
    """The files of one task."""

    download_id = fields.String(required=True)
    output_dir = fields.String(required=True)
    job_id = fields.String(required=True)
    task_id = fields.String(required=True)
    size = fields.Integer(required=True, metadata={"description": "bytes"})
    files = listed(DownloadFileSchema)


class DownloadsSchema(Schema):
    """A page of a job's frames; the cursor is null after the last."""

    downloads = listed(DownloadSchema)
    next_cursor = fields.String(required=True, allow_none=True)


class JobDownloadsSchema(Schema):
    """All frames of a job."""

    downloads = listed(DownloadSchema)


class NextDownloadsSchema(Schema):
    """What a daemon shall fetch next; nothing is an empty list."""

    data = listed(DownloadSchema)


class SingleUploadSchema(Schema):
    """A file to be sent in one piece."""

    filePath = fields.String(required=True)  # noqa: N815  the wire's name
    fileSize = fields.Integer(required=True)  # noqa: N815  the wire's name
    preSignedURL = fields.Url(required=True)  # noqa: N815  the wire's name


class PartUrlSchema(Schema):
    """Where one part goes."""

    partNumber = fields.Integer(required=True, validate=validate.Range(1))  # noqa: N815  the wire's name
    url = fields.Url(required=True)


class MultipartUploadSchema(Schema):
    """A file to be sent in parts."""

    uploadID = fields.String(required=True)  # noqa: N815  the wire's name
    filePath = fields.String(required=True)  # noqa: N815  the wire's name
    fileSize = fields.Integer(required=True)  # noqa: N815  the wire's name
    partSize = fields.Integer(required=True)  # noqa: N815  the wire's name
    md5 = fields.String(required=True)
    parts = listed(PartUrlSchema)


class UploadUrlsSchema(Schema):
    """The files that the account does not hold yet."""

    singlePartURLs = listed(SingleUploadSchema)  # noqa: N815  the wire's name
    multiPartURLs = listed(MultipartUploadSchema)  # noqa: N815  the wire's name


class HandedOutUploadSchema(Schema):
    """What a daemon shall send: the MD5 that each path must have, null where any is right."""

    id = fields.String(required=True)
    project = fields.String(required=True)
    upload_files = fields.Dict(
        keys=fields.String(),
        values=fields.String(allow_none=True),
        required=True,
        validate=validate.Length(1),
    )


class NextUploadSchema(Schema):
    """The upload that waits longest."""

    data = fields.Nested(HandedOutUploadSchema, required=True)
