"""What a deployment creates once and an emulator forgets: topics with their subscriptions, and the bucket."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientSession, ClientTimeout

from deploy.functions import Function, Topic
from emulators.up.state import StackError

TIMEOUT = ClientTimeout(total=10.0)
FOREVER: dict[str, str] = {}  # an expiration policy without a time to live


async def create_topics(
    pubsub_url: str,
    project: str,
    *,
    functions: Iterable[Function],
    targets: Mapping[str, str],
    token: str,
) -> None:
    """Create every topic, its push subscription and where its dead letters are kept; quiet where they exist.

    `targets` maps a function to its base URL. Raises: StackError.
    """
    async with ClientSession(f"{pubsub_url}/v1/", timeout=TIMEOUT) as session:
        for function in functions:
            for topic in function.topics:
                dead = f"projects/{project}/topics/{topic.dead_letter_name}"
                name = f"projects/{project}/topics/{topic.name}"
                endpoint = f"{targets[function.name]}/{name}?{urlencode({'token': token})}"
                await _put(session, dead, {})
                await _put(session, name, {})
                await _put(session, _subscription(dead), _pull(dead))
                await _put(session, _subscription(name), _push(topic, name, dead, endpoint))


async def create_bucket(storage_url: str, project: str, bucket: str) -> None:
    """Create the bucket; quiet where it exists. Raises: StackError."""
    async with (
        ClientSession(f"{storage_url}/storage/v1/", timeout=TIMEOUT) as session,
        session.post("b", params={"project": project}, json={"name": bucket}) as answer,
    ):
        if answer.status not in (200, 409):
            raise StackError(f"bucket {bucket}: {answer.status} {await answer.text()}")


def _subscription(topic: str) -> str:
    return topic.replace("/topics/", "/subscriptions/")


def _pull(topic: str) -> dict[str, Any]:
    return {"topic": topic, "ackDeadlineSeconds": 60, "expirationPolicy": FOREVER}


def _push(topic: Topic, name: str, dead: str, endpoint: str) -> dict[str, Any]:
    return {
        "topic": name,
        "pushConfig": {"pushEndpoint": endpoint},
        "ackDeadlineSeconds": topic.ack_deadline_s,
        "retryPolicy": {
            "minimumBackoff": f"{topic.retry_min_s}s",
            "maximumBackoff": f"{topic.retry_max_s}s",
        },
        "deadLetterPolicy": {"deadLetterTopic": dead, "maxDeliveryAttempts": topic.max_attempts},
        "expirationPolicy": FOREVER,
    }


async def _put(session: ClientSession, name: str, body: dict[str, Any]) -> None:
    async with session.put(name, json=body) as answer:
        if answer.status not in (200, 409):
            raise StackError(f"{name}: {answer.status} {await answer.text()}")
