"""The list of active jobs: what admission and the sweep look at."""

from collections.abc import Sequence

from shared.models.job import JobRef
from shared.ports import Ports


def strike(account_id: str, job_ids: Sequence[str], ports: Ports) -> None:
    """Take ended jobs off the list; one that was retried meanwhile stays, whichever write came last."""
    if not job_ids:
        return
    ports.admission.strike(account_id, job_ids)
    for job in ports.jobs.jobs(JobRef(account_id, job_id) for job_id in job_ids):
        if not job.is_ended:
            ports.admission.activate(job.ref)
