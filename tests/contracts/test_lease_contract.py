"""A lease: one holder at a time, and no call for another round is ever lost."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.cloud import firestore

from shared.stores.lease import Lease
from shared.stores.wire import Create, Documents, Put, Update
from shared.stores.writes import Written
from tests.builders import NOON, at

PATH = "leases/one"
LEASE_S = 60


@pytest.fixture
def lease(database: firestore.Client) -> Lease:
    return Lease(Documents(database), LEASE_S)


def take(lease: Lease, seconds: float = 0) -> str:
    """Take the lease, which must be free, so many seconds after noon; returns its id."""
    taken = lease.take(PATH, at(seconds))
    assert taken is not None
    return taken[0]


def test_one_holds_it_and_the_next_when_it_is_given_back(lease: Lease) -> None:
    mine = take(lease)
    assert lease.take(PATH, at(1)) is None
    assert lease.give_back(PATH, mine, at(2)) is False
    assert lease.give_back(PATH, mine, at(3)) is True
    assert take(lease, 4) != mine


def test_who_takes_it_sees_the_document_as_it_was(lease: Lease, database: firestore.Client) -> None:
    database.document(PATH).set({"jobs": {"00001": True}})
    taken = lease.take(PATH, NOON)
    assert taken is not None
    assert taken[1]["jobs"] == {"00001": True}
    assert (database.document(PATH).get().to_dict() or {})["jobs"] == {"00001": True}


def test_many_calls_while_it_is_taken_are_one_more_round(lease: Lease) -> None:
    mine = take(lease)
    for second in range(5):
        assert lease.take(PATH, at(second)) is None
    assert lease.give_back(PATH, mine, at(6)) is False
    assert lease.give_back(PATH, mine, at(7)) is True


def test_a_call_that_was_made_already_writes_nothing(
    lease: Lease, database: firestore.Client
) -> None:
    take(lease)
    lease.take(PATH, at(1))
    written = database.document(PATH).get().update_time
    for second in range(5):
        assert lease.take(PATH, at(second)) is None
    assert database.document(PATH).get().update_time == written


def test_the_round_that_follows_has_the_whole_time_again(lease: Lease) -> None:
    mine = take(lease)
    assert lease.take(PATH, at(50)) is None
    assert lease.give_back(PATH, mine, at(55)) is False
    assert lease.take(PATH, at(55 + LEASE_S - 1)) is None
    assert take(lease, 55 + LEASE_S + 1) != mine


def test_a_holder_that_was_killed_is_replaced_and_takes_nothing_from_the_next(
    lease: Lease,
) -> None:
    dead = take(lease)
    assert lease.take(PATH, at(LEASE_S - 1)) is None
    mine = take(lease, LEASE_S + 1)
    assert lease.give_back(PATH, dead, at(LEASE_S + 2)) is True
    assert lease.release(PATH, dead) is False
    assert lease.take(PATH, at(LEASE_S + 3)) is None
    assert lease.give_back(PATH, mine, at(LEASE_S + 4)) is False


def test_it_is_free_at_once_when_it_is_released_and_the_call_is_told(lease: Lease) -> None:
    assert lease.release(PATH, take(lease)) is False
    mine = take(lease, 1)
    assert lease.take(PATH, at(2)) is None
    assert lease.release(PATH, mine) is True
    mine = take(lease, 3)
    assert lease.give_back(PATH, mine, at(4)) is True


def test_leases_of_different_documents_are_different_leases(lease: Lease) -> None:
    take(lease)
    assert lease.take("leases/two", NOON) is not None


def test_of_many_who_ask_at_once_one_gets_it(lease: Lease) -> None:
    start = threading.Barrier(8)

    def ask(_: int) -> bool:
        start.wait()
        return lease.take(PATH, NOON) is not None

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))).count(True) == 1


def test_whoever_asks_is_followed_by_a_round_and_no_two_run_at_once(lease: Lease) -> None:
    asked = 0
    seen_by_last_round = 0
    running = 0
    counting = threading.Lock()

    def ask(_: int) -> None:
        nonlocal asked, seen_by_last_round, running
        with counting:
            asked += 1
        taken = lease.take(PATH, NOON)
        while taken is not None:
            with counting:
                running += 1
                assert running == 1
                seen_by_last_round = asked
                running -= 1
            if lease.give_back(PATH, taken[0], NOON):
                break

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(24)))
    assert seen_by_last_round == asked == 24


class HalfDeaf(Documents):
    """A database of which one answer is lost: what was carried out is sent once more."""

    loses_answer = False

    def commit(self, writes: Iterable[Create | Put | Update]) -> list[Written]:
        listed = list(writes)
        written = super().commit(listed)
        if self.loses_answer:
            self.loses_answer = False
            return super().commit(listed)
        return written


def test_a_call_for_another_round_survives_the_loss_of_an_answer(
    database: firestore.Client,
) -> None:
    documents = HalfDeaf(database)
    lease = Lease(documents, LEASE_S)
    mine = take(lease)
    for is_given_back in (False, True):
        assert lease.take(PATH, at(1)) is None
        documents.loses_answer = True
        if is_given_back:
            assert lease.release(PATH, mine) is True
        else:
            assert lease.give_back(PATH, mine, at(2)) is False
