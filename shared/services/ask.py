"""Ask for work that many may ask for at once: summing a job, a tick of the autoscaler."""

from collections.abc import Hashable
from datetime import datetime, timedelta

from shared.models.job import Job, JobRef, JobStatus
from shared.ports import Ports

# What nobody waits for is asked for at most this often by one process; the schedule makes up for what it leaves out.
_SETTLE_PAUSE = timedelta(seconds=1)
_RUNS_PAUSE = timedelta(seconds=0.2)
_METER_PAUSE = timedelta(seconds=60)
_SHRINK_PAUSE = timedelta(seconds=5)
_REMEMBERED = 10_000

_asked: dict[Hashable, datetime] = {}


def ask_to_settle(ref: JobRef, ports: Ports, *, is_urgent: bool) -> None:
    """Have the job summed soon; what is not urgent is passed over when it was asked for a moment ago."""
    if _is_first(ref, ports.now(), _SETTLE_PAUSE) or is_urgent:
        ports.bus.publish("settle", [{"account_id": ref.account_id, "job_id": ref.job_id}])


def ask_to_tell_that_it_runs(job: Job, ports: Ports) -> None:
    """Have a job summed of which a task has just begun: at once while it does not say that it runs."""
    is_told = job.status is JobStatus.RUNNING
    is_first = job.started_at is None
    is_due = is_first or (not is_told and _is_first((job.ref, "runs"), ports.now(), _RUNS_PAUSE))
    ask_to_settle(job.ref, ports, is_urgent=is_due)


def ask_to_scale(orchestrator_id: str, ports: Ports) -> None:
    """Have a tick at once, because something began to wait or nothing waits any more; several who ask get one."""
    if orchestrator_id:
        ports.bus.publish("scale", [{"orchestrator_id": orchestrator_id}])


def ask_to_shrink(orchestrator_id: str, ports: Ports) -> None:
    """Have a tick, because machines got free and nothing waits; passed over when it was asked for a moment ago."""
    if _is_first(("shrink", orchestrator_id), ports.now(), _SHRINK_PAUSE):
        ask_to_scale(orchestrator_id, ports)


def ask_to_meter(account_id: str, ports: Ports) -> None:
    """Have the present day summed; passed over when it was asked for a minute ago."""
    now = ports.now()
    date = now.date().isoformat()
    if _is_first((account_id, date), now, _METER_PAUSE):
        ports.bus.publish("meter", [{"account_id": account_id, "date": date}])


def _is_first(key: Hashable, now: datetime, pause: timedelta) -> bool:
    asked = _asked.get(key)
    if asked is not None and now - asked < pause:
        return False
    if len(_asked) >= _REMEMBERED:
        _asked.clear()
    _asked[key] = now
    return True
