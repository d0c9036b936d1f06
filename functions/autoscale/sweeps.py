"""The sweep of some jobs, or pages of one, and of what waits at an orchestrator, with what the schedulers list now."""

import math
import time
from collections.abc import Mapping, Sequence
from threading import Lock

from shared import wiring
from shared.log import log, reason_of
from shared.messages import read_id, read_ids, read_job, read_numbers
from shared.models.farm import Placement
from shared.services.sweep import cancel_stale, sweep_jobs, sweep_pages

# Many jobs are swept within seconds of each other, some side by side: they share a look, or that there could be none.
# It is younger than what the sweep waits before it takes something for missing.
_SHARED_S = 10
_looks: dict[str, tuple[float, Sequence[Placement] | None]] = {}
_looking: dict[str, Lock] = {}


def sweep_asked(message: Mapping[str, object]) -> None:
    """Sweep whatever a message names."""
    if "job_ids" in message:
        account_id, job_ids = read_id(message, "account_id"), read_ids(message, "job_ids")
        sweep_jobs(account_id, job_ids, _placements, wiring.ports())
    elif "pages" in message:
        ref, pages = read_job(message), read_numbers(message, "pages")
        sweep_pages(ref, pages, _placements, wiring.ports())
    else:
        orchestrator_id = read_id(message, "orchestrator_id")
        cancel_stale(_placements(orchestrator_id) or (), wiring.ports())


def _placements(orchestrator_id: str) -> Sequence[Placement] | None:
    """Return what an orchestrator's scheduler lists, None when it cannot be asked."""
    if not orchestrator_id:
        return None  # its jobs have not been placed
    with _looking.setdefault(orchestrator_id, Lock()):
        now = time.monotonic()
        looked_at, found = _looks.get(orchestrator_id, (-math.inf, None))
        if now - looked_at >= _SHARED_S:
            found = _look(orchestrator_id)
            _looks[orchestrator_id] = now, found
        return found


def _look(orchestrator_id: str) -> Sequence[Placement] | None:
    try:
        orchestrator = wiring.orchestrator_store().orchestrator(orchestrator_id)
        return wiring.scheduler(orchestrator).placements()
    except Exception as error:  # noqa: BLE001  logged, and tried again by the next sweep
        reason = reason_of(error)
        log("ERROR", "orchestrator not swept", orchestrator_id=orchestrator_id, reason=reason)
        return None
