"""Listings of a bucket: names in order of their UTF-8 bytes, folded at a delimiter, in pages."""

from dataclasses import dataclass, field

from emulators.storage.errors import Refusal, Refused
from emulators.storage.index import Index
from emulators.storage.objects import StoredObject, object_of

MAX_RESULTS = 1000
_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListingQuery:
    """Which names are wanted: from `start`, before `end` where one is given."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str | None = None
    limit: int = MAX_RESULTS
    include_trailing_delimiter: bool = False


@dataclass(slots=True)
class Listing:
    """One page. Shapes: both lists ascend; `next_start` is None on the last page."""

    objects: list[StoredObject] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next_start: str | None = None

    def __len__(self) -> int:
        return len(self.objects) + len(self.prefixes)


def list_objects(index: Index, query: ListingQuery) -> Listing:
    """Return one page of a bucket. Raises: Refused, when there is no such bucket."""
    listing = Listing()
    ends = [end for end in (after_prefix(query.prefix), query.end) if end is not None]
    start: str | None = max(query.start, query.prefix)
    with index.reading() as tx:
        if tx.one("SELECT 1 FROM buckets WHERE name = ?", query.bucket) is None:
            raise Refused(Refusal.NO_SUCH_BUCKET)
        while start is not None:
            rows = tx.execute(
                "SELECT * FROM objects WHERE bucket = ? AND name >= ?"
                + " AND name < ?" * len(ends)
                + " ORDER BY name",
                query.bucket,
                start,
                *ends,
            )
            start = None
            for row in rows:
                name: str = row["name"]
                if len(listing) == query.limit:
                    listing.next_start = name
                    break
                folder = _folder(name, query)
                if folder is None or (query.include_trailing_delimiter and folder == name):
                    listing.objects.append(object_of(row))
                if folder is not None:
                    listing.prefixes.append(folder)
                    start = after_prefix(folder)  # never walk through what is folded
                    break
    return listing


def _folder(name: str, query: ListingQuery) -> str | None:
    """Return the prefix under which `name` is folded, if it is."""
    if not query.delimiter:
        return None
    cut = name.find(query.delimiter, len(query.prefix))
    return None if cut < 0 else name[: cut + len(query.delimiter)]


def after_prefix(prefix: str) -> str | None:
    """Return the first string after all that begin with `prefix`; None when there is none."""
    stem = prefix.rstrip(_LAST_CHARACTER)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    if following == 0xD800:  # surrogates are no characters
        following = 0xE000
    return stem[:-1] + chr(following)
