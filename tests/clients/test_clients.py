"""Every version of the unmodified client, in everything that artists do with it, on one running farm."""

import json

import pytest

# The flows and traps: to import them is to have them listed.
from tests.clients import (  # noqa: F401
    connecting,
    controlling,
    downloading,
    traps_of_reading,
    traps_of_uploading,
    uploading,
)
from tests.clients.matrix import FLOWS, TRAPS
from tests.clients.rows import Row, Running
from tests.clients.studios import Site


@pytest.mark.parametrize("row", FLOWS.rows(), ids=str)
def test_a_client_does(running: Running, row: Row) -> None:
    running.wait_for(row)


@pytest.mark.parametrize("row", TRAPS.rows(), ids=str)
def test_a_client_is_kept_from(running: Running, row: Row) -> None:
    running.wait_for(row)


def test_no_client_was_redirected_and_no_function_crashed(running: Running, site: Site) -> None:
    running.wait_for_all()
    lines = [json.loads(line) for line in site.log("submit").splitlines() if line.startswith("{")]
    assert not [line["trace"] for line in lines if line["event"] == "crash"]
    statuses = {line["status"] for line in lines if line["event"] == "answered"}
    assert 200 in statuses
    assert not [status for status in statuses if 300 <= status < 400 or status == 500]
