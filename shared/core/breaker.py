"""A circuit breaker for each pool: what keeps failing gets nothing for a while, and then is tried with one machine.

It is closed, opens until some time, is half open from then on, closes when the machine that probes it joins, and opens
again, for twice as long, when that one fails. What a pool's breaker says, an operator's switch for the pool overrules.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil

from shared.core.pools import SILENT_SHARE, boot_limit
from shared.models.farm import (
    Breaker,
    BreakerState,
    FleetProblem,
    Instance,
    InstanceStatus,
    Orchestrator,
    PoolKey,
    ProblemCode,
    Shape,
    Strike,
)

# A pool that failed is left alone for a minute at first, then for twice as long each time, up to half an hour.
FIRST_PAUSE_S = 60
LONGEST_PAUSE_S = 1800
# So many machines find out whether a pool works again.
PROBE_COUNT = 1
# So many machines have to fail on their way, none of those asked for with them or later having joined.
FAILED_COUNT = 3
# Machines that were asked for within so long of each other meet the same provider.
TOGETHER = timedelta(minutes=1)
# Preemptions are a storm when at least half of at least so many machines are taken back within so long.
STORM_COUNT = 4
STORM_SHARE = 0.5
STORM = timedelta(minutes=5)
# A document holds 7,000 failures. A pool twice as large as these may lose half of its machines over several ticks and
# be seen to; those that a single look finds are all counted, however many they are.
MOST_STRIKES = 4000
MOST_STRIKES_PER_POOL = 1000

_FAILED = (ProblemCode.DEAD_BOOTS, ProblemCode.FAILING_STARTS)
_WORKING = (InstanceStatus.IDLE, InstanceStatus.BUSY)
_JOINED = (*_WORKING, InstanceStatus.DRAINING)

# A pool that has not failed again for as long as so many machines take to be late, one after the other, starts afresh.
_REMEMBERED_BOOTS = FAILED_COUNT + 1

# A pool may be failing, the region's quota used up, and machines unused: one says nothing of the others.
_FAILING = "failing"
_KINDS: Mapping[str, str] = {ProblemCode.QUOTA: "quota", ProblemCode.UNUSED: "unused"}

_Known = dict[tuple[PoolKey, str], Breaker]


def standing(orchestrator: Orchestrator, shape: Shape, now: datetime) -> dict[str, Breaker]:
    """Return the breakers of a shape that are open or half open, by zone, but for those an operator overrules.

    Of two in a zone the one that holds it back more: an open one, the last to end; else that of the quota.
    """

    def strength(breaker: Breaker) -> tuple[bool, bool, datetime]:
        is_open = breaker.state(now) is BreakerState.OPEN
        return is_open, not is_open and breaker.cause == ProblemCode.QUOTA, breaker.until

    found = (
        each
        for each in orchestrator.breakers
        if Shape(*each.pool[1:]) == shape
        and not each.is_of_unused
        and each.state(now) is not BreakerState.CLOSED
        and not orchestrator.pool_switches.get(each.pool.pool_id, False)
    )
    return {each.pool.zone: each for each in sorted(found, key=strength)}


def probing_count(breaker: Breaker, instances: Iterable[Instance]) -> int:
    """Return how many machines are on their way to probe a pool; those that are older say nothing."""
    return sum(
        each.status is InstanceStatus.BOOTING
        and _is_probed_in(breaker, each.pool)
        and each.created_at >= breaker.until
        for each in instances
    )


def learnt(
    orchestrator: Orchestrator,
    problems: Iterable[FleetProblem],
    instances: Sequence[Instance],
    now: datetime,
) -> Orchestrator:
    """Return the orchestrator with what is known of its pools now; the same again changes nothing.

    A quota holds for the whole region: it stops the shape in all of its zones, and one machine clears all of them.
    """
    limit = boot_limit(orchestrator)
    memory = _REMEMBERED_BOOTS * limit
    newest = _newest(instances, _WORKING)
    booting = _newest(instances, (InstanceStatus.BOOTING,))
    known = {
        _kind(each.pool, each.cause): _proved(each, newest, now)
        for each in orchestrator.breakers
        if _is_remembered(each, booting, memory, now)
    }
    listed = _failures(instances, limit, now)
    strikes = list(({each.instance: each for each in (*listed, *orchestrator.strikes)}).values())
    counting = [each for each in strikes if _counts(each, known, newest, memory=memory, now=now)]
    found = [*problems, *_trips(known, counting, instances, now)]
    after = known | _opened(orchestrator, known, found, now)
    names = {each.instance for each in listed if each.cause == ProblemCode.PREEMPTIONS}
    kept = [
        each
        for each in strikes
        # One that is still listed must not be noticed anew, once that would count again.
        if (each.instance in names and not _is_standing(after.get((each.pool, _FAILING))))
        or _counts(each, after, newest, memory=memory, now=now)
    ]
    return replace(
        orchestrator,
        breakers=tuple(after[kind] for kind in sorted(after)),
        strikes=tuple(sorted(_capped(kept), key=lambda each: (each.pool, each.at, each.instance))),
    )


def _capped(strikes: Iterable[Strike]) -> list[Strike]:
    """Return as many as can be remembered: those of machines that never joined first, then the latest."""
    kept: list[Strike] = []
    counts: Counter[PoolKey] = Counter()
    for each in sorted(strikes, key=_importance, reverse=True):
        counts[each.pool] += 1
        if counts[each.pool] <= MOST_STRIKES_PER_POOL:
            kept.append(each)
    return kept[:MOST_STRIKES]


def _importance(strike: Strike) -> tuple[bool, datetime, str]:
    return strike.cause in _FAILED, strike.at, strike.instance


def _kind(pool: PoolKey, cause: str) -> tuple[PoolKey, str]:
    return pool, _KINDS.get(cause, _FAILING)


def _is_probed_in(breaker: Breaker, pool: PoolKey) -> bool:
    """Tell whether a machine of a pool probes what stopped the breaker's: a quota holds for all zones."""
    is_quota = breaker.cause == ProblemCode.QUOTA
    return pool == breaker.pool or (is_quota and pool[1:] == breaker.pool[1:])


def _is_standing(breaker: Breaker | None) -> bool:
    """Tell whether it has opened and not closed since."""
    return breaker is not None and breaker.closed_at is None


def _newest(
    instances: Iterable[Instance], statuses: Collection[InstanceStatus]
) -> dict[PoolKey, datetime]:
    """Return when the youngest of each pool's machines in one of these statuses was created."""
    newest: dict[PoolKey, datetime] = {}
    for each in instances:
        if each.status in statuses:
            newest[each.pool] = max(newest.get(each.pool, each.created_at), each.created_at)
    return newest


def _is_remembered(
    breaker: Breaker, booting: Mapping[PoolKey, datetime], memory: timedelta, now: datetime
) -> bool:
    """Tell whether what happened still matters: not after a while, unless a machine still probes the pool."""
    if now < max(breaker.until, breaker.closed_at or breaker.until) + memory:
        return True
    if breaker.state(now) is not BreakerState.HALF_OPEN:
        return False
    return any(booting[pool] >= breaker.until for pool in booting if _is_probed_in(breaker, pool))


def _proved(breaker: Breaker, newest: Mapping[PoolKey, datetime], now: datetime) -> Breaker:
    """Close a breaker that is half open when a machine works that was created since then."""
    if breaker.state(now) is not BreakerState.HALF_OPEN:
        return breaker
    is_proved = any(
        newest[pool] >= breaker.until for pool in newest if _is_probed_in(breaker, pool)
    )
    return replace(breaker, closed_at=now) if is_proved else breaker


def _failures(instances: Sequence[Instance], limit: timedelta, now: datetime) -> list[Strike]:
    """Return the machines that are seen to have failed; none that never joined while the scheduler forgets others."""
    is_known = not _forgets(instances)
    causes = [(each, _cause(each, limit, now)) for each in instances]
    found = [
        (each, cause) for each, cause in causes if cause and (is_known or cause not in _FAILED)
    ]
    if not found:
        return []
    # Those that we are deleting are counted too: a pool that we shrink has not lost them.
    unborn = (InstanceStatus.BOOTING, InstanceStatus.RETIRING)
    sizes = Counter(each.pool for each in instances if each.has_joined or each.status not in unborn)
    return [
        Strike(
            pool=each.pool,
            cause=cause,
            instance=each.name,
            created_at=each.created_at,
            at=now,
            size=sizes[each.pool],
        )
        for each, cause in found
    ]


def _forgets(instances: Iterable[Instance]) -> bool:
    """Tell whether too many machines that had joined are unknown to the scheduler: it has lost its books."""
    forgotten = known = 0
    for each in instances:
        if each.status is InstanceStatus.BOOTING:
            forgotten += each.has_joined
        else:
            known += each.status in _JOINED
    return forgotten > ceil((forgotten + known) * SILENT_SHARE)


def _cause(instance: Instance, limit: timedelta, now: datetime) -> ProblemCode | None:
    """Return how a machine failed; None when it did not, or when the provider's own word for it is known."""
    is_late = now - instance.created_at > limit
    if instance.status is InstanceStatus.BOOTING and is_late:
        if instance.has_joined or instance.problem in (ProblemCode.STOCK_OUT, ProblemCode.QUOTA):
            return None
        return ProblemCode.FAILING_STARTS if instance.problem else ProblemCode.DEAD_BOOTS
    if instance.status is not InstanceStatus.DEAD or instance.problem is None:
        return None
    # The scheduler may have forgotten one that was up for long.
    if not instance.has_joined and not is_late:
        return ProblemCode.FAILING_STARTS
    return ProblemCode.PREEMPTIONS if instance.pool.is_preemptible else None


def _counts(
    strike: Strike,
    known: _Known,
    newest: Mapping[PoolKey, datetime],
    *,
    memory: timedelta,
    now: datetime,
) -> bool:
    """Tell whether a failure may still open the breaker: it is recent, not disproved, and has not opened it before."""
    breaker = known.get((strike.pool, _FAILING))
    if strike.cause == ProblemCode.PREEMPTIONS:
        return now - strike.at <= STORM and _is_new(strike, breaker)
    since = strike.created_at - TOGETHER
    if breaker is not None:
        if strike.created_at < breaker.until:
            return False  # it was asked for before the pool was tried again
        since = max(since, breaker.until)
    is_disproved = strike.pool in newest and newest[strike.pool] >= since
    return not is_disproved and now - strike.created_at <= memory


def _is_new(strike: Strike, breaker: Breaker | None) -> bool:
    """Tell whether a preemption says more than is known: until the breaker has closed, only that of a probe does."""
    if breaker is None:
        return True
    if breaker.closed_at is None:
        return strike.created_at >= breaker.until
    return strike.at > breaker.closed_at


def _trips(
    known: _Known, strikes: Iterable[Strike], instances: Iterable[Instance], now: datetime
) -> list[FleetProblem]:
    """Return the pools whose machines have failed too often, with the cause."""
    by_pool: defaultdict[PoolKey, list[Strike]] = defaultdict(list)
    for each in sorted(strikes, key=lambda each: (each.at, each.instance)):
        by_pool[each.pool].append(each)
    if not by_pool:
        return []
    joined = Counter(each.pool for each in instances if each.status in _JOINED)
    result = []
    for pool, failed in sorted(by_pool.items()):
        cause = _tripped(known.get((pool, _FAILING)), failed, joined[pool], now)
        if cause is not None:
            message = f"{len(failed)} machines failed"
            result.append(FleetProblem(pool=pool, code=cause, message=message, at=now))
    return result


def _tripped(
    breaker: Breaker | None, failed: Sequence[Strike], joined_count: int, now: datetime
) -> ProblemCode | None:
    """Return why a pool's breaker has to open, None when it has not, or is open."""
    state = breaker.state(now) if breaker else BreakerState.CLOSED
    if state is BreakerState.OPEN:
        return None
    if breaker and state is BreakerState.HALF_OPEN:
        probes = [each for each in failed if each.created_at >= breaker.until]
        if probes:
            return ProblemCode(probes[-1].cause)
    boots = [each for each in failed if each.cause in _FAILED]
    if len(boots) >= FAILED_COUNT:
        return ProblemCode(boots[-1].cause)
    lost = [each for each in failed if each.cause not in _FAILED]
    lost_count = len(lost)
    # A pool that we have shrunk since is as large as it was when they were lost.
    there_count = max([lost_count + joined_count, *(each.size for each in lost)])
    if there_count >= STORM_COUNT and lost_count >= STORM_SHARE * there_count:
        return ProblemCode.PREEMPTIONS
    return None


def _opened(
    orchestrator: Orchestrator, known: _Known, problems: Iterable[FleetProblem], now: datetime
) -> _Known:
    """Return the breakers that these problems open; machines that are still unused only prolong their pause."""
    opened: _Known = {}
    for problem in sorted(problems, key=lambda problem: problem.at):
        if problem.code is ProblemCode.OTHER:
            continue
        zones = {problem.pool.zone}
        if problem.code is ProblemCode.QUOTA:
            zones |= set(orchestrator.zones)
        for pool in (problem.pool._replace(zone=zone) for zone in sorted(zones)):
            past = known.get(_kind(pool, problem.code))
            pause_s = FIRST_PAUSE_S
            if past is not None and problem.at <= past.until:
                if not past.is_of_unused:
                    continue
                pause_s = past.pause_s
            elif past is not None:
                pause_s = min(past.pause_s * 2, LONGEST_PAUSE_S)
            found = Breaker(
                pool=pool, until=_whole(now, pause_s), cause=problem.code, pause_s=pause_s
            )
            opened[_kind(pool, found.cause)] = found
    return opened


def _whole(now: datetime, pause_s: int) -> datetime:
    """Return the end of a pause, in whole seconds as the times in machines' names."""
    up = timedelta(seconds=1) if now.microsecond else timedelta()
    return (now + up + timedelta(seconds=pause_s)).replace(microsecond=0)
