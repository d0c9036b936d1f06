"""What the services expect of a Bus, tried on every driver. A new driver is a new line in DRIVERS."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import PublisherClient, SubscriberClient

from emulators.up.client import stack
from shared.buses import pubsub
from shared.buses.pubsub import PubSubBus
from shared.errors import CloudError, Unreachable
from shared.ports import Bus
from tests.contracts.stand_ins import free_port
from tests.waiting import until

TOPIC = "admit"


class Rig(Protocol):
    """A bus with one topic, and somebody who listens."""

    bus: Bus

    def unreachable(self) -> Bus: ...
    def received(self) -> list[dict[str, Any]]:
        """Return what has arrived so far."""
        ...


class PubSubRig:
    def __init__(self) -> None:
        project = f"test-{uuid.uuid4().hex[:12]}"
        self._subscriber = SubscriberClient()
        self._subscription = f"projects/{project}/subscriptions/test"
        topic = f"projects/{project}/topics/{TOPIC}"
        PublisherClient().create_topic(name=topic)
        self._subscriber.create_subscription(name=self._subscription, topic=topic)
        self._received: list[dict[str, Any]] = []
        self.bus: Bus = PubSubBus.connect(project=project)

    def unreachable(self) -> Bus:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
            return PubSubBus(PublisherClient(), "p", timeout_s=1)

    def received(self) -> list[dict[str, Any]]:
        try:
            pulled = self._subscriber.pull(
                subscription=self._subscription, max_messages=1000, retry=None, timeout=1
            ).received_messages
        except DeadlineExceeded:  # nothing there
            return self._received
        self._received += [json.loads(each.message.data) for each in pulled]
        if pulled:
            ids = [each.ack_id for each in pulled]
            self._subscriber.acknowledge(subscription=self._subscription, ack_ids=ids)
        return self._received


@contextmanager
def pubsub_rig() -> Iterator[Callable[[], Rig]]:
    with stack(only=["pubsub"]) as running, pytest.MonkeyPatch.context() as environment:
        environment.setenv("PUBSUB_EMULATOR_HOST", running.env["PUBSUB_EMULATOR_HOST"])
        yield PubSubRig


Driver = Callable[[], AbstractContextManager[Callable[[], Rig]]]
DRIVERS = [pytest.param(pubsub_rig, id="pubsub")]


@pytest.fixture(scope="module", params=DRIVERS)
def new_rig(request: pytest.FixtureRequest) -> Iterator[Callable[[], Rig]]:
    driver: Driver = request.param
    with driver() as make:
        yield make


@pytest.fixture
def rig(new_rig: Callable[[], Rig]) -> Rig:
    return new_rig()


def number_of(message: dict[str, Any]) -> int:
    return int(message["n"])


def test_messages_arrive_with_what_they_hold(rig: Rig) -> None:
    sent = [{"account_id": "acmé", "job_id": "00001", "pages": [1, 2], "attempts": {"0": 1}}]
    rig.bus.publish(TOPIC, sent)
    assert until(rig.received) == sent


def test_publishing_nothing_does_nothing(rig: Rig) -> None:
    rig.bus.publish(TOPIC, [])
    rig.bus.publish(TOPIC, [{"n": 1}])
    assert until(rig.received) == [{"n": 1}]


def test_more_messages_than_fit_one_call_all_arrive(rig: Rig) -> None:
    count = 2 * pubsub.PER_CALL + 7
    rig.bus.publish(TOPIC, [{"n": index} for index in range(count)])
    found = until(rig.received, holds=lambda all_: len(all_) >= count)
    assert sorted(map(number_of, found)) == list(range(count))


def test_a_topic_that_does_not_exist_is_an_error(rig: Rig) -> None:
    with pytest.raises(CloudError, match="nowhere"):
        rig.bus.publish("nowhere", [{"n": 1}])


def test_a_bus_that_does_not_answer_is_unreachable(rig: Rig) -> None:
    with pytest.raises(Unreachable):
        rig.unreachable().publish(TOPIC, [{"n": 1}])
