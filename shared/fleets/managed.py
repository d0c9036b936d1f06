"""The Fleet of shared/ports.py where the scheduler starts and ends machines by itself, as AWS Batch does."""

from collections.abc import Sequence
from datetime import datetime

from shared.models.farm import FleetInstance, FleetProblem, PoolKey


class ManagedFleet:
    """Starts nothing and lists nothing: the scheduler sees what waits, and what idles, before we do."""

    def grow(self, pool: PoolKey, names: Sequence[str]) -> None:
        return

    def pools(self) -> list[PoolKey]:
        return []

    def instances(self, pool: PoolKey) -> list[FleetInstance]:
        return []

    def retire(self, pool: PoolKey, names: Sequence[str]) -> None:
        return

    def problems(self, pool: PoolKey, since: datetime) -> list[FleetProblem]:
        return []
