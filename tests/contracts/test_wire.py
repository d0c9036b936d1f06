"""The database as it is when it cannot be reached."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.cloud import firestore

from emulators.ports import find_free_block
from shared.errors import Unreachable
from shared.stores.wire import Create, Documents, delete, stream


def test_a_database_that_cannot_be_reached_is_a_passing_trouble_for_every_kind_of_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{find_free_block()}")
    client = firestore.Client(project="nobody-answers")
    documents = Documents(client)
    write = [Create(path="a/b", fields={"c": 1})]
    calls: list[Callable[[], object]] = [
        lambda: documents.get(["a/b"]),
        lambda: documents.get_together(["a/b"]),
        lambda: documents.commit(write),
        lambda: documents.commit_together(write),
        lambda: stream(client.collection("a")),
        lambda: delete(client.document("a/b")),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        found = [pool.submit(call) for call in calls]
        assert [type(each.exception()) for each in found] == [Unreachable] * len(calls)
