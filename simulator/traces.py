"""What is submitted: the published benchmark's job, three mixed traces, and a great day; each from a seed."""

import random
from dataclasses import replace
from math import exp, log
from typing import Any

from shared.models.account import Account
from shared.models.farm import Orchestrator, PoolKey, Shape
from simulator.clouds import Boot, Cloud, Stock
from simulator.parts import Submission, Trace

# Calibrated, not measured: fitted to the ratios that the talk "Making Movie Magic with Nomad" prints.
FRAMES, FRAME_S, FRAME_CV = 500, 226.0, 0.07
NOMAD = Cloud(boot=Boot(shift_s=42, median_s=21, sigma=0.49, weather_sigma=0.18))
GKE = Cloud(
    boot=Boot(shift_s=175, median_s=27, sigma=0.70, weather_sigma=0.23),
    create_per_s=3.7,
    placement_s=0.05,
    is_resize_serial=True,
)
# Kubernetes keeps a share of each node for itself.
GKE_SLOWER = 1.04

SMALL, LARGE, HUGE = (
    Shape("cpu-8-32", True),
    Shape("cpu-16-64", False),
    Shape("cpu-32-128", True),
)
# Micro-dollars a minute, as in catalog/instance_types.yaml.
PRICES = {SMALL: 1567, Shape("cpu-8-32", False): 6475, LARGE: 12949, HUGE: 6267}
# Google said that of a project's preemptible machines 5 to 15 % are taken back a day: this is more.
PREEMPTED_PER_HOUR = 0.01
ZONES = ("a", "b", "c")
# No setting of Baton's was ever chosen by what the traces of these seeds gave.
FRESH_SEEDS = range(100, 110)


def a_site(id_: str, cloud: Cloud, **settings: Any) -> tuple[Orchestrator, Cloud]:
    """Return an orchestrator in a cloud, with the settings that an operator would choose for it."""
    known = Orchestrator(
        orchestrator_id=id_,
        scheduler="nomad",
        scheduler_address="http://127.0.0.1",
        fleet="gce",
        project="farm",
        region=id_,
        zones={f"{id_}-{zone}": True for zone in ZONES},
        boot_s=cloud.usual_boot_s,
    )
    return replace(known, **settings), replace(cloud, prices=cloud.prices or PRICES)


def benchmark(seed: int, cloud: Cloud = NOMAD, slower: float = 1.0) -> Trace:
    """Return the published benchmark: one job of 500 frames of about four minutes."""
    chance = random.Random(f"benchmark {seed}")
    durations = tuple(
        slower * max(chance.gauss(FRAME_S, FRAME_CV * FRAME_S), 1.0) for _ in range(FRAMES)
    )
    job = Submission(
        job_id="bmw", account_id="studio", at_s=0.0, shape=SMALL, durations_s=durations
    )
    return Trace(
        name="benchmark",
        submissions=[job],
        sites=[a_site("us-central1", cloud)],
        accounts=[_studio(1000)],
    )


def short_bursts(seed: int) -> Trace:
    """Return bursts of short frames: thousands of 8 to 45 seconds, one every quarter of an hour to 40 minutes."""
    chance = random.Random(f"short {seed}")
    submissions = []
    at_s = 0.0
    for index in range(8):
        frame_s = _log_uniform(chance, 8, 45)
        frames = round(_log_uniform(chance, 2000, 10_000))
        submissions.append(_job(f"burst{index}", at_s, SMALL, frames, frame_s, 0.25, chance))
        at_s += chance.uniform(900, 2400)
    return Trace(
        name="bursts of short frames",
        submissions=submissions,
        sites=[a_site("us-central1", NOMAD, max_instances=400)],
        accounts=[_studio(400)],
    )


def long_frames(seed: int) -> Trace:
    """Return long heavy frames: jobs of tens to hundreds of frames of twenty minutes to two hours."""
    chance = random.Random(f"long {seed}")
    submissions = []
    at_s = 0.0
    for index in range(8):
        frame_s = _log_uniform(chance, 1200, 7200)
        frames = round(_log_uniform(chance, 30, 300))
        submissions.append(_job(f"heavy{index}", at_s, LARGE, frames, frame_s, 0.15, chance))
        at_s += chance.uniform(600, 3600)
    return Trace(
        name="long heavy frames",
        submissions=submissions,
        sites=[a_site("us-central1", NOMAD, max_instances=2000)],
        accounts=[_studio(2000)],
    )


def mixed_day(seed: int) -> Trace:
    """Return a working day of three studios on two regions: preemptions, stock-outs, machines that never boot."""
    chance = random.Random(f"mixed {seed}")
    studios = [replace(_studio(600), account_id=f"studio{n}", name=f"Studio {n}") for n in range(3)]
    submissions = []
    for index in range(36):
        studio = chance.choice(studios)
        frame_s = _log_uniform(chance, 20, 3600)
        frames = round(_log_uniform(chance, 20, 600))
        shape = chance.choice((SMALL, SMALL, LARGE, HUGE))
        at_s = min(max(chance.gauss(5 * 3600, 2 * 3600), 0.0), 10 * 3600)
        job = _job(f"job{index}", at_s, shape, frames, frame_s, 0.2, chance)
        submissions.append(replace(job, account_id=studio.account_id))
    cloud = replace(
        NOMAD, preempted_per_hour=PREEMPTED_PER_HOUR, boot=replace(NOMAD.boot, dead_share=0.005)
    )
    return Trace(
        name="mixed day",
        submissions=sorted(submissions, key=lambda each: each.at_s),
        sites=[
            a_site(name, replace(cloud, stocks=_stock_outs(name, chance)), max_instances=1200)
            for name in ("us-central1", "us-east1")
        ],
        accounts=studios,
    )


def great_day(seed: int, tasks: int = 100_000, instances: int = 20_000) -> Trace:
    """Return a day of so many tasks in two great bursts and many small ones, on up to so many instances at once."""
    chance = random.Random(f"great {seed}")
    studios = [
        replace(_studio(instances), account_id=f"studio{n}", name=f"Studio {n}") for n in range(10)
    ]
    submissions = []
    left = tasks
    number = 0
    while left > 0:
        frames = min(round(_log_uniform(chance, 50, 1500)), left)
        left -= frames
        burst = chance.choice((9, 9, 15, None))
        at_s = (
            chance.uniform(0, 22) * 3600 if burst is None else burst * 3600 + chance.uniform(0, 900)
        )
        frame_s = _log_uniform(chance, 60, 1800)
        job = _job(
            f"job{number}", at_s, chance.choice((SMALL, LARGE, HUGE)), frames, frame_s, 0.2, chance
        )
        submissions.append(replace(job, account_id=chance.choice(studios).account_id))
        number += 1
    cloud = replace(NOMAD, create_per_s=50.0, preempted_per_hour=PREEMPTED_PER_HOUR)
    site = a_site(
        "us-central1",
        cloud,
        max_instances=instances,
        max_per_pool=instances,
        max_grow_per_tick=instances,
    )
    return Trace(
        name="great day",
        submissions=sorted(submissions, key=lambda each: each.at_s),
        sites=[site],
        accounts=studios,
    )


def _studio(limit: int) -> Account:
    return Account(account_id="studio", name="Studio", max_instances=limit)


def _job(
    id_: str,
    at_s: float,
    shape: Shape,
    frames: int,
    frame_s: float,
    cv: float,
    chance: random.Random,
) -> Submission:
    durations = tuple(frame_s * exp(chance.gauss(0.0, cv)) for _ in range(frames))
    return Submission(
        job_id=id_, account_id="studio", at_s=at_s, shape=shape, durations_s=durations
    )


def _stock_outs(site: str, chance: random.Random) -> dict[PoolKey, list[Stock]]:
    """Return pools that run dry for a while: about a third of them, for one to three hours."""
    found = {}
    for zone in ZONES:
        for shape in (SMALL, LARGE, HUGE):
            if chance.random() < 0.35:
                dry_s = chance.uniform(2, 7) * 3600
                until_s = dry_s + chance.uniform(1, 3) * 3600
                found[PoolKey(f"{site}-{zone}", *shape)] = [
                    Stock(from_s=dry_s, count=chance.randrange(0, 30)),
                    Stock(from_s=until_s, count=100_000),
                ]
    return found


def _log_uniform(chance: random.Random, low: float, high: float) -> float:
    return exp(chance.uniform(log(low), log(high)))
