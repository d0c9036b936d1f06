"""Faults on order of the storage stand-in."""

from collections.abc import Callable, Iterator

import pytest
import requests

from tests.emulators.test_storage_server import DEADLINE_S, StandIn, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with running(tmp_path_factory.mktemp("storage") / "data") as stand_in:
        yield stand_in


@pytest.fixture
def faults(server: StandIn) -> Iterator[Callable[..., requests.Response]]:
    def order(*rules: dict[str, object]) -> requests.Response:
        return requests.post(f"{server.url}/faults", json=rules, timeout=DEADLINE_S)

    yield order
    assert order().ok


def test_an_ordered_status_is_given_so_many_times(
    server: StandIn, faults: Callable[..., requests.Response]
) -> None:
    faults({"method": "PUT", "path_prefix": "/files/shaky", "times": 2, "status": 503})
    statuses = [server.put("shaky", b"pixels").status_code for _ in range(3)]
    assert statuses == [503, 503, 200]


def test_a_fault_spares_what_it_does_not_match(
    server: StandIn, faults: Callable[..., requests.Response]
) -> None:
    faults({"method": "PUT", "path_prefix": "/files/shaky", "status": 503})
    assert server.put("steady", b"pixels").status_code == 200
    assert server.read("steady") == b"pixels"


def test_the_real_client_retries_through_ordered_errors(
    server: StandIn, faults: Callable[..., requests.Response]
) -> None:
    faults({"method": "GET", "path_prefix": "/storage/", "times": 1, "status": 503})
    assert server.bucket.exists()


def test_a_connection_dropped_before_changes_nothing(
    server: StandIn, faults: Callable[..., requests.Response]
) -> None:
    faults({"method": "PUT", "drop": "before"})
    with pytest.raises(requests.ConnectionError):
        server.put("lost", b"pixels")
    assert not server.holds("lost")


def test_a_connection_dropped_after_loses_only_the_reply(
    server: StandIn, faults: Callable[..., requests.Response]
) -> None:
    faults({"method": "PUT", "drop": "after"})
    with pytest.raises(requests.ConnectionError):
        server.put("kept", b"pixels")
    assert server.read("kept") == b"pixels"


def test_an_ordered_delay_holds_the_reply_back(
    server: StandIn, faults: Callable[..., requests.Response]
) -> None:
    faults({"path_prefix": "/files/slow", "delay_s": 0.5})
    with pytest.raises(requests.ReadTimeout):
        requests.get(server.signed("GET", "slow"), timeout=0.1)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"status": 200}, "status"),
        ({"drop": "now"}, "drop"),
        ({"delay_s": -1}, "delay_s"),
        ({"status": 500, "times": 0}, "times"),
        ({"status": 500, "path": "/x"}, "path"),
        ({}, "exactly one of"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_by_name(
    faults: Callable[..., requests.Response], rule: dict[str, object], field: str
) -> None:
    reply = faults(rule)
    assert reply.status_code == 400
    assert field in reply.json()["error"]
