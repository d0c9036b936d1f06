"""The Bus of shared/ports.py on Pub/Sub. Messages hold ids only."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry, if_exception_type
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.types import PubsubMessage

from shared.errors import CloudError, RateLimited, Unreachable

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
        except google_errors.RetryError as exc:
            raise Unreachable(f"pubsub: {path}: {exc}") from exc
        except google_errors.GoogleAPICallError as exc:
            error = next((ERRORS[kind] for kind in type(exc).__mro__ if kind in ERRORS), CloudError)
            raise error(f"pubsub: {path}: {exc}") from exc
