"""The Bus and the DeadLetters of shared/ports.py on Pub/Sub. Messages hold ids only."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry, if_exception_type
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.types import PubsubMessage

from shared.errors import CloudError, NotFound, RateLimited, Unreachable
from shared.ports import DeadLetter

# The provider's errors -> ours; everything else is a CloudError.
ERRORS: Mapping[type[google_errors.GoogleAPICallError], type[CloudError]] = {
    google_errors.DeadlineExceeded: Unreachable,
    google_errors.ResourceExhausted: RateLimited,
    google_errors.ServiceUnavailable: Unreachable,
}

TIMEOUT_S = 10.0
# What a second try may cure; a message that arrives twice changes nothing.
PASSING = (
    google_errors.Aborted,
    google_errors.InternalServerError,
    google_errors.ServiceUnavailable,
    google_errors.Unknown,
)
# Pub/Sub takes 1,000 messages and 10 MB a call; ours are small.
# Source: https://cloud.google.com/pubsub/quotas, read 2026-11.
PER_CALL = 500
# Pub/Sub may have more than its first answers hold; after so long a silence there is nothing more.
SILENCE_S = 2.0


class PubSubBus:
    """The topics of one project."""

    def __init__(
        self, client: PublisherClient, project: str, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._client = client
        self._project = project
        self._timeout_s = timeout_s
        self._retry = Retry(predicate=if_exception_type(*PASSING), initial=0.1, timeout=timeout_s)

    @classmethod
    def connect(cls, *, project: str) -> "PubSubBus":
        """Return the bus of a project."""
        return cls(PublisherClient(), project)

    def publish(self, topic: str, messages: Sequence[Mapping[str, Any]]) -> None:
        path = f"projects/{self._project}/topics/{topic}"
        for start in range(0, len(messages), PER_CALL):
            some = [
                PubsubMessage(data=json.dumps(message, separators=(",", ":")).encode())
                for message in messages[start : start + PER_CALL]
            ]
            self._publish(path, some)

    def _publish(self, path: str, messages: Sequence[PubsubMessage]) -> None:
        """Send in one call and wait for the answer: what the client batches by itself, it sends later."""
        try:
            self._client.publish(
                topic=path,
                messages=list(messages),
                retry=self._retry,
                timeout=self._timeout_s,
            )
        except (google_errors.RetryError, google_errors.GoogleAPICallError) as exc:
            raise _translated(path, exc) from exc


class PubSubDeadLetters:
    """The dead-letter subscriptions of one project: TOPIC-dead for each TOPIC."""

    def __init__(
        self, client: SubscriberClient, project: str, *, silence_s: float = SILENCE_S
    ) -> None:
        self._client = client
        self._project = project
        self._silence_s = silence_s

    @classmethod
    def connect(cls, *, project: str) -> "PubSubDeadLetters":
        """Return the dead letters of a project."""
        return cls(SubscriberClient(), project)

    def take(self, topic: str) -> list[DeadLetter]:
        path = self._path(topic)
        found: list[DeadLetter] = []
        while some := self._pull(path):
            found += [
                DeadLetter(
                    topic=topic,
                    message_id=each.message.message_id,
                    data=bytes(each.message.data),
                    published_at=datetime.fromtimestamp(each.message.publish_time.timestamp(), UTC),
                    receipt=each.ack_id,
                )
                for each in some
            ]
        return found

    def put_back(self, letters: Sequence[DeadLetter]) -> None:
        for path, receipts in self._receipts(letters):
            self._call(
                path,
                self._client.modify_ack_deadline,
                ack_ids=receipts,
                ack_deadline_seconds=0,
                timeout=TIMEOUT_S,
            )

    def remove(self, letters: Sequence[DeadLetter]) -> None:
        for path, receipts in self._receipts(letters):
            self._call(path, self._client.acknowledge, ack_ids=receipts, timeout=TIMEOUT_S)

    def _path(self, topic: str) -> str:
        return f"projects/{self._project}/subscriptions/{topic}-dead"

    def _receipts(self, letters: Sequence[DeadLetter]) -> Iterator[tuple[str, list[str]]]:
        for topic in sorted({each.topic for each in letters}):
            receipts = [each.receipt for each in letters if each.topic == topic]
            for start in range(0, len(receipts), PER_CALL):
                yield self._path(topic), receipts[start : start + PER_CALL]

    def _pull(self, path: str) -> Sequence[Any]:
        """Return some messages; none when nothing came for a while."""
        try:
            answer = self._client.pull(
                subscription=path, max_messages=PER_CALL, retry=None, timeout=self._silence_s
            )
        except google_errors.DeadlineExceeded:
            return ()
        except google_errors.GoogleAPICallError as exc:
            raise _translated(path, exc) from exc
        received: Sequence[Any] = answer.received_messages
        return received

    def _call(self, path: str, call: Callable[..., None], **named: Any) -> None:
        try:
            call(subscription=path, **named)
        except (google_errors.RetryError, google_errors.GoogleAPICallError) as exc:
            raise _translated(path, exc) from exc


def _translated(path: str, exc: google_errors.GoogleAPIError) -> CloudError | NotFound:
    if isinstance(exc, google_errors.RetryError):
        return Unreachable(f"pubsub: {path}: {exc}")
    if isinstance(exc, google_errors.NotFound) and "/subscriptions/" in path:
        return NotFound(f"pubsub: there is no {path}")
    error = next((ERRORS[kind] for kind in type(exc).__mro__ if kind in ERRORS), CloudError)
    return error(f"pubsub: {path}: {exc}")
