"""The farm on its virtual clock: events in order of time, decisions by the core's functions."""

import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from math import inf

from shared.core.admission import turns
from shared.core.breaker import learnt
from shared.core.durations import prior
from shared.core.placement import choose
from shared.models.farm import (
    Decision,
    FleetProblem,
    Instance,
    InstanceStatus,
    PoolKey,
    ProblemCode,
    Shape,
)
from simulator.observation import observe
from simulator.outcome import Outcome, Sample
from simulator.parts import Machine, SimulatedJob, Site, Trace, moment
from simulator.policies import Policy

# How long the rest of the farm waits for machines to go once every job has ended.
LONGEST_TAIL_S = 7200.0
# Jobs whose attempts say what to believe of an account's new ones.
PRIOR_JOBS = 50


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast the control plane is. `round_s` is what one look at the farm takes, so no two come closer.

    A machine that gets free while nothing waits asks for a look, but not within `free_pause_s` of the last such one.
    """

    admission_s: float = 0.2
    round_s: float = 1.0
    free_pause_s: float = 1.0
    sample_s: float = 60.0


def simulate(
    trace: Trace, policy: Callable[[], Policy], *, seed: int, pace: Pace | None = None
) -> Outcome:
    """Return what becomes of a trace under a policy; the same seed gives the same outcome and the same weather."""
    return _Simulation(trace, policy, seed, pace or Pace()).run()


def weather(trace: Trace, seed: int) -> list[float]:
    """Return the weather of each site, in this run."""
    return [
        cloud.boot.weather(random.Random(f"weather {seed} {index}"))
        for index, (_, cloud) in enumerate(trace.sites)
    ]


class _Simulation:
    def __init__(self, trace: Trace, policy: Callable[[], Policy], seed: int, pace: Pace) -> None:
        self.now_s = 0.0
        self.trace = trace
        self.pace = pace
        self.chance = random.Random(f"farm {seed}")
        self.boots = random.Random(f"boots {seed}")
        self.numbers = count()
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.accounts = {each.account_id: each for each in trace.accounts}
        self.active: defaultdict[str, dict[str, SimulatedJob]] = defaultdict(dict)
        self.admitting: set[str] = set()
        self.known: defaultdict[tuple[str, Shape], deque[SimulatedJob]] = defaultdict(
            lambda: deque(maxlen=PRIOR_JOBS)
        )
        self.open_count = len(trace.submissions)
        self.outcome = Outcome(trace=trace, seed=seed)
        self.policies = [policy() for _ in trace.sites]
        self.sites = [
            Site(orchestrator=orchestrator, cloud=cloud, weather=found)
            for (orchestrator, cloud), found in zip(trace.sites, weather(trace, seed), strict=True)
        ]

    # The clock

    def at(self, when_s: float, do: Callable[..., None], *said: object) -> None:
        """Have something happen."""
        heappush(self.events, (when_s, next(self.numbers), do, said))

    def run(self) -> Outcome:
        for each in self.trace.submissions:
            self.at(each.at_s, self.submit, SimulatedJob(each))
        for site, policy in zip(self.sites, self.policies, strict=True):
            self._stand(site, policy.standing)
            if policy.tick_s < inf:
                self.at(self.chance.random() * policy.tick_s, self.tick_by_schedule, site)
        self.at(0.0, self.sample)
        while self.events:
            self.now_s, _, do, said = heappop(self.events)
            do(*said)
            if self.open_count == 0 and self._is_over():
                break
        for site in self.sites:
            for machine in list(site.machines.values()):
                self.remove(site, machine)
        self.sample()
        return self.outcome

    def _is_over(self) -> bool:
        is_long_ago = self.now_s > self.outcome.ended_at_s + LONGEST_TAIL_S
        is_fixed = all(policy.tick_s == inf for policy in self.policies)
        return is_fixed or is_long_ago or not any(site.machines for site in self.sites)

    def _stand(self, site: Site, number: int) -> None:
        """Have machines that were there before anything happened."""
        shapes = sorted({each.shape for each in self.trace.submissions})
        zones = site.orchestrator.enabled_zones
        for shape in shapes:
            for index in range(number):
                pool = PoolKey(zones[index % len(zones)], *shape)
                machine = self.ask_for(site, pool, f"standing-{next(self.numbers)}", 0.0)
                machine.is_warm = True
                self.join(site, machine)

    def sample(self) -> None:
        """Note how the farm looks, for the plots."""
        there = [each for site in self.sites for each in site.machines.values()]
        self.outcome.samples.append(
            Sample(
                at_s=self.now_s,
                machines=len(there),
                up=sum(each.up_at_s is not None for each in there),
                busy=sum(each.job is not None for each in there),
                waiting=sum(site.waiting_count for site in self.sites),
            )
        )
        if self.open_count or there:
            self.at(self.now_s + self.pace.sample_s, self.sample)

    # Jobs

    def submit(self, job: SimulatedJob) -> None:
        self.active[job.said.account_id][job.said.job_id] = job
        self.outcome.jobs.append(job)
        self.ask_to_admit(job.said.account_id)

    def ask_to_admit(self, account_id: str) -> None:
        if account_id not in self.admitting:
            self.admitting.add(account_id)
            self.at(self.now_s + self.pace.admission_s, self.admit, account_id)

    def admit(self, account_id: str) -> None:
        """Give the schedulers what the account may start: the core's admission, then its placement."""
        self.admitting.discard(account_id)
        active = self.active[account_id]
        jobs = {job.model.ref: job for job in active.values()}
        pages = {ref: [job.page()] for ref, job in jobs.items()}
        for turn in turns(self.accounts[account_id], [job.model for job in jobs.values()], pages):
            job = jobs[turn.job.ref]
            if turn.quota and job.site is None:
                self.place(job)
            if turn.quota and job.site is not None:
                self.hand_over(job, self.sites[job.site], turn.quota)

    def place(self, job: SimulatedJob) -> None:
        """Choose the job's orchestrator; while none can take it, it is tried again at the next minute."""
        prices = {key: price for site in self.sites for key, price in site.prices().items()}
        choice = choose(
            [site.orchestrator for site in self.sites],
            job.said.shape,
            holds_data={},
            data_bytes=0,
            prices=prices,
            now=moment(self.now_s),
        )
        for index, site in enumerate(self.sites):
            if site.orchestrator.orchestrator_id == choice.orchestrator_id:
                job.site = index
        if job.site is None:
            self.at(self.now_s + 60.0, self.ask_to_admit, job.said.account_id)

    def hand_over(self, job: SimulatedJob, site: Site, number: int) -> None:
        queue = site.waiting.setdefault(job.said.shape, deque())
        for _ in range(number):
            queue.append((job, job.ready.popleft()))
        job.admitted_count += number
        job.queued_count += number
        self.feed(site, job.said.shape)
        if queue:
            self.ask_to_scale(site)

    def feed(self, site: Site, shape: Shape) -> None:
        """Start what waits on what is idle; the scheduler places one attempt after the other."""
        queue, idle = site.waiting.get(shape), site.idle.get(shape)
        while queue and idle:
            job, task = queue.popleft()
            _, machine = idle.popitem()
            site.next_placement_s = max(self.now_s, site.next_placement_s) + site.cloud.placement_s
            started_s = site.next_placement_s + (0.0 if machine.is_warm else site.cloud.agent_s)
            machine.is_warm = True
            machine.job, machine.task, machine.idle_since_s = job, task, None
            machine.become(InstanceStatus.BUSY)
            job.queued_count -= 1
            job.started[task] = started_s
            self.outcome.started(job, started_s)
            self.at(started_s + job.said.durations_s[task], self.end, site, machine, job, task)

    def end(self, site: Site, machine: Machine, job: SimulatedJob, task: int) -> None:
        """An attempt has succeeded."""
        if machine.job is not job or machine.task != task:
            return  # it was lost with its machine
        took_s = self.now_s - job.started.pop(task)
        machine.work_s += took_s
        self.outcome.worked(took_s)
        if job.known_s() is None:
            self.known[job.said.account_id, job.said.shape].append(job)
        job.learn(took_s)
        job.done_count += 1
        self.free(site, machine, job)
        if job.is_ended:
            job.ended_at_s = self.now_s
            self.outcome.ended_at_s = self.now_s
            del self.active[job.said.account_id][job.said.job_id]
            self.open_count -= 1

    def free(self, site: Site, machine: Machine, job: SimulatedJob) -> None:
        """Have the machine take the next attempt, if there is one for it."""
        job.ended_count += 1
        machine.job = None
        machine.idle_since_s = self.now_s
        if machine.status is InstanceStatus.BUSY:
            machine.become(InstanceStatus.IDLE)
            site.idle.setdefault(job.said.shape, {})[machine.name] = machine
            self.feed(site, job.said.shape)
        machine.view = None
        if any(each.ready for each in self.active[job.said.account_id].values()):
            self.ask_to_admit(job.said.account_id)
        if machine.job is None and self.now_s - site.shrunk_at_s >= self.pace.free_pause_s:
            site.shrunk_at_s = self.now_s
            self.ask_to_scale(site, site.orchestrator.idle_s)

    # Machines

    def ask_for(self, site: Site, pool: PoolKey, name: str, boots_s: float | None) -> Machine:
        machine = Machine(name, pool, self.sites.index(site), self.now_s)
        machine.boots_s = boots_s
        site.machines[name] = machine
        site.sizes[pool] = site.sizes.get(pool, 0) + 1
        return machine

    def create(self, site: Site, pool: PoolKey, name: str) -> None:
        """Start one machine, as fast as the provider creates them."""
        cloud = site.cloud
        machine = self.ask_for(site, pool, name, cloud.boot.draw_s(site.weather, self.boots))
        machine.created_at_s = max(self.now_s, site.next_create_s)
        site.next_create_s = machine.created_at_s + 1 / cloud.create_per_s
        if cloud.is_resize_serial:
            site.resizing_until_s = machine.created_at_s + site.weather * cloud.boot.shift_s
        if machine.boots_s is not None:
            self.at(machine.created_at_s + machine.boots_s, self.join, site, machine)

    def join(self, site: Site, machine: Machine) -> None:
        """A machine has booted and the scheduler knows it."""
        if machine.gone_at_s is not None:
            return
        machine.up_at_s = machine.idle_since_s = self.now_s
        machine.become(InstanceStatus.IDLE)
        shape = Shape(*machine.pool[1:])
        site.idle.setdefault(shape, {})[machine.name] = machine
        per_hour = site.cloud.preempted_per_hour
        if machine.pool.is_preemptible and per_hour:
            lasts_s = self.chance.expovariate(per_hour / 3600)
            self.at(self.now_s + lasts_s, self.preempt, site, machine)
        self.feed(site, shape)
        if machine.job is None:
            self.ask_to_scale(site)

    def preempt(self, site: Site, machine: Machine) -> None:
        """The provider takes a machine back; its task goes to the end of the job's tasks that wait."""
        if machine.gone_at_s is not None:
            return
        job = machine.job
        if job is not None:
            lost_s = max(self.now_s - job.started.pop(machine.task), 0.0)
            self.outcome.lost(lost_s)
            job.lost_s[machine.task] = job.lost_s.get(machine.task, 0.0) + lost_s
            job.ended_count += 1
            job.ready.append(machine.task)
            self.ask_to_admit(job.said.account_id)
        self.remove(site, machine)

    def remove(self, site: Site, machine: Machine) -> None:
        machine.gone_at_s = self.now_s
        machine.job = None
        site.idle.get(Shape(*machine.pool[1:]), {}).pop(machine.name, None)
        del site.machines[machine.name]
        site.sizes[machine.pool] -= 1
        self.outcome.gone(machine, site.cloud.prices.get(Shape(*machine.pool[1:]), 0))

    # The autoscaler

    def tick_by_schedule(self, site: Site) -> None:
        policy = self.policies[self.sites.index(site)]
        if self.open_count or site.machines:
            self.at(self.now_s + policy.tick_s, self.tick_by_schedule, site)
        if site.machines or site.waiting_count:
            self.tick(site)

    def ask_to_scale(self, site: Site, later_s: float = 0.0) -> None:
        """Have a tick soon, if the policy looks when something happens; several who ask get one."""
        policy = self.policies[self.sites.index(site)]
        if policy.is_event_driven and not site.is_asked:
            site.is_asked = True
            soonest_s = max(self.now_s + later_s, site.ticked_at_s + self.pace.round_s)
            self.at(soonest_s, self.answer, site)

    def answer(self, site: Site) -> None:
        site.is_asked = False
        self.tick(site)

    def tick(self, site: Site) -> None:
        """Observe, decide, act."""
        site.ticked_at_s = self.now_s
        self.outcome.tick_count += 1
        index = self.sites.index(site)
        seen = observe(
            site,
            index,
            jobs={
                job: self.expected_s(job) for each in self.active.values() for job in each.values()
            },
            now_s=self.now_s,
            new_name=lambda: f"i-{next(self.numbers)}",
        )
        self.learn(site, [], seen.instances)
        decisions = self.policies[index].decide(replace(seen, orchestrator=site.orchestrator))
        if self.now_s < site.resizing_until_s:
            decisions = [replace(each, grow=()) for each in decisions]
        problems = [problem for each in decisions for problem in self.act(site, each)]
        self.learn(site, problems, seen.instances)
        if problems or any(each.drain for each in decisions):
            self.ask_to_scale(site)

    def learn(
        self, site: Site, problems: Sequence[FleetProblem], instances: Sequence[Instance]
    ) -> None:
        """Note which pools fail, and which work again."""
        site.orchestrator = learnt(site.orchestrator, problems, instances, moment(self.now_s))

    def expected_s(self, job: SimulatedJob) -> float | None:
        """Return what the core believes that an attempt of the job takes."""
        known: list[float] = []
        if job.known_s() is None:
            others = self.known[job.said.account_id, job.said.shape]
            known = [each for other in others if (each := other.known_s()) is not None]
        return job.expected_s(self.now_s, prior(known))

    def act(self, site: Site, decision: Decision) -> list[FleetProblem]:
        """Carry out a decision; returns what the provider could not do."""
        for name in decision.drain:
            machine = site.machines[name]
            machine.become(InstanceStatus.DRAINING)
            site.idle.get(Shape(*machine.pool[1:]), {}).pop(name, None)
        for name in decision.resume:
            machine = site.machines[name]
            machine.become(InstanceStatus.IDLE)
            site.idle.setdefault(Shape(*machine.pool[1:]), {})[name] = machine
        for name in decision.retire:
            self.remove(site, site.machines[name])
        if decision.resume:
            self.feed(site, Shape(*decision.pool[1:]))
        return self.grow(site, decision)

    def grow(self, site: Site, decision: Decision) -> list[FleetProblem]:
        """Ask the provider for machines; returns what it could not do."""
        if not decision.grow:
            return []
        stock = site.cloud.stock(decision.pool, self.now_s)
        left = len(decision.grow)
        if stock is not None:
            left = max(stock - site.sizes.get(decision.pool, 0), 0)
        for name in decision.grow[:left]:
            self.create(site, decision.pool, name)
        if left >= len(decision.grow):
            return []
        self.outcome.refused_count += len(decision.grow) - left
        return [
            FleetProblem(
                pool=decision.pool,
                code=ProblemCode.STOCK_OUT,
                message="no more of them",
                at=moment(self.now_s),
            )
        ]
