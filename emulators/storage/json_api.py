"""The JSON API: buckets, objects, batches. Any credentials are accepted, as emulators do.

Only live objects exist: no versions are kept, and a bucket's settings are stored but not acted on.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from emulators.storage.batch import answer_batch
from emulators.storage.errors import Refusal, Refused
from emulators.storage.json_uploads import JsonUploads
from emulators.storage.listing import MAX_RESULTS, ListingQuery, list_objects
from emulators.storage.media import media_reply
from emulators.storage.messages import Reply, Request, json_reply
from emulators.storage.objects import Conditions, StoredObject
from emulators.storage.resources import (
    bucket_resource,
    conditions_of,
    json_error,
    object_resource,
)
from emulators.storage.resumable import ResumableUploads
from emulators.storage.state import Store, Version

PREFIXES = ("/storage/v1/", "/upload/storage/v1/", "/download/storage/v1/", "/batch/storage/v1")
REFUSED_PARAMETERS = ("matchGlob", "softDeleted")

Handler = Callable[..., Reply]


class JsonApi:
    """Routes requests to the rules and words their results in JSON."""

    def __init__(self, store: Store, resumable: ResumableUploads) -> None:
        self._store = store
        uploads = JsonUploads(store, resumable)
        bucket, name = "/storage/v1/b/([^/]+)", "/o/([^/]+)"
        routes: dict[str, dict[str, Handler]] = {
            "/storage/v1/b": {"GET": self._list_buckets, "POST": self._create_bucket},
            bucket: {
                "GET": self._get_bucket,
                "PATCH": self._patch_bucket,
                "DELETE": self._delete_bucket,
            },
            f"{bucket}/o": {"GET": self._list_objects},
            f"{bucket}{name}": {
                "GET": self._get_object,
                "PATCH": self._patch_object,
                "PUT": self._patch_object,
                "DELETE": self._delete_object,
            },
            f"{bucket}{name}/compose": {"POST": self._compose},
            f"{bucket}{name}/copyTo/b/([^/]+){name}": {"POST": self._copy},
            f"{bucket}{name}/rewriteTo/b/([^/]+){name}": {"POST": self._rewrite},
            f"/download{bucket}{name}": {"GET": self._download},
            f"/upload{bucket}/o": {
                "POST": uploads.insert,
                "PUT": uploads.proceed,
                "DELETE": uploads.proceed,
            },
            "/batch/storage/v1": {"POST": self._batch},
        }
        self._routes = [(re.compile(pattern), methods) for pattern, methods in routes.items()]

    def answer(self, request: Request) -> Reply:
        """Return the reply to one request, refusals included."""
        try:
            handler, names = self._route(request)
            return handler(request, *names)
        except Refused as refused:
            return json_error(refused)

    def _route(self, request: Request) -> tuple[Handler, list[str]]:
        method = "GET" if request.method == "HEAD" else request.method
        for pattern, methods in self._routes:
            if match := pattern.fullmatch(request.path):
                if method not in methods:
                    raise Refused(Refusal.METHOD_NOT_ALLOWED)
                return methods[method], [unquote(name) for name in match.groups()]
        raise Refused(Refusal.NO_SUCH_ROUTE, f"no such resource: {request.path}")

    # Buckets

    def _list_buckets(self, request: Request) -> Reply:
        buckets = self._store.buckets(request.query.get("prefix", ""))
        items = [bucket_resource(bucket, request.origin) for bucket in buckets]
        return json_reply({"kind": "storage#buckets", "items": items})

    def _create_bucket(self, request: Request) -> Reply:
        properties = request.json()
        name = properties.pop("name", None)
        if not isinstance(name, str):
            raise Refused(Refusal.INVALID_ARGUMENT, "Required: name")
        bucket = self._store.create_bucket(name, properties)
        return json_reply(bucket_resource(bucket, request.origin))

    def _get_bucket(self, request: Request, name: str) -> Reply:
        return json_reply(bucket_resource(self._store.bucket(name), request.origin))

    def _patch_bucket(self, request: Request, name: str) -> Reply:
        bucket = self._store.patch_bucket(name, request.json())
        return json_reply(bucket_resource(bucket, request.origin))

    def _delete_bucket(self, _request: Request, name: str) -> Reply:
        self._store.delete_bucket(name)
        return Reply(204)

    # Objects

    def _list_objects(self, request: Request, bucket: str) -> Reply:
        for parameter in REFUSED_PARAMETERS:
            if request.query.get(parameter, "false") != "false":
                raise Refused(Refusal.NOT_IMPLEMENTED, f"{parameter} is not implemented")
        token = request.query.get("pageToken", "")
        query = ListingQuery(
            bucket=bucket,
            prefix=request.query.get("prefix", ""),
            delimiter=request.query.get("delimiter", ""),
            start=max(_start_of(token), request.query.get("startOffset", "")),
            end=request.query.get("endOffset") or None,
            limit=min(request.integer("maxResults", least=1) or MAX_RESULTS, MAX_RESULTS),
            include_trailing_delimiter=request.query.get("includeTrailingDelimiter") == "true",
        )
        listing = list_objects(self._store.index, query)
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if listing.objects:
            answer["items"] = [object_resource(found, request.origin) for found in listing.objects]
        if listing.prefixes:
            answer["prefixes"] = listing.prefixes
        if listing.next_start is not None:
            answer["nextPageToken"] = base64.urlsafe_b64encode(listing.next_start.encode()).decode()
        return json_reply(answer)

    def _get_object(self, request: Request, bucket: str, name: str) -> Reply:
        if request.query.get("alt") == "media":
            return self._download(request, bucket, name)
        return self._resource(request, self._store.get(_version(request, bucket, name)))

    def _download(self, request: Request, bucket: str, name: str) -> Reply:
        return media_reply(self._store, _version(request, bucket, name), request)

    def _patch_object(self, request: Request, bucket: str, name: str) -> Reply:
        version = _version(request, bucket, name)
        whole = request.method == "PUT"
        return self._resource(request, self._store.patch(version, request.json(), whole=whole))

    def _delete_object(self, request: Request, bucket: str, name: str) -> Reply:
        self._store.delete(_version(request, bucket, name))
        return Reply(204)

    def _copy(self, request: Request, *names: str) -> Reply:
        return self._resource(request, self._copied(request, *names))

    def _rewrite(self, request: Request, *names: str) -> Reply:
        """Copy at once, whatever the size: a rewrite token is never needed."""
        stored = self._copied(request, *names)
        size = str(stored.content.size_bytes)
        return json_reply(
            {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": size,
                "objectSize": size,
                "done": True,
                "resource": object_resource(stored, request.origin),
            }
        )

    def _copied(
        self, request: Request, bucket: str, name: str, to_bucket: str, to_name: str
    ) -> StoredObject:
        source = Version(
            bucket=bucket,
            name=name,
            generation=request.integer("sourceGeneration"),
            conditions=conditions_of(request, "ifSource"),
        )
        target = Version(bucket=to_bucket, name=to_name, conditions=conditions_of(request))
        return self._store.copy(source, target, request.json())

    def _compose(self, request: Request, bucket: str, name: str) -> Reply:
        order = request.json()
        target = Version(bucket=bucket, name=name, conditions=conditions_of(request))
        try:
            sources = [_component(bucket, source) for source in order["sourceObjects"]]
            properties = dict(order.get("destination") or {})
        except (KeyError, TypeError, ValueError) as exc:
            raise Refused(Refusal.INVALID_ARGUMENT, "malformed compose request") from exc
        return self._resource(request, self._store.compose(sources, target, properties))

    def _batch(self, request: Request) -> Reply:
        return answer_batch(request, self.answer)

    def _resource(self, request: Request, stored: StoredObject) -> Reply:
        return json_reply(object_resource(stored, request.origin))


def _version(request: Request, bucket: str, name: str) -> Version:
    generation = request.integer("generation")
    conditions = conditions_of(request)
    return Version(bucket=bucket, name=name, generation=generation, conditions=conditions)


def _component(bucket: str, source: dict[str, Any]) -> Version:
    generation = source.get("generation")
    match = (source.get("objectPreconditions") or {}).get("ifGenerationMatch")
    return Version(
        bucket=bucket,
        name=source["name"],
        generation=None if generation is None else int(generation),
        conditions=Conditions(generation_match=None if match is None else int(match)),
    )


def _start_of(page_token: str) -> str:
    """Return the name with which a page begins. Raises: Refused."""
    try:
        return base64.b64decode(page_token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise Refused(Refusal.INVALID_ARGUMENT, "Invalid pageToken") from exc
