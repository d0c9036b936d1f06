"""What people and drivers do to jobs: register, deregister, dispatch; and garbage collection."""

import time

from emulators.nomad.errors import NomadError, not_found, refused
from emulators.nomad.jobspec import canonical, dispatched, is_same_specification
from emulators.nomad.scheduling import Scheduler, is_parameterized
from emulators.nomad.state import TERMINAL, State, Wire

_ENFORCING = "Enforcing job modify index"


def register(state: State, scheduler: Scheduler, body: Wire) -> Wire:
    """Create or change a job. Raises: NomadError."""
    if not isinstance(body.get("Job"), dict):
        raise NomadError(400, "Job must be specified")
    job = canonical(body["Job"])
    known = state.jobs.get(job["ID"])
    if body.get("EnforceIndex"):
        _enforce(known, body.get("JobModifyIndex") or 0)
    if known is not None and is_parameterized(known) != is_parameterized(job):
        raise refused("cannot update a job to or from being parameterized")
    return _submit(state, scheduler, job, known)


def _enforce(known: Wire | None, index: int) -> None:
    """Compare and set: refuse unless the job is as the caller last saw it."""
    if known is None:
        if index != 0:
            raise refused(f"{_ENFORCING} {index}: job does not exist")
    elif index == 0:
        raise refused(f"{_ENFORCING} 0: job already exists")
    elif index != known["JobModifyIndex"]:
        raise refused(
            f"{_ENFORCING} {index}: job exists with conflicting job modify index: "
            f"{known['JobModifyIndex']}"
        )


def _submit(state: State, scheduler: Scheduler, job: Wire, known: Wire | None) -> Wire:
    if known is not None and not known["Stop"] and is_same_specification(known, job):
        job = known
    else:
        job |= {
            "Status": "pending", "StatusDescription": "", "Stop": False,
            "Version": 0 if known is None else known["Version"] + 1,
            "SubmitTime": time.time_ns(),
        }  # fmt: skip
        if known is not None:
            job["CreateIndex"] = known["CreateIndex"]
        state.save_job(job, is_registered=True)
    answer = {"JobModifyIndex": job["JobModifyIndex"], "Warnings": ""}
    if is_parameterized(job):
        scheduler.settle(job["ID"])
        return answer | {"EvalID": "", "EvalCreateIndex": 0, "Index": state.index}
    eval_ = scheduler.evaluate(job, "job-register")
    return answer | {
        "EvalID": eval_["ID"], "EvalCreateIndex": eval_["CreateIndex"], "Index": state.index,
    }  # fmt: skip


def deregister(state: State, scheduler: Scheduler, job_id: str, *, purge: bool) -> Wire:
    """Stop a job; `purge` forgets it at once. A job that does not exist is no error."""
    job = state.jobs.get(job_id)
    if job is None:
        return {"EvalID": "", "EvalCreateIndex": 0, "JobModifyIndex": 0, "Index": state.index}
    scheduler.job_over(job)
    job |= {"Stop": True, "Status": "dead"}
    state.save_job(job, is_registered=True)
    eval_ = scheduler.evaluate(job, "job-deregister")
    if purge:
        state.drop_job(job_id)
    return {
        "EvalID": eval_["ID"], "EvalCreateIndex": eval_["CreateIndex"],
        "JobModifyIndex": job["JobModifyIndex"], "Index": state.index,
    }  # fmt: skip


def dispatch(state: State, scheduler: Scheduler, job_id: str, body: Wire, token: str) -> Wire:
    """Start a child of a parameterized job; the same token again returns the same child."""
    parent = state.jobs.get(job_id)
    if parent is None:
        raise refused("parameterized job not found")
    child = dispatched(parent, body, token)
    if token and (known_id := state.children.get((job_id, token))) is not None:
        known = state.jobs[known_id]
        return {
            "DispatchedJobID": known_id, "JobCreateIndex": known["CreateIndex"], "EvalID": "",
            "EvalCreateIndex": 0, "Index": known["ModifyIndex"],
        }  # fmt: skip
    for name in ("CreateIndex", "ModifyIndex", "JobModifyIndex"):
        child.pop(name)
    answer = _submit(state, scheduler, child, None)
    return {
        "DispatchedJobID": child["ID"], "JobCreateIndex": child["CreateIndex"],
        "EvalID": answer["EvalID"], "EvalCreateIndex": answer["EvalCreateIndex"],
        "Index": answer["Index"],
    }  # fmt: skip


def stop_alloc(state: State, scheduler: Scheduler, alloc_id: str) -> Wire:
    """Stop one allocation; its job puts another in its place. Raises: NomadError 404."""
    alloc = state.alloc(alloc_id)
    if alloc["JobID"] not in state.jobs:
        raise not_found("job")
    if alloc["ClientStatus"] not in TERMINAL:
        scheduler.stop_alloc(alloc, "alloc was stopped by a user", replace=True)
    eval_ = scheduler.evaluate(state.jobs[alloc["JobID"]], "alloc-stop")
    return {"EvalID": eval_["ID"], "Index": state.index}


def collect_garbage(state: State, *, job_age_s: float, node_age_s: float) -> None:
    """Forget dead jobs with all that is theirs, and nodes that have long been down."""
    jobs_before, nodes_before = time.time() - job_age_s, time.time() - node_age_s
    for job in list(state.jobs.values()):
        if job["Status"] == "dead" and _newest_s(state, job) <= jobs_before:
            _drop_family(state, job["ID"])
            state.drop_job(job["ID"])
            state.forget_topics(job["ID"])
    for job_id in list(state.evals_of_job.keys() | state.allocs_of_job.keys()):
        if job_id not in state.jobs and _is_over(state, job_id):
            _drop_family(state, job_id)
            state.forget_topics(job_id)
    for node in list(state.nodes.values()):
        is_old = node["Status"] == "down" and node["StatusUpdatedAt"] <= nodes_before
        if is_old and not state.node_allocs(node["ID"]):
            state.drop_node(node["ID"])


def _is_over(state: State, job_id: str) -> bool:
    return all(alloc["ClientStatus"] in TERMINAL for alloc in state.job_allocs(job_id))


def _newest_s(state: State, job: Wire) -> float:
    """Return when anything of a dead job last changed; never, while something still ends."""
    if not _is_over(state, job["ID"]):
        return float("inf")
    objects = [*state.job_allocs(job["ID"]), *state.job_evals(job["ID"])]
    times = [job["SubmitTime"], *(found["ModifyTime"] for found in objects)]
    return float(max(times)) / 1e9


def _drop_family(state: State, job_id: str) -> None:
    for alloc in state.job_allocs(job_id):
        state.drop_alloc(alloc["ID"])
    for eval_ in state.job_evals(job_id):
        state.drop_eval(eval_["ID"])
