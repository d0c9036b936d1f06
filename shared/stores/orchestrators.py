"""Orchestrators, their pools and decisions in Firestore."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from google.api_core.exceptions import FailedPrecondition
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.errors import Contended, NotFound
from shared.models.farm import (
    Decision,
    KeptDecision,
    Orchestrator,
    PoolKey,
    PoolState,
    Took,
)
from shared.models.task import WaitingFor
from shared.ports import Tick
from shared.stores import documents as docs
from shared.stores.lease import Lease
from shared.stores.wire import Create, Documents, Put, Update, stream

_LEASE_S = 120
_KEPT = timedelta(days=14)
_TRIES = 8


class FirestoreOrchestratorStore:
    """The OrchestratorStore of shared/ports.py."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._documents = Documents(client)
        self._lease = Lease(self._documents, _LEASE_S)

    def orchestrators(self) -> list[Orchestrator]:
        found = stream(self._client.collection("orchestrators"))
        return [docs.orchestrator_from(each.to_dict() or {}) for each in found]

    def orchestrator(self, orchestrator_id: str) -> Orchestrator:
        found = self._documents.get([f"orchestrators/{orchestrator_id}"])[0]
        if found is None:
            raise NotFound(f"orchestrator {orchestrator_id}")
        return docs.orchestrator_from(found.fields)

    def save_orchestrator(self, orchestrator: Orchestrator) -> None:
        path = f"orchestrators/{orchestrator.orchestrator_id}"
        self._documents.commit([Put(path=path, fields=docs.orchestrator_fields(orchestrator))])

    def change_orchestrator(
        self, orchestrator_id: str, change: Callable[[Orchestrator], Orchestrator]
    ) -> Orchestrator:
        path = f"orchestrators/{orchestrator_id}"
        for _ in range(_TRIES):
            found = self._documents.get([path])[0]
            if found is None:
                raise NotFound(f"orchestrator {orchestrator_id}")
            before = docs.orchestrator_from(found.fields)
            after = change(before)
            old, new = docs.orchestrator_fields(before), docs.orchestrator_fields(after)
            fields = {(name,): value for name, value in new.items() if old[name] != value}
            if not fields:
                return after
            try:
                self._documents.commit([Update(path=path, fields=fields, version=found.version)])
                return after
            except FailedPrecondition:
                continue
        raise Contended(path)

    def pools(self, orchestrator_id: str) -> list[PoolState]:
        found = stream(self._client.collection(f"orchestrators/{orchestrator_id}/pools"))
        listed = [docs.pool_state_from(orchestrator_id, each.to_dict() or {}) for each in found]
        return sorted(listed, key=lambda each: each.pool)

    def decisions(self, orchestrator_id: str, pool: PoolKey, limit: int) -> list[KeptDecision]:
        query = (
            self._client.collection(f"orchestrators/{orchestrator_id}/decisions")
            .where(filter=FieldFilter("pool_id", "==", docs.pool_id(pool)))
            .order_by("at", direction=firestore.Query.DESCENDING)
            .limit(limit)
        )
        found = (each.to_dict() or {} for each in stream(query))
        return [docs.decision_from(orchestrator_id, each) for each in found]

    def begin_tick(self, orchestrator_id: str, now: datetime) -> Tick | None:
        taken = self._lease.take(_path(orchestrator_id), now)
        return Tick(orchestrator_id=orchestrator_id, lease_id=taken[0]) if taken else None

    def finish_tick(self, tick: Tick, now: datetime) -> bool:
        return self._lease.give_back(_path(tick.orchestrator_id), tick.lease_id, now)

    def release_tick(self, tick: Tick) -> bool:
        return self._lease.release(_path(tick.orchestrator_id), tick.lease_id)

    def save_decisions(
        self,
        orchestrator_id: str,
        decisions: Sequence[Decision],
        pools: Mapping[PoolKey, Mapping[str, int]],
        now: datetime,
        took: Took | None = None,
        waiting: Mapping[PoolKey, tuple[WaitingFor, str] | None] | None = None,
    ) -> None:
        root = f"orchestrators/{orchestrator_id}"
        stamp = now.strftime("%Y%m%dT%H%M%S%f")
        seen: dict[PoolKey, dict[tuple[str, ...], object]] = {
            pool: {("counts",): dict(counts), ("updated_at",): now}
            for pool, counts in pools.items()
        }
        for pool, reason in (waiting or {}).items():
            code, note = reason or (None, "")
            seen.setdefault(pool, {}).update({("waiting_for",): code, ("waiting_note",): note})
        writes: list[Create | Put | Update] = []
        for each in decisions:
            kept = docs.decision_fields(each, now, took)
            seen.setdefault(each.pool, {})[("decision",)] = kept
            path = f"{root}/decisions/{stamp}-{docs.pool_id(each.pool)}"
            writes.append(Put(path=path, fields=kept | {"expires_at": now + _KEPT}))
        for pool, fields in seen.items():
            path = f"{root}/pools/{docs.pool_id(pool)}"
            fields[("pool",)] = pool._asdict()
            writes.append(Update(path=path, fields=fields, upsert=True))
        for start in range(0, len(writes), 400):
            self._documents.commit(writes[start : start + 400])


def _path(orchestrator_id: str) -> str:
    return f"orchestrators/{orchestrator_id}/state/tick"
