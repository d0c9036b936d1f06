"""Evaluations and placements of batch jobs.

Every group of a job has `Count` slots, named `job.group[0]` and on. A slot is settled when its
newest allocation is live, has completed, or has failed for good; otherwise it is filled, now or
when a node can take it.
"""

import asyncio
import time
from collections.abc import Iterator

from emulators.nomad.constraints import demand_of
from emulators.nomad.documents import metrics, new_alloc, new_eval
from emulators.nomad.state import TERMINAL, State, Wire, is_live

_NS = 1_000_000_000


def is_parameterized(job: Wire) -> bool:
    """Return whether a job only serves to be dispatched."""
    return job["ParameterizedJob"] is not None and not job["Dispatched"]


def group_of(alloc: Wire) -> Wire:
    """Return the task group of an allocation, as it was when it was placed."""
    groups: list[Wire] = alloc["Job"]["TaskGroups"]
    return next(group for group in groups if group["Name"] == alloc["TaskGroup"])


def may_be_replaced_when_lost(group: Wire) -> bool:
    """Return whether Nomad replaces a lost allocation of `group`: always, unless told not to."""
    disconnect = group.get("Disconnect") or {}
    return not group.get("PreventRescheduleOnLost") and disconnect.get("Replace") is not False


class Scheduler:
    """Keeps the slots of every job filled."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._slots: dict[str, tuple[str, str]] = {}  # waiting slot: (job id, group name)
        self._blocked: dict[str, Wire] = {}  # job id: its blocked evaluation
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def recover(self) -> None:
        """Take up the work that the tables show as unfinished."""
        for node in self._state.nodes.values():
            self._state.seat(node)
        for eval_ in self._state.evals.values():
            if eval_["Status"] == "blocked":
                self._blocked[eval_["JobID"]] = eval_
        for job in sorted(self._state.jobs.values(), key=lambda job: job["JobModifyIndex"]):
            if job["ID"] in self._blocked:
                self._fill(job, None)
            elif job["Status"] != "dead":
                self._recover_timers(job)
        for node_id in self._state.nodes:
            self.use_node(node_id)
        self._state.flush()

    def _recover_timers(self, job: Wire) -> None:
        newest = {alloc["Name"]: alloc for alloc in self._state.job_allocs(job["ID"])}
        for group, name in self._names(job):
            if (due_s := self._due_in(newest.get(name), job, group)) is not None:
                self._evaluate_later(job["ID"], due_s)

    def reset(self) -> None:
        """Forget all work."""
        for timer in self._timers.values():
            timer.cancel()
        for kept in (self._slots, self._blocked, self._timers):
            kept.clear()

    def evaluate(self, job: Wire, triggered_by: str, *, node_id: str = "") -> Wire:
        """Bring a job to what it shall be; return the evaluation that did."""
        eval_ = new_eval(job, triggered_by, node_id=node_id)
        self._state.save_eval(eval_)
        self._stop_superseded(job)
        failed = self._fill(job, eval_)
        eval_["FailedTGAllocs"] = failed or None
        queued = {group["Name"]: self._queued(job, group) for group in job["TaskGroups"]}
        eval_["QueuedAllocations"] = queued
        if any(queued.values()) and job["ID"] not in self._blocked:
            blocked = new_eval(job, "queued-allocs")
            blocked |= {"Status": "blocked", "PreviousEval": eval_["ID"]}
            blocked["StatusDescription"] = "created to place remaining allocations"
            blocked["QueuedAllocations"] = queued
            self._state.save_eval(blocked)
            self._blocked[job["ID"]] = blocked
        if any(queued.values()):
            eval_["BlockedEval"] = self._blocked[job["ID"]]["ID"]
        eval_["Status"] = "complete"
        self._state.save_eval(eval_)
        self._settle_job(job)
        return eval_

    def use_node(self, node_id: str) -> None:
        """Place on a node whatever waits and fits."""
        for slot in self._state.placement.take(node_id):
            job_id, group_name = self._slots.pop(slot)
            job = self._state.jobs[job_id]
            group = next(group for group in job["TaskGroups"] if group["Name"] == group_name)
            blocked = self._blocked[job_id]
            self._place(job, group, slot, node_id, blocked)
            self._settle_blocked(job, blocked)
            self._settle_job(job)

    def free(self, alloc: Wire) -> None:
        """Give back what an allocation, over by now, had taken of its node."""
        node_id = alloc["NodeID"]
        self._state.placement.release(node_id, self._state.taken_by(alloc))
        if node_id in self._state.nodes:
            self.use_node(node_id)

    def stop_alloc(self, alloc: Wire, description: str, *, replace: bool = False) -> None:
        """Have the client end an allocation; `replace` puts another one into its slot."""
        alloc |= {"DesiredStatus": "stop", "DesiredDescription": description}
        if replace:
            alloc["DesiredTransition"] = {**alloc["DesiredTransition"], "Migrate": True}
        self._state.save_alloc(alloc, is_by_server=True)

    def job_over(self, job: Wire) -> None:
        """Stop everything of a job that is being deregistered."""
        self._withdraw(job, keep=set())
        for alloc in self._state.job_allocs(job["ID"]):
            if is_live(alloc):
                self.stop_alloc(alloc, "alloc not needed due to job update")
        self._settle_job(job)

    def settle(self, job_id: str) -> None:
        """Write the status that a job has by now."""
        if (job := self._state.jobs.get(job_id)) is not None:
            self._settle_job(job)

    def _names(self, job: Wire) -> Iterator[tuple[Wire, str]]:
        """Yield every slot that the job shall have, with its group."""
        if job["Stop"] or is_parameterized(job):
            return
        for group in job["TaskGroups"]:
            for number in range(group["Count"]):
                yield group, f"{job['ID']}.{group['Name']}[{number}]"

    def _stop_superseded(self, job: Wire) -> None:
        """End what an older version of the job, or a slot that it has no more, left running."""
        wanted = {name for _, name in self._names(job)}
        self._withdraw(job, keep=wanted)
        for alloc in self._state.job_allocs(job["ID"]):
            if is_live(alloc) and (
                alloc["Name"] not in wanted or alloc["JobVersion"] != job["Version"]
            ):
                self.stop_alloc(alloc, "alloc is being updated due to job update")

    def _withdraw(self, job: Wire, keep: set[str]) -> None:
        """Take the job's slots out of the queue, except those to keep; close its blocked eval."""
        prefix = job["ID"]
        waiting = [name for name, (job_id, _) in self._slots_of(prefix) if name not in keep]
        for name in waiting:
            self._state.placement.cancel(name)
            del self._slots[name]
        blocked = self._blocked.get(prefix)
        if blocked is not None and not any(True for _ in self._slots_of(prefix)):
            blocked |= {
                "Status": "canceled",
                "StatusDescription": "canceled after more recent eval",
            }
            self._state.save_eval(blocked)
            del self._blocked[prefix]

    def _slots_of(self, job_id: str) -> list[tuple[str, tuple[str, str]]]:
        """Return the waiting slots of a job. They are looked up by name: jobs may be many."""
        job = self._state.jobs[job_id]
        names = [
            f"{job_id}.{group['Name']}[{number}]"
            for group in job["TaskGroups"]
            for number in range(group["Count"])
        ]
        return [(name, self._slots[name]) for name in names if name in self._slots]

    def _queued(self, job: Wire, group: Wire) -> int:
        names = (name for g, name in self._names(job) if g is group)
        return sum(name in self._slots for name in names)

    def _fill(self, job: Wire, eval_: Wire | None) -> dict[str, Wire]:
        """Place or queue every unsettled slot; return the metrics of what found no node, by group."""
        failed: dict[str, Wire] = {}
        newest = {alloc["Name"]: alloc for alloc in self._state.job_allocs(job["ID"])}
        for group, name in self._names(job):
            if name in self._slots:
                continue
            due_s = self._due_in(newest.get(name), job, group)
            if due_s is None:
                continue
            if due_s > 0:
                self._evaluate_later(job["ID"], due_s)
                continue
            demand = demand_of(job, group)
            if eval_ is not None and (node_id := self._state.placement.find(demand)) is not None:
                self._place(job, group, name, node_id, eval_)
                continue
            self._slots[name] = (job["ID"], group["Name"])
            self._state.placement.wait(name, demand, job["Priority"], job["JobModifyIndex"])
            found = metrics(self._state.placement.shortage(demand), job)
            if group["Name"] in failed:
                found["CoalescedFailures"] = failed[group["Name"]]["CoalescedFailures"] + 1
            failed[group["Name"]] = found
        return failed

    def _due_in(self, alloc: Wire | None, job: Wire, group: Wire) -> float | None:
        """Return in how many seconds a slot with this newest allocation must be filled."""
        if alloc is None or alloc["JobVersion"] != job["Version"]:
            return 0
        if alloc["DesiredTransition"].get("Migrate"):
            return 0
        if alloc["ClientStatus"] == "lost":
            return 0 if may_be_replaced_when_lost(group) else None
        if alloc["ClientStatus"] != "failed" or alloc["DesiredStatus"] != "run":
            return None
        policy = group["ReschedulePolicy"]
        events = (alloc.get("RescheduleTracker") or {}).get("Events") or []
        since = time.time_ns() - policy["Interval"]
        recent = sum(event["RescheduleTime"] >= since for event in events)
        if not policy["Unlimited"] and recent >= policy["Attempts"]:
            return None
        due_ns = alloc["ModifyTime"] + policy["Delay"] - time.time_ns()
        return max(float(due_ns) / _NS, 0.0)

    def _evaluate_later(self, job_id: str, due_s: float) -> None:
        def evaluate() -> None:
            del self._timers[job_id]
            if (job := self._state.jobs.get(job_id)) is not None and not job["Stop"]:
                self.evaluate(job, "failed-follow-up")
                self._state.flush()

        if job_id not in self._timers:
            loop = asyncio.get_running_loop()
            self._timers[job_id] = loop.call_later(due_s + 0.005, evaluate)

    def _place(self, job: Wire, group: Wire, name: str, node_id: str, eval_: Wire) -> None:
        node = self._state.nodes[node_id]
        quantity = demand_of(job, group).quantity
        previous = next(
            (a for a in reversed(self._state.job_allocs(job["ID"])) if a["Name"] == name), None
        )
        alloc = new_alloc(job, group, name, node=node, eval_=eval_, quantity=quantity)
        if previous is not None and previous["JobVersion"] == job["Version"]:
            self._succeed(previous, alloc)
        self._state.placement.occupy(node_id, quantity)
        self._state.save_alloc(alloc, is_by_server=True)

    def _succeed(self, previous: Wire, alloc: Wire) -> None:
        """Chain a replacement to the allocation that it replaces."""
        alloc["PreviousAllocation"] = previous["ID"]
        events = list((previous.get("RescheduleTracker") or {}).get("Events") or [])
        if previous["ClientStatus"] == "failed":
            events.append(
                {
                    "PrevAllocID": previous["ID"],
                    "PrevNodeID": previous["NodeID"],
                    "RescheduleTime": time.time_ns(),
                    "Delay": group_of(previous)["ReschedulePolicy"]["Delay"],
                }
            )
        alloc["RescheduleTracker"] = {"Events": events} if events else None
        previous["NextAllocation"] = alloc["ID"]
        if previous["DesiredStatus"] == "run":
            previous["DesiredStatus"] = "stop"
            previous["DesiredDescription"] = "alloc was rescheduled because it failed"
        self._state.save_alloc(previous, is_by_server=False)

    def _settle_blocked(self, job: Wire, blocked: Wire) -> None:
        """Complete a job's blocked evaluation once nothing of it waits."""
        queued = {group["Name"]: self._queued(job, group) for group in job["TaskGroups"]}
        blocked["QueuedAllocations"] = queued
        if not any(queued.values()):
            blocked |= {"Status": "complete", "StatusDescription": ""}
            del self._blocked[job["ID"]]
        self._state.save_eval(blocked)

    def _settle_job(self, job: Wire) -> None:
        status = self._status(job)
        if job["Status"] != status:
            job["Status"] = status
            self._state.save_job(job)

    def _status(self, job: Wire) -> str:
        if job["Stop"]:
            return "dead"
        if is_parameterized(job):
            return "running"
        if any(a["ClientStatus"] not in TERMINAL for a in self._state.job_allocs(job["ID"])):
            return "running"
        return "pending" if job["ID"] in self._blocked or job["ID"] in self._timers else "dead"
