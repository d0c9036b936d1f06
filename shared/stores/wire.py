"""Firestore documents at the level of the wire: reads of many, commits of many.

The client library builds each value as a wrapped message, which costs more than the server's own work: 10,000 small
documents take it 0.8 s of processor time, the plain messages here 0.06 s (docs/operations.md). The library still makes
the channel, its credentials and the messages' classes.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import grpc
import grpc.experimental
from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    GoogleAPIError,
    NotFound,
    RetryError,
    ServiceUnavailable,
    from_grpc_error,
)
from google.api_core.retry import Retry, if_exception_type
from google.cloud import firestore
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.collection import CollectionReference
from google.cloud.firestore_v1.document import DocumentReference
from google.cloud.firestore_v1.query import Query
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport
from google.cloud.firestore_v1.types import firestore as rpc

from shared.errors import Unreachable
from shared.stores.combine import Combiner
from shared.stores.writes import (
    DELETED,
    Create,
    FieldPath,
    Put,
    Update,
    Written,
    fold,
    part_of,
)
from shared.tally import tally

# What is written comes from here too: whoever writes documents needs nothing but this file.
__all__ = [
    "CALL_S",
    "DELETED",
    "Create",
    "Documents",
    "Found",
    "Put",
    "Update",
    "delete",
    "field_path",
    "reached",
    "stream",
]

_CommitRequest = rpc.CommitRequest.pb()
_CommitResponse = rpc.CommitResponse.pb()
_GetRequest = rpc.BatchGetDocumentsRequest.pb()
_GetResponse = rpc.BatchGetDocumentsResponse.pb()

Answer = TypeVar("Answer")

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CALL_S = 20.0
_TOGETHER = 24
_COMMITS_AT_ONCE = 2
_REMEMBERED_PATHS = 4096
_REFUSALS = (AlreadyExists, FailedPrecondition, NotFound)
# A commit that is sent again may have been carried out: every guarded write here is refused the second time, and its
# caller reads again.
_PASSING = (ServiceUnavailable, Aborted)
_RETRY = Retry(if_exception_type(*_PASSING), initial=0.02, maximum=1.0, timeout=10.0)

# What the client library's own calls take: by themselves they try for five minutes.
_IN_TIME: Mapping[str, Any] = {
    "timeout": CALL_S,
    "retry": Retry(if_exception_type(*_PASSING), initial=0.1, timeout=10.0),
}
# What is left when trying again has not helped.
_UNREACHABLE = (Aborted, DeadlineExceeded, RetryError, ServiceUnavailable)

_sharing = threading.Lock()
_shared: "WeakKeyDictionary[firestore.Client, Documents]" = WeakKeyDictionary()


class Found:
    """A document as it was read, decoded when its fields are asked for; `version` guards a later write."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self.version: Any = document.update_time

    @cached_property
    def fields(self) -> dict[str, Any]:
        return _decode_map(self._document.fields)


class Documents:
    """One database."""

    def __init__(self, client: firestore.Client) -> None:
        channel = _channel(client)
        self._database: str = client._database_string
        self._root = f"{self._database}/documents/"
        metadata = (*client._rpc_metadata, ("x-goog-request-params", f"database={self._database}"))
        self._how: Mapping[str, Any] = {"timeout": CALL_S, "metadata": metadata}
        service = "/google.firestore.v1.Firestore"
        self._commit: Callable[..., Any] = channel.unary_unary(
            f"{service}/Commit",
            request_serializer=_CommitRequest.SerializeToString,
            response_deserializer=_CommitResponse.FromString,
        )
        self._get: Callable[..., Iterable[Any]] = channel.unary_stream(
            f"{service}/BatchGetDocuments",
            request_serializer=_GetRequest.SerializeToString,
            response_deserializer=_GetResponse.FromString,
        )
        self._gets = Combiner(self._get_all, lambda _: (), _TOGETHER)
        self._commits = Combiner(self._commit_all, _guarded, _TOGETHER)

    @classmethod
    def shared(cls, client: firestore.Client) -> "Documents":
        """Return the one of this client, so that what several stores read and commit goes together."""
        with _sharing:
            if client not in _shared:
                _shared[client] = cls(client)
            return _shared[client]

    def get_together(self, paths: Sequence[str]) -> list[Found | None]:
        """Like `get`, in one call with what other threads read meanwhile."""
        tally.read_count += len(paths)
        return self._gets.call(paths)

    def commit_together(self, writes: Sequence[Create | Put | Update]) -> list[Written]:
        """Like `commit`, in one call with what other threads commit meanwhile; each stands or falls alone.

        Two that guard the same document never go together: a guard looks at what was there before the call. Blind
        updates of one document become one write; each is told the values that all of them led to.
        """
        tally.write_count += len(writes)
        return self._commits.call(writes)

    def _get_all(self, several: Sequence[Sequence[str]]) -> list[list[Found | None]]:
        paths = list(dict.fromkeys(path for each in several for path in each))
        found = dict(zip(paths, self._get_uncounted(paths), strict=True))
        return [[found[path] for path in each] for each in several]

    def _commit_all(
        self, several: Sequence[Sequence[Create | Put | Update]]
    ) -> list[list[Written] | BaseException]:
        if len(several) > 1:
            try:
                results = iter(self._commit_folded([each for one in several for each in one]))
                return [[next(results) for _ in one] for one in several]
            except _REFUSALS:
                pass  # one of them was refused, and all with it: now each by itself
        return [self._outcome(one) for one in several]

    def _commit_folded(self, writes: Sequence[Create | Put | Update]) -> list[Written]:
        folded, places = fold(writes)
        results = self._commit_uncounted(folded)
        return [
            part_of(results[place], folded[place], each)
            for each, place in zip(writes, places, strict=True)
        ]

    def _outcome(self, one: Sequence[Create | Put | Update]) -> list[Written] | BaseException:
        try:
            return self._commit_uncounted(one)
        except (GoogleAPIError, Unreachable) as error:
            return error

    def get(self, paths: Sequence[str], mask: Sequence[str] = ()) -> list[Found | None]:
        """Return the documents in the order asked, None for those that do not exist."""
        tally.read_count += len(dict.fromkeys(paths))
        return self._get_uncounted(paths, mask)

    def _get_uncounted(self, paths: Sequence[str], mask: Sequence[str] = ()) -> list[Found | None]:
        if not paths:
            return []
        request = _GetRequest(database=self._database)
        request.documents.extend([self._root + path for path in dict.fromkeys(paths)])
        if mask:
            request.mask.field_paths.extend(mask)
        found = {
            answer.found.name[len(self._root) :]: Found(answer.found)
            for answer in _answered(lambda: list(self._get(request, **self._how)))
            if answer.HasField("found")
        }
        return [found.get(path) for path in paths]

    def commit(self, writes: Iterable[Create | Put | Update]) -> list[Written]:
        """Carry out all writes or none.

        Raises: AlreadyExists, FailedPrecondition, NotFound of google.api_core.exceptions when a guard refuses;
        Unreachable.
        """
        listed = list(writes)
        tally.write_count += len(listed)
        return self._commit_uncounted(listed)

    def commit_each(
        self, several: Sequence[Sequence[Create | Put | Update]]
    ) -> list[list[Written] | BaseException]:
        """Carry out each of several commits by itself; returns what `commit` would, or what it would raise.

        A few at once: while the database works on one, the next is being put together.
        """
        tally.write_count += sum(map(len, several))
        with ThreadPoolExecutor(_COMMITS_AT_ONCE) as pool:
            return list(pool.map(self._outcome, several))

    def _commit_uncounted(self, writes: Iterable[Create | Put | Update]) -> list[Written]:
        request = _CommitRequest(database=self._database)
        for each in writes:
            self._fill_write(request.writes.add(), each)
        answer = _answered(lambda: self._commit(request, **self._how))
        return [
            Written(
                [int(value.integer_value) for value in result.transform_results], result.update_time
            )
            for result in answer.write_results
        ]

    def _fill_write(self, target: Any, each: Create | Put | Update) -> None:
        target.update.name = self._root + each.path
        if isinstance(each, Update):
            self._fill_update(target, each)
            return
        _fill_map(target.update.fields, each.fields)
        if isinstance(each, Create):
            target.current_document.exists = False

    def _fill_update(self, target: Any, each: Update) -> None:
        target.update_mask.SetInParent()
        for path, value in each.fields.items():
            target.update_mask.field_paths.append(field_path(path))
            if value is not DELETED:
                _fill_value(_nested(target.update.fields, path), value)
        for path, number in each.add.items():
            transform = target.update_transforms.add(field_path=field_path(path))
            transform.increment.integer_value = number
        if each.version is not None:
            target.current_document.update_time.CopyFrom(each.version)
        elif not each.upsert:
            target.current_document.exists = True


def stream(query: Query | CollectionReference) -> list[DocumentSnapshot[Any]]:
    """Return what a query finds. Raises: Unreachable."""
    with reached():
        return list(query.stream(**_IN_TIME))


def delete(document: DocumentReference) -> None:
    """Delete a document, whether it is there or not. Raises: Unreachable."""
    with reached():
        document.delete(**_IN_TIME)


@contextmanager
def reached() -> Iterator[None]:
    """Turn the library's word for a database that cannot be reached into ours. Raises: Unreachable."""
    try:
        yield
    except _UNREACHABLE as error:
        raise Unreachable("the database does not answer in time") from error


def _answered(call: Callable[[], Answer]) -> Answer:
    """Return what the database answers; while it cannot, ask again for a while.

    The first try goes without the client library's wrappers: they take a quarter of what a small call does.
    Raises: Unreachable, or the GoogleAPIError that the refusal is.
    """

    def translated() -> Answer:
        try:
            return call()
        except grpc.RpcError as error:
            raise from_grpc_error(error) from error

    with reached():
        try:
            return translated()
        except _PASSING:
            return _RETRY(translated)()


def _guarded(writes: Sequence[Create | Put | Update]) -> list[str]:
    return [
        each.path for each in writes if not isinstance(each, Update) or each.version is not None
    ]


def _channel(client: firestore.Client) -> grpc.Channel:
    """Return a channel like the client's own, but one that reads a stream of answers in the calling thread.

    Otherwise a small read takes longer than a write: each stream is handed to another thread and back.
    """
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.keepalive_time_ms", 30_000),
        (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
    ]
    if client._emulator_host is not None:
        return grpc.insecure_channel(client._emulator_host, options=options)
    return FirestoreGrpcTransport.create_channel(
        FirestoreGrpcTransport.DEFAULT_HOST, credentials=client._credentials, options=options
    )


@lru_cache(_REMEMBERED_PATHS)
def field_path(path: FieldPath) -> str:
    """Return the path as the wire writes it, names quoted where they must be."""
    return ".".join(name if _PLAIN_NAME.fullmatch(name) else f"`{name}`" for name in path)


def _nested(fields: Any, path: FieldPath) -> Any:
    for name in path[:-1]:
        fields = fields[name].map_value.fields
    return fields[path[-1]]


def _fill_map(target: Any, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        _fill_value(target[name], value)


def _fill_value(target: Any, value: Any) -> None:
    if value is None:
        target.null_value = 0
    elif isinstance(value, bool):
        target.boolean_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, int):
        target.integer_value = value
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, datetime):
        target.timestamp_value.FromDatetime(value)
    elif isinstance(value, Mapping):
        target.map_value.SetInParent()
        _fill_map(target.map_value.fields, value)
    elif isinstance(value, (list, tuple)):
        target.array_value.SetInParent()
        for item in value:
            _fill_value(target.array_value.values.add(), item)
    else:
        raise TypeError(f"no Firestore value: {type(value).__name__}")


def _decode_map(fields: Any) -> dict[str, Any]:
    return {name: _decode(value) for name, value in fields.items()}


def _decode(value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    if kind == "map_value":
        return _decode_map(value.map_value.fields)
    if kind == "array_value":
        return [_decode(item) for item in value.array_value.values]
    if kind == "timestamp_value":
        return value.timestamp_value.ToDatetime(tzinfo=UTC)
    if kind == "null_value":
        return None
    return getattr(value, kind)
