"""The jobs of AWS Batch, on queues and definitions that moto keeps: moto's own jobs need Docker, or end at once.

What Batch does by itself, starting hosts for a queue, is ordered here, and so is what happens on a host:
`POST /hosts/join {"name", "queue", "gpus": 0}`, `leave {"name"}` (its machine is gone), `start {"name"}` (its
containers run), `end {"name", "exit_code", "reason"}`, and `work {"name"}`, which answers with the environments of what
it shall run.
Source: https://docs.aws.amazon.com/batch/latest/APIReference/, read 2026-11.
"""

import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from moto.batch.models import batch_backends
from moto.core.models import DEFAULT_ACCOUNT_ID

from emulators.aws.answers import Answer, Refused, json_answer

MOST_PER_PAGE = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

Wire = dict[str, Any]


@dataclass
class Job:
    """A job; `tries` is how often it may still be started."""

    job_id: str
    arn: str
    queue: str
    asked: Wire
    tries: int
    created_at: int
    status: str = "RUNNABLE"
    reason: str = ""
    host: str = ""
    started_at: int | None = None
    stopped_at: int | None = None
    container: Wire = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    is_terminated: bool = False

    @property
    def is_over(self) -> bool:
        return self.status in ("SUCCEEDED", "FAILED")


class Jobs:
    """All jobs, and the hosts that Batch would have started."""

    def __init__(self) -> None:
        self._calls = {
            "submitjob": self._submit,
            "listjobs": self._list,
            "describejobs": self._describe,
            "terminatejob": self._terminate,
            "canceljob": self._cancel,
        }
        self.reset()

    def reset(self) -> None:
        """Forget all jobs and hosts."""
        self._jobs: dict[str, Job] = {}
        self._hosts: dict[str, tuple[str, int]] = {}  # its queue, and how many GPUs it has

    def answer(self, region: str, method: str, path: str, body: Wire) -> Answer | None:
        """Answer a call about jobs; None for those about queues and definitions. Raises: Refused."""
        if path.startswith("/v1/tags/") and ":job/" in unquote(path):
            job = next(j for j in self._jobs.values() if unquote(path).endswith(j.arn))
            if method == "POST":
                job.tags |= body["tags"]
            return json_answer({"tags": job.tags} if method == "GET" else {})
        call = self._calls.get(path.removeprefix("/v1/"))
        return None if call is None else json_answer(call(region, body))

    def control(self, order: str, said: Wire) -> Any:
        """Carry out what happens to a host. Raises: ValueError, KeyError."""
        name = said["name"]
        mine = [job for job in self._jobs.values() if job.host == name and not job.is_over]
        if order == "join":
            self._hosts[name] = (said["queue"], int(said.get("gpus", 0)))
        elif order == "leave":
            del self._hosts[name]
            for job in mine:
                self._end(job, "FAILED", f"Host EC2 (instance {name}) terminated.", {})
        elif order == "work":
            return [_environment(job) for job in mine if not job.is_terminated]
        elif order == "start":
            for job in mine:
                job.status, job.started_at = "RUNNING", job.started_at or _now()
        elif order == "end":
            code, why = int(said.get("exit_code", 0)), said.get("reason")
            container = {"exitCode": code} | ({"reason": why} if why else {})
            for job in mine:
                status = "FAILED" if code or job.is_terminated else "SUCCEEDED"
                reason = job.reason or "Essential container in task exited"
                self._end(job, status, reason, container)
        else:
            raise ValueError(f"nothing called {order!r} happens to hosts")
        self._place()
        return {}

    def _submit(self, region: str, body: Wire) -> Wire:
        backend = batch_backends[DEFAULT_ACCOUNT_ID][region]
        queue = backend.get_job_queue(body["jobQueue"])
        if queue is None or queue.state != "ENABLED":
            raise Refused("ClientException", f"Job queue {body['jobQueue']} is not valid")
        if backend.get_job_definition(body["jobDefinition"]) is None:
            raise Refused("ClientException", f"JobDefinition {body['jobDefinition']} not found")
        if not _NAME.fullmatch(body["jobName"]):
            raise Refused("ClientException", f"jobName {body['jobName']!r} is not valid")
        shares = {"shareIdentifier", "schedulingPriorityOverride"} & body.keys()
        if bool(shares) != bool(queue.schedule_policy):
            said = "shareIdentifier goes with a fair share queue, and with no other"
            raise Refused("ClientException", said)
        job_id = str(uuid.uuid4())
        job = Job(
            job_id=job_id,
            arn=f"arn:aws:batch:{region}:{DEFAULT_ACCOUNT_ID}:job/{job_id}",
            queue=queue.name,
            asked=body,
            tries=body.get("retryStrategy", {}).get("attempts", 1),
            created_at=max([_now(), *(each.created_at + 1 for each in self._jobs.values())]),
            tags=dict(body.get("tags", {})),
        )
        self._jobs[job_id] = job
        self._place()
        return {"jobArn": job.arn, "jobId": job_id, "jobName": body["jobName"]}

    def _list(self, region: str, body: Wire) -> Wire:
        queue = batch_backends[DEFAULT_ACCOUNT_ID][region].get_job_queue(body["jobQueue"])
        if queue is None:
            raise Refused("ClientException", f"Job queue {body['jobQueue']} does not exist")
        found = [job for job in self._jobs.values() if job.queue == queue.name]
        if filters := body.get("filters"):
            (only,) = filters
            found = [job for job in found if _passes(job, only["name"], only["values"])]
        else:
            found = [job for job in found if job.status == body.get("jobStatus", "RUNNING")]
        found.sort(key=lambda job: -job.created_at)
        first = int(body.get("nextToken") or 0)
        last = first + min(body.get("maxResults", MOST_PER_PAGE), MOST_PER_PAGE)
        more = {"nextToken": str(last)} if last < len(found) else {}
        return {"jobSummaryList": [_summary(job) for job in found[first:last]], **more}

    def _describe(self, _: str, body: Wire) -> Wire:
        if len(body["jobs"]) > MOST_PER_PAGE:
            raise Refused("ClientException", f"at most {MOST_PER_PAGE} jobs in one call")
        found = [self._jobs[each] for each in body["jobs"] if each in self._jobs]
        return {"jobs": [_detail(job) for job in found]}

    def _terminate(self, _: str, body: Wire) -> Wire:
        job = self._jobs.get(body["jobId"])
        if job is None or job.is_over:
            return {}
        if job.host:
            job.is_terminated, job.reason, job.tries = True, body["reason"], 0
        else:
            job.tries = 0
            self._end(job, "FAILED", body["reason"], {})
        return {}

    def _cancel(self, region: str, body: Wire) -> Wire:
        job = self._jobs.get(body["jobId"])
        return {} if job is None or job.host else self._terminate(region, body)

    def _end(self, job: Job, status: str, reason: str, container: Wire) -> None:
        if status == "FAILED" and job.tries > 1:
            job.tries -= 1
            job.status, job.host, job.started_at = "RUNNABLE", "", None
            return
        job.status, job.reason, job.container = status, reason, container
        job.stopped_at = _now()

    def _place(self) -> None:
        """Give each free host the first job of its queue; a share's priorities count before age."""
        busy = {job.host for job in self._jobs.values() if not job.is_over}
        for host, (queue, gpus) in self._hosts.items():
            waiting = [
                job
                for job in self._jobs.values()
                if (job.queue, job.status) == (queue, "RUNNABLE") and _gpus(job) <= gpus
            ]
            if host not in busy and waiting:
                rank = min(waiting, key=lambda j: (-_priority(j), j.created_at))
                rank.status, rank.host = "STARTING", host


def _priority(job: Job) -> int:
    return int(job.asked.get("schedulingPriorityOverride", 0))


def _gpus(job: Job) -> int:
    needs = job.asked.get("containerOverrides", {}).get("resourceRequirements", ())
    return sum(int(each["value"]) for each in needs if each["type"] == "GPU")


def _passes(job: Job, name: str, values: list[str]) -> bool:
    if name == "JOB_NAME":
        own = job.asked["jobName"].lower()
        patterns = [value.lower() for value in values]
        return any(own.startswith(p[:-1]) if p.endswith("*") else own == p for p in patterns)
    if name == "AFTER_CREATED_AT":
        return job.created_at > int(values[0])
    if name == "BEFORE_CREATED_AT":
        return job.created_at < int(values[0])
    raise Refused("ClientException", f"no filter {name!r}")


def _environment(job: Job) -> dict[str, str]:
    said = job.asked.get("containerOverrides", {}).get("environment", ())
    return {each["name"]: each["value"] for each in said}


def _summary(job: Job) -> Wire:
    times = {"createdAt": job.created_at, "startedAt": job.started_at, "stoppedAt": job.stopped_at}
    return {
        "jobArn": job.arn,
        "jobId": job.job_id,
        "jobName": job.asked["jobName"],
        "status": job.status,
        "container": dict(job.container),
        **{name: value for name, value in times.items() if value is not None},
        **({"statusReason": job.reason} if job.reason else {}),
    }


def _detail(job: Job) -> Wire:
    overrides = job.asked.get("containerOverrides", {})
    cluster = f"arn:aws:ecs:us-east-1:{DEFAULT_ACCOUNT_ID}:container-instance/AWSBatch-{job.queue}"
    host = {"containerInstanceArn": f"{cluster}/{job.host}"} if job.host else {}
    return {
        **_summary(job),
        "jobQueue": job.queue,
        "jobDefinition": job.asked["jobDefinition"],
        "tags": dict(job.tags),
        "container": {**job.container, **overrides, **host},
    }


def _now() -> int:
    return int(time.time() * 1000)
