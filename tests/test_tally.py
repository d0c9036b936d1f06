"""What a request reads and writes is counted once, also where it works in two threads."""

import pytest

from shared.tally import aside, tally


def test_what_is_done_aside_is_counted_with_the_rest() -> None:
    def work() -> None:
        tally.read_count += 2
        tally.write_count += 3

    tally.start()
    with aside(work):
        tally.read_count += 10
        tally.write_count += 20
    assert (tally.read_count, tally.write_count) == (12, 23)


def test_what_fails_aside_fails_the_request() -> None:
    def work() -> None:
        raise ConnectionError("gone")

    done = []
    with pytest.raises(ConnectionError, match="gone"), aside(work):
        done.append("the block")
    assert done == ["the block"]
