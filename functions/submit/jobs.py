"""Jobs: submit, list, command. Who may: every token of the account; a submission is at most 32 MB."""

import re
from typing import Any

from flask import Request

from functions.submit.callers import caller
from shared import wiring
from shared.errors import InvalidRequest
from shared.http import MIB, Reply, parse_object, read_body, read_json
from shared.models.job import Job
from shared.schemas.commands import CommandSchema, TaskCommandSchema
from shared.schemas.loading import load
from shared.services.commands import command_jobs, command_tasks, list_jobs
from shared.services.submit import submit_job

_BOUND = re.compile(r"jid_(gt|lt)_(-?[0-9]{1,12})")
_COMMAND = CommandSchema()
_TASK_COMMAND = TaskCommandSchema()


def submit(request: Request) -> Reply:
    """Make a submission a job. The clients accept 201 only, and link to `uri`."""
    principal = caller(request)
    body = read_body(request)
    job_id = submit_job(principal, body, parse_object(body), wiring.ports(), wiring.catalog_store())
    accepted = {
        "jobid": job_id,
        "uri": f"/jobs/{job_id}",
        "status": "success",
        "body": "job submitted.",
    }
    return accepted, 201


def jobs(request: Request) -> Reply:
    """List jobs between two ids, e.g. `?filter=jid_gt_00122,jid_lt_00124`."""
    principal = caller(request)
    bounds = {"gt": "", "lt": ""}
    for text in filter(None, request.args.get("filter", "").split(",")):
        matched = _BOUND.fullmatch(text.strip())
        if matched is None:
            raise InvalidRequest({"filter": f"{text!r} is neither jid_gt_ID nor jid_lt_ID"})
        # asked for job 0, the clients name the bound -0001
        bounds[matched[1]] = str(max(int(matched[2]), 0)).zfill(5)
    found = list_jobs(principal, bounds["gt"], bounds["lt"], wiring.ports())
    return {"data": [_listed(job) for job in found]}


def _listed(job: Job) -> dict[str, Any]:
    return {
        "jid": job.job_id,
        "title": job.title,
        "project": job.project,
        "owner": job.owner,
        "status": job.status.value,
        "instance_type": job.instance_type,
        "preemptible": job.is_preemptible,
        "priority": job.priority,
        "output_path": job.output_path,
        "task_count": job.task_count,
        "counts": {status.value: count for status, count in job.counts.items()},
        "cost": job.cost_micros / 1_000_000,
        "created_at": job.created_at.isoformat(),
        "metadata": dict(job.metadata),
    }


def jobs_multi(request: Request) -> Reply:
    """Give one command to several jobs."""
    principal = caller(request)
    said = load(_COMMAND, read_json(request, MIB))
    job_ids = [job_id.zfill(5) for job_id in said["jobids"]]
    command_jobs(principal, said["action"], job_ids, wiring.ports())
    return {"body": "success", "message": f"{said['action']}: {len(job_ids)} jobs"}


def tasks_multi(request: Request) -> Reply:
    """Give one command to several tasks of a job."""
    principal = caller(request)
    said = load(_TASK_COMMAND, read_json(request, MIB))
    task_ids = [task_id.zfill(3) for task_id in said["taskids"]]
    command_tasks(principal, said["action"], said["jobid"].zfill(5), task_ids, wiring.ports())
    return {"body": "success", "message": f"{said['action']}: {len(task_ids)} tasks"}
