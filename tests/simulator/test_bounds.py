"""What no schedule can beat."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.bounds import bounds, fewest, fewest_whole, nominal_boot_s, soonest_s
from simulator.farm import simulate
from simulator.ideal import ideal, ideals
from simulator.policies import Baton, OnePerTask
from simulator.published import compare
from simulator.scores import score
from simulator.traces import FRAMES, NOMAD, benchmark

_work = st.lists(st.floats(1, 500), min_size=1, max_size=40)


def test_work_ends_no_sooner_than_its_longest_task_or_than_all_instances_together_can_do_it() -> (
    None
):
    assert soonest_s([10.0, 70.0], first_s=50, limit=9, per_s=None) == 120.0
    assert soonest_s([10.0] * 100, first_s=0, limit=4, per_s=None) == 250.0


def test_instances_that_come_one_by_one_do_less_at_first() -> None:
    # two a second, up to ten: 25 s of work while they come, the other 75 s in 7.5 s
    assert soonest_s([1.0] * 100, first_s=0, limit=10, per_s=2.0) == pytest.approx(5 + 7.5)


@given(_work, st.floats(1, 2000))
def test_whole_tasks_never_take_fewer_instances_than_tasks_in_pieces(
    work: list[float], room_s: float
) -> None:
    pieces = fewest(work, room_s)
    whole = fewest_whole(work, room_s, per_s=None)
    assert 1 <= pieces <= whole <= len(work)
    assert fewest_whole(work, room_s, per_s=1.0) >= whole
    assert pieces * max(room_s, *work) >= sum(work) - 1e-6


@given(_work, st.floats(1, 2000), st.floats(1, 500))
def test_more_time_never_takes_more_instances(
    work: list[float], room_s: float, more_s: float
) -> None:
    assert fewest(work, room_s + more_s) <= fewest(work, room_s)


def test_the_benchmarks_bounds_are_the_ones_that_were_published_with_its_model() -> None:
    run = simulate(benchmark(1), OnePerTask, seed=1)
    least = bounds(run)
    assert nominal_boot_s(NOMAD) == 71
    assert least.busy_minutes == pytest.approx(FRAMES * 226 / 60, rel=0.01)
    assert least.tight_minutes >= least.instance_minutes >= least.busy_minutes


def test_the_published_gains_come_out_of_the_calibrated_clouds() -> None:
    found = compare(10)
    assert found.wait_gain == pytest.approx(0.63, abs=0.05)
    assert found.total_gain == pytest.approx(0.42, abs=0.05)
    assert found.nomad_p50_s < 120


def test_the_product_ends_sooner_than_one_instance_per_task_and_pays_a_third_less() -> None:
    for seed in range(2):
        ours = score(simulate(benchmark(seed), Baton, seed=seed))
        theirs = score(simulate(benchmark(seed), OnePerTask, seed=seed))
        assert ours.makespan_s < theirs.makespan_s
        assert ours.paid_minutes < 0.8 * theirs.paid_minutes


@pytest.mark.parametrize("spare_percent", [0, 10])
def test_baton_is_never_quicker_nor_cheaper_than_the_same_machines_when_nothing_is_lost(
    spare_percent: int,
) -> None:
    for seed in range(5):
        trace = benchmark(seed)
        sites = [
            (replace(settings, spare_percent=spare_percent), cloud)
            for settings, cloud in trace.sites
        ]
        ours = score(simulate(replace(trace, sites=sites), Baton, seed=seed))
        best = ideal(trace, seed, spare_percent)
        assert ours.by_makespan >= best.by_makespan >= 1
        assert ours.by_minutes * 1.001 >= best.by_minutes >= 1


def test_more_spares_end_the_job_sooner_and_take_more_minutes() -> None:
    runs = [ideals(benchmark, range(10), percent) for percent in (2, 6, 10, 20)]
    assert [each.by_makespan for each in runs] == sorted(
        (each.by_makespan for each in runs), reverse=True
    )
    assert [each.by_minutes for each in runs] == sorted(each.by_minutes for each in runs)
