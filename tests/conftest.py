"""Real parts for the tests: the Firestore emulator, and a database of its own for each test."""

import uuid
from collections.abc import Iterator

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from emulators.up.client import stack


@pytest.fixture(scope="session")
def firestore_host() -> Iterator[str]:
    """Host and port of a Firestore emulator that lives as long as the test run."""
    with stack(only=["firestore"]) as running:
        yield running.env["FIRESTORE_EMULATOR_HOST"]


@pytest.fixture
def database(firestore_host: str, monkeypatch: pytest.MonkeyPatch) -> firestore.Client:
    """A database that nobody has written to."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    project = f"test-{uuid.uuid4().hex[:12]}"
    return firestore.Client(project=project, credentials=AnonymousCredentials())
