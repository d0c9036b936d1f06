"""Operations: what a change answers with. They pass PENDING and RUNNING and are DONE by the clock."""

import time
import uuid

from emulators.compute.errors import invalid
from emulators.compute.state import Document, State, new_number

_PENDING_SHARE = 0.2
_KEPT_S = 3600.0


class Operations:
    """Starts operations. Each takes `duration_s`."""

    def __init__(self, state: State, duration_s: float) -> None:
        self._state = state
        self._duration_s = duration_s

    def replayed(self, project: str, request_id: str) -> Document | None:
        """Return what an earlier request with this id started. Raises: ApiError 400."""
        if not request_id:
            return None
        try:
            is_zero = uuid.UUID(request_id).int == 0
        except ValueError:
            is_zero = True
        if is_zero:
            raise invalid("requestId", request_id, "Must be a valid non-zero UUID.")
        return self._state.repeated(project, request_id)

    def start(
        self,
        project: str,
        scope: str,
        kind: str,
        *,
        target: str,
        target_id: str,
        request_id: str = "",
        error: Document | None = None,
    ) -> Document:
        """Start an operation of `scope` (`zones/Z` or `global`); one with `error` will fail."""
        now = time.time()
        stem = f"operation-{int(now * 1000)}-{uuid.uuid4().hex[:13]}"
        operation = {
            "name": f"{stem}-{uuid.uuid4().hex[:8]}-{uuid.uuid4().hex[:8]}",
            "id": new_number(), "project": project, "scope": scope, "kind": kind,
            "target": target, "target_id": target_id, "request_id": request_id, "error": error,
            "inserted_at": now, "started_at": now + self._duration_s * _PENDING_SHARE,
            "ended_at": now + self._duration_s,
        }  # fmt: skip
        self._state.save_operation(operation)
        return operation

    def forget_old(self) -> None:
        """Drop operations that ended long ago."""
        before = time.time() - _KEPT_S
        for operation in list(self._state.operations.values()):
            if operation["ended_at"] < before:
                self._state.drop_operation(operation)
