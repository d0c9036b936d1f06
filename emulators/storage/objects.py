"""What a bucket and an object are, and the conditions under which one may be read or replaced."""

import base64
import json
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from emulators.storage.content import Content
from emulators.storage.errors import Refusal, Refused

#: What a client may set on an object; everything else in a resource is the store's own.
WRITABLE = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "eventBasedHold",
    "metadata",
    "storageClass",
    "temporaryHold",
)

#: Properties that hold names and texts of the client's own.
MAPS = ("labels", "metadata")

Properties = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """One bucket. Units: times in microseconds since 1970."""

    name: str
    properties: Properties
    metageneration: int
    created_us: int
    updated_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """One live object. `generation` is also the time of its creation, in microseconds."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    updated_us: int
    content: Content
    component_count: int | None = None
    properties: Properties = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """Return the JSON API's entity tag; it changes with the metadata too."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    @property
    def media_etag(self) -> str:
        """Return the tag of the bytes: their MD5 in hex, quoted, where they have one."""
        if self.content.md5 is None:
            return f'"-{self.etag}"'
        return f'"{hex_md5(self.content.md5)}"'


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """Preconditions on the live object; generation 0 stands for "there is none"."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    def check(self, current: StoredObject | None, *, reading: bool = False) -> None:
        """Raises: Refused, 412; when reading, a "not match" that fails means 304."""
        generation = current.generation if current else 0
        metageneration = current.metageneration if current else 0
        if self.generation_match not in (None, generation):
            raise Refused(Refusal.CONDITION_NOT_MET)
        if self.metageneration_match not in (None, metageneration):
            raise Refused(Refusal.CONDITION_NOT_MET)
        if generation == self.generation_not_match:
            raise Refused(Refusal.NOT_MODIFIED if reading else Refusal.CONDITION_NOT_MET)
        if metageneration == self.metageneration_not_match:
            raise Refused(Refusal.NOT_MODIFIED if reading else Refusal.CONDITION_NOT_MET)


UNCONDITIONAL = Conditions()


def hex_md5(md5: str) -> str:
    """Return a base64 MD5 in hex."""
    return base64.b64decode(md5).hex()


def bucket_of(row: sqlite3.Row) -> Bucket:
    """Return the bucket of an index row."""
    return Bucket(
        name=row["name"],
        properties=json.loads(row["properties"]),
        metageneration=row["metageneration"],
        created_us=row["created_us"],
        updated_us=row["updated_us"],
    )


def object_of(row: sqlite3.Row) -> StoredObject:
    """Return the object of an index row."""
    return StoredObject(
        bucket=row["bucket"],
        name=row["name"],
        generation=row["generation"],
        metageneration=row["metageneration"],
        updated_us=row["updated_us"],
        content=content_of(row),
        component_count=row["component_count"],
        properties=json.loads(row["properties"]),
    )


def content_of(row: sqlite3.Row) -> Content:
    """Return the content that a row of objects or parts names."""
    return Content(
        file_id=row["file_id"],
        size_bytes=row["size_bytes"],
        crc32c=row["crc32c"],
        md5=row["md5"],
    )


def writable(properties: Properties) -> Properties:
    """Return what of `properties` a client may set, without nulls. Raises: Refused."""
    return merged({}, {key: properties[key] for key in WRITABLE if key in properties})


def merged(properties: Properties, changes: Properties) -> Properties:
    """Return `properties` after a patch: null removes, maps are merged key by key.

    Raises: Refused, for a map that is none.
    """
    result = dict(properties)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif key in MAPS:
            if not isinstance(value, dict):
                raise Refused(Refusal.INVALID_ARGUMENT, f"Invalid value for {key}: {value!r}")
            kept = {**result.get(key, {}), **value}
            result[key] = {name: text for name, text in kept.items() if text is not None}
        else:
            result[key] = value
    return result
