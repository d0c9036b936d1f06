"""The farm of the services' tests, the Auth emulator beside it, and dead-letter topics."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.pubsub_v1 import PublisherClient, SubscriberClient

from emulators.up.client import stack
from shared import wiring
from tests.services.farm import Farm, farm_fixture, new_farm_fixture
from tests.services.rig import PROJECT, Rig, rig_fixture
from tests.tools.commands import password_file, told
from tools.baton.dead_letters import TOPICS

__all__ = ["farm_fixture", "new_farm_fixture", "rig_fixture"]


@pytest.fixture(scope="session")
def auth_host() -> Iterator[str]:
    """Host and port of an Auth emulator."""
    with stack(only=["auth"]) as running:
        yield running.env["FIREBASE_AUTH_EMULATOR_HOST"]


@pytest.fixture
def auth(auth_host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """People can sign in."""
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", auth_host)
    wiring.identity.cache_clear()


class Studio:
    """An account with the project `otter` and an owner."""

    def __init__(self, farm: Farm, folder: Path) -> None:
        self.farm = farm
        self.account_id = farm.account_id
        self.folder = folder
        told("project", "create", self.account_id, "otter")
        self.owner = self.person("ines", "owner")

    def email(self, name: str) -> str:
        return f"{name}@{self.account_id}.example"

    def person(self, name: str, role: str = "user", *projects: str) -> str:
        """Create a user; returns the id."""
        only = [word for project in projects for word in ("--project", project)]
        secret = password_file(self.folder)
        words = ("--role", role, "--password-file", secret, *only)
        return str(told("user", "create", self.account_id, self.email(name), *words)["user_id"])


@pytest.fixture
def studio(farm: Farm, auth: None, tmp_path: Path) -> Studio:
    """One studio."""
    return Studio(farm, tmp_path)


@pytest.fixture
def dead_topics(rig: Rig) -> None:
    """Every dead-letter topic with its subscription, and nothing on it."""
    publisher, subscriber = PublisherClient(), SubscriberClient()
    for topic in TOPICS:
        name = f"projects/{PROJECT}/topics/{topic}-dead"
        subscription = name.replace("/topics/", "/subscriptions/")
        if name not in {each.name for each in publisher.list_topics(project=f"projects/{PROJECT}")}:
            publisher.create_topic(name=name)
        existing = subscriber.list_subscriptions(project=f"projects/{PROJECT}")
        if subscription in {each.name for each in existing}:
            subscriber.delete_subscription(subscription=subscription)
        subscriber.create_subscription(name=subscription, topic=name, ack_deadline_seconds=60)
