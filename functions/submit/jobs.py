"""Jobs: submit, command. Who may: every token of the account; a submission is at most 32 MB."""

from flask import Request

from functions.submit.callers import caller
from shared import wiring
from shared.http import MIB, Reply, parse_object, read_body, read_json
from shared.schemas.commands import CommandSchema, TaskCommandSchema
from shared.schemas.loading import load
from shared.services.commands import command_jobs, command_tasks, edit_jobs
from shared.services.submit import submit_job

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


def jobs_multi(request: Request) -> Reply:
    """Give one command to several jobs."""
    principal = caller(request)
    said = load(_COMMAND, read_json(request, MIB))
    job_ids = [job_id.zfill(5) for job_id in said["jobids"]]
    if "changes" in said:
        catalog = wiring.catalog_store()
        edit_jobs(principal, said["changes"], job_ids, wiring.ports(), catalog)
    else:
        command_jobs(principal, said["action"], job_ids, wiring.ports())
    return {"body": "success", "message": f"{said['action']}: {len(job_ids)} jobs"}


def tasks_multi(request: Request) -> Reply:
    """Give one command to several tasks of a job."""
    principal = caller(request)
    said = load(_TASK_COMMAND, read_json(request, MIB))
    task_ids = [task_id.zfill(3) for task_id in said["taskids"]]
    command_tasks(principal, said["action"], said["jobid"].zfill(5), task_ids, wiring.ports())
    return {"body": "success", "message": f"{said['action']}: {len(task_ids)} tasks"}
