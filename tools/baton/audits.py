"""`baton audit`: do jobs, pages, tasks and ledger agree?"""

import click

from shared import wiring
from shared.services.administration import known_account
from shared.services.audit import audit as audit_jobs
from tools.baton.answers import Answer, Findings, answers


@click.group()
def audit() -> None:
    """The books: jobs, pages, tasks and ledger."""


@audit.command("run")
@click.argument("account_id")
@click.option(
    "--job",
    "job_ids",
    multiple=True,
    help="Only this job, ended or not; repeatable. Else all active jobs.",
)
@answers
def run_audit(account_id: str, job_ids: tuple[str, ...]) -> Answer:
    """Check the books of an account against the invariants of docs/operations.md; the exit code is 1 if one is broken.

    A job at work may change between two reads: look again before you believe a finding.
    """
    known_account(account_id, wiring.account_store())
    ports = wiring.ports()
    wanted = [each.zfill(5) for each in job_ids] or ports.admission.active_job_ids(account_id)
    broken = audit_jobs(account_id, wanted, ports)
    told = {"account_id": account_id, "job_count": len(wanted), "broken": broken}
    if broken:
        raise Findings(told)
    return told
