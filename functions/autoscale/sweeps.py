"""The sweep of one account, and of what waits at one orchestrator, with what the schedulers list now."""

import time
from collections.abc import Mapping, Sequence

from shared import wiring
from shared.log import log, reason_of
from shared.messages import read_id
from shared.models.farm import Placement
from shared.services.sweep import cancel_stale, sweep_account

# Many accounts are swept within seconds of each other: they share a look, which is younger than what the sweep waits
# before it takes something for missing.
_SHARED_S = 10
_looks: dict[str, tuple[float, Sequence[Placement]]] = {}


def sweep_asked(message: Mapping[str, object]) -> None:
    """Sweep whatever a message names."""
    if "account_id" in message:
        sweep_account(read_id(message, "account_id"), _placements, wiring.ports())
    else:
        orchestrator_id = read_id(message, "orchestrator_id")
        cancel_stale(_placements(orchestrator_id) or (), wiring.ports())


def _placements(orchestrator_id: str) -> Sequence[Placement] | None:
    """Return what an orchestrator's scheduler lists, None when it cannot be asked."""
    if not orchestrator_id:
        return None  # its jobs have not been placed
    looked_at, found = _looks.get(orchestrator_id, (0.0, ()))
    now = time.monotonic()
    if looked_at and now - looked_at < _SHARED_S:
        return found
    try:
        orchestrator = wiring.orchestrator_store().orchestrator(orchestrator_id)
        placements = wiring.scheduler(orchestrator).placements()
    except Exception as error:  # noqa: BLE001  logged, and tried again by the next sweep
        reason = reason_of(error)
        log("ERROR", "orchestrator not swept", orchestrator_id=orchestrator_id, reason=reason)
        return None
    _looks[orchestrator_id] = now, placements
    return placements
