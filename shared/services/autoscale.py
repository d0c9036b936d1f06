"""Autoscale: look at one orchestrator, decide, act, remember. Every step may be repeated or cut short."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.core import census
from shared.core.blocking import Awaited, split_by_use
from shared.core.breaker import learnt
from shared.core.replay import PlanInputs, PlannedTick
from shared.core.waiting import why_pools_wait, why_waiting
from shared.errors import CloudError, OutOfCapacity, OverQuota
from shared.log import log
from shared.models.farm import (
    Decision,
    FleetProblem,
    Instance,
    InstanceStatus,
    Orchestrator,
    ProblemCode,
    Shape,
    Took,
    instance_name,
)
from shared.models.job import AttemptRef, JobRef
from shared.models.task import WaitingFor
from shared.ports import Fleet, OrchestratorStore, Scheduler
from shared.services.observe import Observation, for_each, log_failure, observe

# A round follows at once when somebody asked meanwhile, or when a zone was found out of stock and the next one may have
# some. More rounds go into the next request, so that none goes on for ever.
MOST_ROUNDS = 2
# No round starts later than this: the tick's lease, and the function, end after two minutes.
LATEST_ROUND = timedelta(seconds=60)

PROBLEMS: Mapping[type[CloudError], ProblemCode] = {
    OutOfCapacity: ProblemCode.STOCK_OUT,
    OverQuota: ProblemCode.QUOTA,
}


@dataclass(frozen=True, kw_only=True)
class TickReport:
    """What a round saw, decided and could not do. `reasons` says why attempts of each shape wait.

    `planned` is what the decisions were planned from, None where nothing could be planned.
    """

    orchestrator_id: str
    observation: Observation | None = None
    planned: PlannedTick | None = None
    decisions: Sequence[Decision] = ()
    reasons: Mapping[Shape, tuple[WaitingFor, str]] = field(default_factory=dict)
    errors: Sequence[str] = ()
    has_stock_out: bool = False
    has_drained: bool = False


def _as_seen(seen: Observation) -> Observation:
    return seen


def _nothing_held(_: Collection[JobRef]) -> Mapping[JobRef, Awaited]:
    return {}


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """How a decision went. `spared` were to be deleted and stay: they may have been given work since the look."""

    decision: Decision
    spared: Set[str] = frozenset()
    error: CloudError | None = None

    def problem(self, now: datetime) -> FleetProblem | None:
        """Return what the provider could not do, when that was it."""
        code = PROBLEMS.get(type(self.error)) if self.error else None
        if code is None:
            return None
        return FleetProblem(pool=self.decision.pool, code=code, message=str(self.error), at=now)


def tick(
    orchestrator_id: str,
    *,
    orchestrators: OrchestratorStore,
    scheduler: Scheduler,
    fleet: Fleet,
    clock: Callable[[], datetime],
    new_token: Callable[[], str],
    follow_up: Callable[[TickReport], None],
    ask_again: Callable[[], None],
    pending: Callable[[Collection[JobRef]], Mapping[JobRef, Awaited]] = _nothing_held,
    trust: Callable[[Observation], Observation] = _as_seen,
) -> TickReport | None:
    """Bring an orchestrator's fleet in line with its work; None when another tick is at it, which will go round again.

    Shapes: `new_token` returns a few random letters and digits, others each time; `follow_up` is called after each
    round, `ask_again` when another tick is wanted once this one is over: what it took out of use goes at the next look.
    `pending` returns what each job waits for, `trust` what was seen as agents see it.
    """
    begun = clock()
    held = orchestrators.begin_tick(orchestrator_id, begun)
    if held is None:
        return None
    is_over = False
    wants_more = has_drained = False
    try:
        for left in reversed(range(MOST_ROUNDS)):
            report = _round(
                orchestrator_id, orchestrators, scheduler, fleet, clock, new_token, pending, trust
            )
            follow_up(report)
            wants_more = report.has_stock_out
            has_drained |= report.has_drained
            if not left or clock() - begun > LATEST_ROUND:
                break
            if not wants_more and orchestrators.finish_tick(held, clock()):
                is_over = True
                break
    finally:
        is_asked = not is_over and (orchestrators.release_tick(held) or wants_more)
        if is_asked or has_drained:
            ask_again()
    return report


def _round(
    orchestrator_id: str,
    orchestrators: OrchestratorStore,
    scheduler: Scheduler,
    fleet: Fleet,
    clock: Callable[[], datetime],
    new_token: Callable[[], str],
    pending: Callable[[Collection[JobRef]], Mapping[JobRef, Awaited]],
    trust: Callable[[Observation], Observation],
) -> TickReport:
    begun = time.perf_counter()
    orchestrator, now = orchestrators.orchestrator(orchestrator_id), clock()
    try:
        seen = trust(observe(orchestrator, scheduler=scheduler, fleet=fleet, now=now))
    except CloudError as error:
        return _not_scaled(orchestrator_id, str(error), None)
    if seen.fleet_error:
        return _not_scaled(orchestrator_id, seen.fleet_error, seen)
    expected_s = census.expected_seconds(seen.placements, now)
    instances = census.instances(
        orchestrator,
        seen.listed,
        nodes=seen.nodes,
        placements=seen.placements,
        expected_s=expected_s,
        now=now,
    )
    jobs = {AttemptRef.parse(each.attempt_id).task.job for each in seen.placements if each.is_live}
    awaited = pending(jobs)
    useful, useless = split_by_use(instances, seen.placements, awaited)
    instances = [*useful, *useless]
    found = [*seen.problems, *census.unused(orchestrator, useful, now)]
    orchestrator = _remember(orchestrator, found, instances, orchestrators, now)
    backlog = census.backlog(orchestrator, seen.placements, expected_s)
    counts = {ref: each.pending_count for ref, each in awaited.items()}
    backlog += census.held_back(seen.placements, counts, expected_s)
    inputs = PlanInputs(
        orchestrator=orchestrator,
        now=now,
        backlog=tuple(backlog),
        instances=tuple(instances),
        unlisted_count=seen.unlisted_count,
        unlisted_pools=tuple(sorted(seen.failed)),
    )
    planned = _planned(inputs, new_token)
    outcomes = _act(planned.decisions, seen, scheduler, fleet)
    problems = [problem for each in outcomes if (problem := each.problem(now)) is not None]
    orchestrator = _remember(orchestrator, problems, instances, orchestrators, now)
    _record(orchestrator_id, outcomes)
    done = [each.decision for each in outcomes if each.error is None]
    # One that is silent gets until the next minute to be heard of: nobody asks for a look at it before.
    silent = {each.name for each in instances if each.status is InstanceStatus.DEAD}
    reasons = why_waiting(
        orchestrator, backlog=backlog, instances=instances, decisions=done, now=now
    )
    counted = census.counts((pool for pool in seen.pools if pool not in seen.failed), instances)
    orchestrators.save_decisions(
        orchestrator_id,
        [_as_carried_out(each) for each in outcomes],
        counted,
        now,
        Took(plan_ms=planned.plan_ms, tick_s=round(time.perf_counter() - begun, 3)),
        why_pools_wait(orchestrator, reasons, seen.pools, now, unlisted=seen.failed),
    )
    return TickReport(
        orchestrator_id=orchestrator_id,
        observation=seen,
        planned=planned,
        decisions=planned.decisions,
        reasons=reasons,
        errors=[*seen.failed.values(), *(str(each.error) for each in outcomes if each.error)],
        # Where an operator overrules the breaker, the next round would ask for the same again.
        has_stock_out=any(
            not orchestrator.pool_switches.get(each.pool.pool_id, False) for each in problems
        ),
        has_drained=any(not silent.issuperset(each.drain) for each in done),
    )


def _planned(inputs: PlanInputs, new_token: Callable[[], str]) -> PlannedTick:
    """Plan, and note how long that took."""
    begun = time.perf_counter()
    decisions = inputs.plan(lambda: instance_name(inputs.now, new_token()))
    plan_ms = round((time.perf_counter() - begun) * 1000, 1)
    return PlannedTick(inputs=inputs, decisions=decisions, plan_ms=plan_ms)


def _not_scaled(orchestrator_id: str, reason: str, seen: Observation | None) -> TickReport:
    """Return the report of a round that could decide nothing."""
    log("ERROR", "orchestrator not scaled", orchestrator_id=orchestrator_id, reason=reason)
    return TickReport(orchestrator_id=orchestrator_id, observation=seen, errors=[reason])


def _remember(
    orchestrator: Orchestrator,
    problems: Sequence[FleetProblem],
    instances: Sequence[Instance],
    orchestrators: OrchestratorStore,
    now: datetime,
) -> Orchestrator:
    """Note which pools to leave alone, and which work again; returns the orchestrator as it is then.

    What cannot be noted is logged: the tick goes on with what it has learnt itself.
    """
    before = orchestrator

    def learn(known: Orchestrator) -> Orchestrator:
        nonlocal before
        before = known  # another tick may have learnt something since ours began
        return learnt(known, problems, instances, now)

    after = learn(orchestrator)
    if after == orchestrator:
        return orchestrator
    try:
        after = orchestrators.change_orchestrator(orchestrator.orchestrator_id, learn)
    except Exception as error:  # noqa: BLE001  the farm scales on whatever cannot be remembered
        log(
            "ERROR",
            "breakers not remembered",
            orchestrator_id=orchestrator.orchestrator_id,
            reason=str(error),
        )
    for each in set(after.breakers) - set(before.breakers):
        log(
            "INFO" if each.closed_at else "WARNING",
            "breaker closed" if each.closed_at else "breaker opened",
            orchestrator_id=orchestrator.orchestrator_id,
            pool_id=each.pool.pool_id,
            cause=each.cause,
            until=each.until.isoformat(),
        )
    return replace(orchestrator, breakers=after.breakers, strikes=after.strikes)


def _act(
    decisions: Sequence[Decision], seen: Observation, scheduler: Scheduler, fleet: Fleet
) -> list[_Outcome]:
    """Carry out the decisions; an error costs one pool this tick."""
    # A machine that has only just joined is not among them.
    node_ids = {name: node.node_id for name, node in census.by_name(seen.nodes).items()}
    outcomes: list[_Outcome] = []

    def carry_out(decision: Decision) -> None:
        spared: Set[str] = frozenset()
        error: CloudError | None = None
        try:
            for names, is_eligible in ((decision.drain, False), (decision.resume, True)):
                for name in names:
                    if name in node_ids:
                        scheduler.set_eligible(node_ids[name], is_eligible)
            spared = _with_work(decision.retire, seen, scheduler)
            fleet.retire(decision.pool, [name for name in decision.retire if name not in spared])
            fleet.grow(decision.pool, decision.grow)
        except CloudError as raised:
            error = raised
        outcomes.append(_Outcome(decision=decision, spared=spared, error=error))

    for_each(carry_out, decisions)
    return outcomes


def _with_work(names: Sequence[str], seen: Observation, scheduler: Scheduler) -> Set[str]:
    """Return those of the machines to be deleted that may have been given work since they were seen.

    A look right before the deletion tells: who is unknown still has none, nor has who took nothing then and takes
    nothing now. What the provider has stopped runs nothing, whatever the scheduler believes.
    """
    going = set(names) - {each.name for each in seen.listed if each.is_stopped}
    if not going:
        return frozenset()
    closed = {node.node_id for node in seen.nodes if not node.is_eligible}
    return {
        name
        for name, node in census.by_name(scheduler.nodes()).items()
        if name in going and (node.is_eligible or node.node_id not in closed)
    }


def _as_carried_out(outcome: _Outcome) -> Decision:
    """Return a decision as it is stored: with who was spared and what went wrong."""
    facts = dict(outcome.decision.facts)
    if outcome.spared:
        facts["spared"] = len(outcome.spared)
    if outcome.error is not None:
        facts["error"] = str(outcome.error)
    return replace(outcome.decision, facts=facts)


def _record(orchestrator_id: str, outcomes: Iterable[_Outcome]) -> None:
    """Log one line per decision."""
    for each in outcomes:
        decision = each.decision
        if each.error is not None:
            log_failure(orchestrator_id, decision.pool, each.error)
            continue
        log(
            "INFO",
            "pool scaled",
            orchestrator_id=orchestrator_id,
            **decision.pool._asdict(),
            grow_count=len(decision.grow),
            retire_count=len(decision.retire) - len(each.spared),
            spared_count=len(each.spared),
            drain_count=len(decision.drain),
            resume_count=len(decision.resume),
            reason=decision.reason,
        )
