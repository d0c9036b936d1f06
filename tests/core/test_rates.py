"""How often somebody may."""

from hypothesis import given
from hypothesis import strategies as st

from shared.core.rates import Bucket, Rate, filled, taken, wait_s

RATE = Rate(per_s=2, burst=5)


def passed(rate: Rate, moments: list[float]) -> int:
    """Return how many calls at these moments pass."""
    bucket, count = None, 0
    for now_s in sorted(moments):
        bucket = filled(bucket, rate, now_s)
        if not wait_s(bucket, rate):
            bucket, count = taken(bucket), count + 1
    return count


def test_a_burst_passes_and_the_next_call_waits_for_its_token() -> None:
    assert passed(RATE, [0.0] * 9) == 5
    assert passed(RATE, [0.0] * 9 + [0.5]) == 6
    empty = Bucket(tokens=0, at_s=0)
    assert wait_s(empty, RATE) == 0.5
    assert wait_s(filled(empty, RATE, 0.25), RATE) == 0.25


def test_a_clock_that_goes_back_fills_nothing() -> None:
    bucket = Bucket(tokens=1, at_s=10)
    assert filled(bucket, RATE, 5) == bucket


@given(
    st.lists(st.floats(0, 100), max_size=200),
    st.builds(Rate, per_s=st.floats(0.1, 50), burst=st.floats(1, 20)),
)
def test_never_more_pass_than_the_burst_and_what_flows_in(moments: list[float], rate: Rate) -> None:
    span_s = max(moments, default=0) - min(moments, default=0)
    assert passed(rate, moments) <= rate.burst + span_s * rate.per_s + 1e-6
