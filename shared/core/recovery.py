"""The recovery ladder: what a task's next attempt runs on, by what became of those before it.

One that lost its machine avoids that zone, and goes to standard machines after as many losses as the job says; one that
ran out of memory goes to the next larger instance type, as far as the job's policy and the cap let it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from shared.models.account import InstanceType
from shared.models.farm import Orchestrator, Shape
from shared.models.job import Job, Rung
from shared.models.task import Attempt, Outcome

# However often a task runs out of memory: no attempt gets more than so many times what its job asks for.
MOST_MEMORY = 4
# What of an instance's memory its system and the agent need.
_SYSTEM_SHARE = 16
_LOSSES = (Outcome.PREEMPTED, Outcome.LOST)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one attempt runs on; `note` says why it is not simply what the job asks for.

    Shapes: it runs in `avoided_zones` only where nothing is free elsewhere.
    """

    shape: Shape
    cores: int
    memory_mib: int
    price_micros_per_minute: int
    avoided_zones: tuple[str, ...] = ()
    note: str = ""


def next_step(
    job: Job, attempts: Sequence[Attempt] = (), zone: str = "", *, counted_from: int = 1
) -> Step:
    """Return what the next attempt of a task runs on, after these, oldest first; `zone` is where, once known.

    What the attempts before the one that is `counted_from` have shown stays true; only its allowance is new.
    """
    is_preemptible = job.is_preemptible and not _has_lost_enough(job, attempts)
    rung = _rung(job, attempts, counted_from, is_preemptible=is_preemptible)
    lost = [each for each in attempts if each.outcome in _LOSSES]
    return Step(
        shape=Shape(rung.instance_type, is_preemptible),
        cores=rung.cores,
        memory_mib=rung.memory_mib,
        price_micros_per_minute=(
            rung.preemptible_micros_per_minute if is_preemptible else rung.price_micros_per_minute
        ),
        avoided_zones=(lost[-1].zone,) if lost and lost[-1].zone else (),
        note="; ".join(_notes(job, attempts, rung, zone, is_preemptible=is_preemptible)),
    )


def is_on_ladder(attempts: Iterable[Attempt]) -> bool:
    """Tell whether the job's policy may decide what the next attempt runs on, after these."""
    return any(each.outcome in (*_LOSSES, Outcome.OUT_OF_MEMORY) for each in attempts)


def why_no_larger(job: Job, attempts: Sequence[Attempt], counted_from: int = 1) -> str:
    """Return why a task whose last attempt ran out of memory is not tried on a larger machine; "" when it is."""
    counted = (each for each in attempts if each.number >= counted_from)
    count = sum(each.outcome is Outcome.OUT_OF_MEMORY for each in counted)
    if count > job.out_of_memory_retries:
        return f"no retry is left (out_of_memory_retries: {job.out_of_memory_retries})"
    rungs = _rungs(job, attempts, counted_from, is_preemptible=job.is_preemptible)
    if not any(each.memory_mib > _too_little_mib(job, attempts) for each in rungs):
        within = f"within {MOST_MEMORY} times the job's memory"
        return f"no instance type larger than {attempts[-1].instance_type} is at hand {within}"
    return ""


def usable_mib(machine: InstanceType) -> int:
    """Return how much of a machine's memory an attempt on it gets."""
    return int(machine.memory_gib * 1024) * (_SYSTEM_SHARE - 1) // _SYSTEM_SHARE


def larger_types(
    machine: InstanceType, offered: Iterable[InstanceType], *, is_preemptible: bool
) -> tuple[Rung, ...]:
    """Return what a task may go to that runs out of memory on `machine`, the smallest first, of equals the cheapest.

    They are of the same provider, operating system and kind of GPU, and smaller in nothing.
    """
    found = [_rung_of(each) for each in offered if _may_follow(machine, each)]
    return tuple(sorted(found, key=lambda rung: _order(rung, is_preemptible=is_preemptible)))


def at_home(job: Job, home: Orchestrator) -> Job:
    """Return the job with the orchestrator where it runs.

    Shapes: of the larger types that are there it keeps the cheapest of each size, in each class it may run in.
    """
    has = [each for each in job.larger if home.offers(each.instance_type)]
    classes = {job.is_preemptible, False}
    cheapest = {rung for each in classes for rung in _cheapest(has, is_preemptible=each)}
    kept = tuple(each for each in has if each in cheapest)
    return replace(job, orchestrator_id=home.orchestrator_id, larger=kept)


def _may_follow(machine: InstanceType, other: InstanceType) -> bool:
    return (
        other.provider is machine.provider
        and other.operating_system == machine.operating_system
        and _gpu_model(other) == _gpu_model(machine)
        and _gpu_count(other) >= _gpu_count(machine)
        and other.cores >= machine.cores
        and machine.memory_gib < other.memory_gib <= MOST_MEMORY * machine.memory_gib
    )


def _gpu_model(machine: InstanceType) -> object:
    return machine.gpu.get("gpu_model") if machine.gpu else None


def _gpu_count(machine: InstanceType) -> int:
    return int(str(machine.gpu.get("gpu_count", 1))) if machine.gpu else 0


def _rung_of(machine: InstanceType) -> Rung:
    return Rung(
        instance_type=machine.name,
        cores=machine.cores,
        memory_mib=usable_mib(machine),
        price_micros_per_minute=machine.price_micros_per_minute,
        preemptible_micros_per_minute=machine.preemptible_micros_per_minute,
    )


def _order(rung: Rung, *, is_preemptible: bool) -> tuple[int, int, str]:
    price = rung.preemptible_micros_per_minute if is_preemptible else rung.price_micros_per_minute
    return rung.memory_mib, price, rung.instance_type


def _cheapest(rungs: Iterable[Rung], *, is_preemptible: bool) -> list[Rung]:
    """Return the cheapest of each size; they come, and go, the smallest first."""
    sizes = groupby(rungs, key=lambda rung: rung.memory_mib)
    return [
        min(equals, key=lambda rung: _order(rung, is_preemptible=is_preemptible))
        for _, equals in sizes
    ]


def _rungs(
    job: Job, attempts: Sequence[Attempt], counted_from: int, *, is_preemptible: bool
) -> list[Rung]:
    """Return the job's own machine and those that its policy lets a task go to, the smallest first.

    The steps that it says are counted from where the attempts before those that count have led.
    """
    own = Rung(
        instance_type=job.instance_type,
        cores=job.cores,
        memory_mib=job.memory_mib,
        price_micros_per_minute=job.standard_micros_per_minute or job.price_micros_per_minute,
        preemptible_micros_per_minute=job.price_micros_per_minute,
    )
    if not job.out_of_memory_retries:
        return [own]
    rungs = [own, *_cheapest(job.larger, is_preemptible=is_preemptible)]
    too_little = _too_little_mib(job, (each for each in attempts if each.number < counted_from))
    first = sum(each.memory_mib <= too_little for each in rungs)
    return rungs[: first + 1 + job.out_of_memory_retries]


def _rung(
    job: Job, attempts: Sequence[Attempt], counted_from: int, *, is_preemptible: bool
) -> Rung:
    """Return the smallest machine with more memory than was ever too little, or else the largest."""
    rungs = _rungs(job, attempts, counted_from, is_preemptible=is_preemptible)
    too_little = _too_little_mib(job, attempts)
    return next((each for each in rungs if each.memory_mib > too_little), rungs[-1])


def _too_little_mib(job: Job, attempts: Iterable[Attempt]) -> int:
    """Return how much memory is not enough; an attempt from before that was noted had what the job asks for."""
    ran_out = (each for each in attempts if each.outcome is Outcome.OUT_OF_MEMORY)
    return max((each.memory_mib or job.memory_mib for each in ran_out), default=-1)


def _has_lost_enough(job: Job, attempts: Iterable[Attempt]) -> bool:
    """Tell whether a task is done with preemptible machines; never where nobody knows what others cost."""
    if not job.standard_after or job.standard_micros_per_minute is None:
        return False
    return _lost_count(attempts) >= job.standard_after


def _lost_count(attempts: Iterable[Attempt]) -> int:
    return sum(each.is_preemptible and each.outcome in _LOSSES for each in attempts)


def _notes(
    job: Job, attempts: Sequence[Attempt], rung: Rung, zone: str, *, is_preemptible: bool
) -> Iterator[str]:
    if rung.instance_type != job.instance_type:
        small = [each for each in attempts if each.outcome is Outcome.OUT_OF_MEMORY][-1]
        yield f"{rung.instance_type}: out of memory on {small.instance_type}"
    if is_preemptible is not job.is_preemptible:
        yield f"standard: {_lost_count(attempts)} preemptible attempts were lost"
    lost = [each for each in attempts if each.outcome in _LOSSES]
    if lost and lost[-1].zone:
        last = lost[-1]
        if zone == last.zone:
            yield f"again in {zone}: attempt {last.number} was {last.outcome} there, but nothing elsewhere took it"
        else:
            yield f"avoids {last.zone}: attempt {last.number} was {last.outcome} there"
