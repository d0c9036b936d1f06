"""Uploads. Who may: every token of the account, for the account's own files; bodies up to 4 MB."""

import secrets

from flask import Request

from functions.submit.callers import caller
from shared import wiring
from shared.http import MIB, Reply, read_json
from shared.schemas.loading import load
from shared.schemas.uploads import CompletedUploadSchema, UploadRequestSchema
from shared.services.uploads import complete_upload, upload_urls

_LIMIT_BYTES = 4 * MIB
_UPLOAD_REQUEST = UploadRequestSchema()
_COMPLETED_UPLOAD = CompletedUploadSchema()


def get_upload_urls(request: Request) -> Reply:
    """Give signed URLs for the files that the account does not hold yet."""
    principal = caller(request)
    return upload_urls(
        principal,
        load(_UPLOAD_REQUEST, read_json(request, _LIMIT_BYTES)),
        wiring.ports(),
        wiring.transfer_store(),
        wiring.part_sizes(),
        new_id=lambda: secrets.token_hex(16),
    )


def complete_multipart(request: Request) -> Reply:
    """Join a file that went up in parts."""
    principal = caller(request)
    done = load(_COMPLETED_UPLOAD, read_json(request, _LIMIT_BYTES))
    complete_upload(principal, done, wiring.ports(), wiring.transfer_store())
    return {}
