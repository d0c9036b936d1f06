"""The database as it is when it cannot be reached."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.cloud import firestore

from emulators.ports import find_free_block
from shared.errors import Unreachable
from shared.stores.wire import Create, Documents, Put, Update, delete, stream
from shared.stores.writes import fold


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


def test_blind_updates_of_a_document_become_one_where_their_order_does_not_matter() -> None:
    create = Create(path="a/b", fields={"n": 0})
    one = Update(path="a/c", fields={("x", "1"): 1}, add={("n",): 1, ("m",): 2})
    other = Update(path="a/c", fields={("x", "2"): 2}, add={("n",): -3})
    guarded = Update(path="a/d", fields={("x",): 1}, version="then")
    folded, places = fold([create, one, guarded, other])
    both = Update(path="a/c", fields={("x", "1"): 1, ("x", "2"): 2}, add={("n",): -2, ("m",): 2})
    assert (folded, places) == ([create, both, guarded], [0, 1, 2, 1])


@pytest.mark.parametrize(
    "second",
    [
        Update(path="a/c", fields={("x",): 2}),
        Update(path="a/c", fields={("n",): 2}),
        Update(path="a/c", add={("x",): 2}),
        Update(path="a/c", fields={("y",): 2}, version="then"),
        Update(path="a/c", fields={("y",): 2}, upsert=True),
        Put(path="a/c", fields={}),
    ],
)
def test_writes_whose_order_matters_stay_apart(second: Update | Put) -> None:
    writes = [Update(path="a/c", fields={("x",): 1}, add={("n",): 1}), second]
    assert fold(writes) == (writes, [0, 1])


def test_each_of_many_who_add_to_a_document_at_once_counts_once(
    database: firestore.Client,
) -> None:
    documents = Documents(database)
    documents.commit([Create(path="a/b", fields={"n": 0})])

    def add(number: int) -> int:
        mine = Update(path="a/b", fields={("who", str(number)): number}, add={("n",): 1})
        own = Create(path=f"a/{number}", fields={})
        return documents.commit_together([own, mine])[1].added[0]

    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(add, range(48)))
    found = documents.get(["a/b"])[0]
    assert found is not None
    assert found.fields == {"n": 48, "who": {str(number): number for number in range(48)}}
    assert (min(told) >= 1, max(told)) == (True, 48)
