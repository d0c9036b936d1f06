"""The simulated farm: the same for a seed each time, nothing lost, nothing free of charge."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from shared.models.account import Account
from shared.models.farm import PoolKey, Shape
from simulator.bounds import bounds
from simulator.clouds import Boot, Cloud, Stock
from simulator.farm import Pace, simulate, weather
from simulator.outcome import Outcome
from simulator.parts import Submission, Trace
from simulator.policies import (
    Baton,
    ClusterAutoscaler,
    FixedFarm,
    OnePerTask,
    Policy,
    TargetValue,
)
from simulator.traces import PRICES, SMALL, a_site, benchmark

SURE = Cloud(boot=Boot(shift_s=40, median_s=1e-9, sigma=0.0), agent_s=0.0, placement_s=0.0)
POLICIES = [Baton, OnePerTask, TargetValue, ClusterAutoscaler, partial(FixedFarm, 3)]


def a_trace(
    durations_s: tuple[float, ...], cloud: Cloud = SURE, shape: Shape = SMALL, limit: int = 100
) -> Trace:
    job = Submission(
        job_id="j", account_id="studio", at_s=0.0, shape=shape, durations_s=durations_s
    )
    return Trace(
        name="one job",
        submissions=[job],
        sites=[a_site("r", cloud, spare_percent=0)],
        accounts=[Account(account_id="studio", name="Studio", max_instances=limit)],
    )


def figures(run: Outcome) -> tuple[object, ...]:
    return (
        run.ended_at_s,
        run.instance_s,
        run.paid_minutes,
        run.cost_micros,
        run.waits_s,
        run.peak,
    )


def test_a_seed_gives_the_same_run_each_time_and_another_seed_another() -> None:
    trace = benchmark(1)
    one, again, other = (simulate(trace, Baton, seed=seed) for seed in (1, 1, 2))
    assert figures(one) == figures(again)
    assert figures(one) != figures(other)


def test_all_policies_meet_the_same_weather() -> None:
    assert weather(benchmark(1), 5) == weather(benchmark(2), 5)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_task_runs_to_its_end_once_and_no_bound_is_beaten(
    policy: Callable[[], Policy],
) -> None:
    cloud = replace(SURE, boot=Boot(shift_s=30, median_s=20, sigma=0.5, weather_sigma=0.2))
    run = simulate(a_trace((5.0, 60.0, 300.0) * 20, cloud), policy, seed=1)
    (job,) = run.jobs
    assert job.is_ended
    assert run.busy_s == pytest.approx(20 * 365.0)
    least = bounds(run)
    if not isinstance(policy(), FixedFarm):  # its machines are there before
        assert run.ended_at_s >= least.makespan_s
    assert run.instance_s / 60 >= least.busy_minutes
    assert run.paid_minutes >= run.instance_s / 60


def test_a_started_minute_is_a_paid_minute() -> None:
    run = simulate(a_trace((25.0,)), Baton, seed=1)
    # 40 s of boot, 25 s of work and what it takes to leave: the second minute has begun.
    assert run.paid_minutes == 2
    assert run.cost_micros == 2 * PRICES[SMALL]


def test_machines_come_no_faster_than_the_provider_creates_them() -> None:
    slow = replace(SURE, create_per_s=0.5)
    run = simulate(a_trace((600.0,) * 10, slow), Baton, seed=1)
    assert max(run.waits_s) - min(run.waits_s) == pytest.approx(18.0)


def test_what_is_preempted_runs_again_and_its_loss_is_counted() -> None:
    rough = replace(SURE, preempted_per_hour=6.0)
    run = simulate(a_trace((300.0,) * 40, rough), Baton, seed=1)
    (job,) = run.jobs
    assert job.is_ended
    assert run.lost_s > 0
    assert len(run.waits_s) == job.admitted_count > 40
    calm = simulate(a_trace((300.0,) * 40, rough, Shape(SMALL[0], False)), Baton, seed=1)
    assert calm.lost_s == 0


def test_a_zone_without_stock_costs_a_round_and_the_others_take_over() -> None:
    dry = {PoolKey("r-a", *SMALL): [Stock(from_s=0.0, count=2)]}
    run = simulate(a_trace((600.0,) * 30, replace(SURE, stocks=dry)), Baton, seed=1)
    assert run.refused_count > 0
    assert run.ended_at_s < 60 + 600


def test_machines_that_never_join_are_replaced() -> None:
    dead = replace(SURE, boot=replace(SURE.boot, dead_share=0.3))
    run = simulate(a_trace((2000.0,) * 20, dead), Baton, seed=1)
    assert run.jobs[0].is_ended
    assert run.machine_count > 20


def test_no_limit_of_the_account_is_exceeded_and_short_tasks_share_machines() -> None:
    run = simulate(a_trace((4.0,) * 2000, limit=30), Baton, seed=1, pace=Pace(sample_s=1.0))
    assert max(each.busy for each in run.samples) <= 30
    assert run.machine_count < 100


def test_a_farm_goes_back_to_zero() -> None:
    run = simulate(a_trace((30.0,) * 20), Baton, seed=1)
    assert run.samples[-1].machines == 0
    assert run.samples[-1].at_s < run.ended_at_s + 60
