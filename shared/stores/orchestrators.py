"""Orchestrators, their pools and decisions in Firestore."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from google.cloud import firestore

from shared.errors import NotFound
from shared.models.farm import Decision, Orchestrator, PoolKey, StockOut
from shared.ports import Tick
from shared.stores import documents as docs
from shared.stores.lease import Lease
from shared.stores.wire import Create, Documents, Put, Update

_LEASE_S = 120
_KEPT = timedelta(days=14)


class FirestoreOrchestratorStore:
    """The OrchestratorStore of shared/ports.py."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._documents = Documents(client)
        self._lease = Lease(self._documents, _LEASE_S)

    def orchestrators(self) -> list[Orchestrator]:
        found = self._client.collection("orchestrators").stream()
        return [docs.orchestrator_from(each.to_dict() or {}) for each in found]

    def orchestrator(self, orchestrator_id: str) -> Orchestrator:
        found = self._documents.get([f"orchestrators/{orchestrator_id}"])[0]
        if found is None:
            raise NotFound(f"orchestrator {orchestrator_id}")
        return docs.orchestrator_from(found.fields)

    def save_orchestrator(self, orchestrator: Orchestrator) -> None:
        path = f"orchestrators/{orchestrator.orchestrator_id}"
        self._documents.commit([Put(path=path, fields=docs.orchestrator_fields(orchestrator))])

    def save_stock_outs(self, orchestrator_id: str, stock_outs: Sequence[StockOut]) -> None:
        fields = {("stock_outs",): docs.stock_out_fields(tuple(stock_outs))}
        self._documents.commit([Update(path=f"orchestrators/{orchestrator_id}", fields=fields)])

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
    ) -> None:
        root = f"orchestrators/{orchestrator_id}"
        writes: list[Create | Put] = [
            Put(
                path=f"{root}/pools/{docs.pool_id(pool)}",
                fields={"pool": pool._asdict(), "counts": dict(counts), "updated_at": now},
            )
            for pool, counts in pools.items()
        ]
        stamp = now.strftime("%Y%m%dT%H%M%S%f")
        writes += [
            Put(
                path=f"{root}/decisions/{stamp}-{docs.pool_id(each.pool)}",
                fields={
                    "pool": each.pool._asdict(),
                    "grow": list(each.grow),
                    "drain": list(each.drain),
                    "retire": list(each.retire),
                    "resume": list(each.resume),
                    "reason": each.reason,
                    "facts": dict(each.facts),
                    "at": now,
                    "expires_at": now + _KEPT,
                },
            )
            for each in decisions
        ]
        for start in range(0, len(writes), 400):
            self._documents.commit(writes[start : start + 400])


def _path(orchestrator_id: str) -> str:
    return f"orchestrators/{orchestrator_id}/state/tick"
