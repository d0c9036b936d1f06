"""JSON resources of buckets and objects, and errors in JSON; the preconditions in a query."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from emulators.storage.errors import Refused
from emulators.storage.messages import Reply, Request, json_reply
from emulators.storage.objects import Bucket, Conditions, StoredObject


def bucket_resource(bucket: Bucket, origin: str) -> dict[str, Any]:
    """Return a bucket as the JSON API shows it."""
    return {
        "location": "US",
        "locationType": "multi-region",
        "storageClass": "STANDARD",
        **bucket.properties,
        "kind": "storage#bucket",
        "id": bucket.name,
        "name": bucket.name,
        "selfLink": f"{origin}/storage/v1/b/{bucket.name}",
        "projectNumber": "0",
        "metageneration": str(bucket.metageneration),
        "etag": f"{bucket.created_us}/{bucket.metageneration}",
        "timeCreated": timestamp(bucket.created_us),
        "updated": timestamp(bucket.updated_us),
    }


def object_resource(stored: StoredObject, origin: str) -> dict[str, Any]:
    """Return an object as the JSON API shows it; without MD5 where it is composed."""
    path = f"storage/v1/b/{stored.bucket}/o/{quote(stored.name, safe='~')}"
    resource = {
        "storageClass": "STANDARD",
        **stored.properties,
        "kind": "storage#object",
        "id": f"{stored.bucket}/{stored.name}/{stored.generation}",
        "selfLink": f"{origin}/{path}",
        "mediaLink": f"{origin}/download/{path}?generation={stored.generation}&alt=media",
        "name": stored.name,
        "bucket": stored.bucket,
        "generation": str(stored.generation),
        "metageneration": str(stored.metageneration),
        "size": str(stored.content.size_bytes),
        "crc32c": stored.content.crc32c,
        "etag": stored.etag,
        "timeCreated": timestamp(stored.generation),
        "timeFinalized": timestamp(stored.generation),
        "timeStorageClassUpdated": timestamp(stored.generation),
        "updated": timestamp(stored.updated_us),
    }
    if stored.content.md5 is not None:
        resource["md5Hash"] = stored.content.md5
    if stored.component_count is not None:
        resource["componentCount"] = stored.component_count
    return resource


def timestamp(microseconds: int) -> str:
    """Return a time as RFC 3339 with milliseconds."""
    moment = datetime.fromtimestamp(microseconds / 1e6, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_error(refused: Refused) -> Reply:
    """Return a refusal in the JSON API's form."""
    refusal = refused.refusal
    message = str(refused)
    error = {"message": message, "domain": "global", "reason": refusal.reason}
    body = {"error": {"code": refusal.status, "message": message, "errors": [error]}}
    reply = json_reply(body, refusal.status)
    reply.headers += refused.headers
    return reply


def conditions_of(request: Request, prefix: str = "if") -> Conditions:
    """Return the preconditions in a query; `prefix` ifSource for those on a copy's source."""
    return Conditions(
        generation_match=request.integer(f"{prefix}GenerationMatch"),
        generation_not_match=request.integer(f"{prefix}GenerationNotMatch"),
        metageneration_match=request.integer(f"{prefix}MetagenerationMatch"),
        metageneration_not_match=request.integer(f"{prefix}MetagenerationNotMatch"),
    )
