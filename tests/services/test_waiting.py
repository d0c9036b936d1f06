"""What waits costs nothing: a minute in which nothing changes writes on no job, and one that a sum grows in hardly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from functions.autoscale.ticks import scale
from shared import wiring
from shared.errors import OutOfCapacity
from shared.models.farm import FleetInstance, FleetProblem, PoolKey
from shared.models.job import Command, JobRef, JobStatus, Sync, SyncState, Upload, UploadState
from shared.models.task import WaitingFor
from shared.services.attempts import blob_name
from shared.services.control import order
from tests.md5 import md5_of
from tests.services.agent import ZONE
from tests.services.farm import Farm
from tests.services.test_budgets import give, spend, today
from tests.services.test_licences import give as give_seats

W = WaitingFor
SCENE = {"/vol/otter/scene.ma": b"scene"}
AWAITED = Upload(state=UploadState.WAITING, file_count=1, total_bytes=5)


@dataclass
class Provider:
    """A cloud in which machines boot for as long as the test lasts, if there are any to be had."""

    pool: PoolKey
    is_empty: bool = False
    names: list[str] = field(default_factory=list)

    def pools(self) -> list[PoolKey]:
        return [self.pool]

    def instances(self, pool: PoolKey) -> list[FleetInstance]:
        now = wiring.now()
        return [FleetInstance(name=name, pool=pool, created_at=now) for name in self.names]

    def grow(self, pool: PoolKey, names: Sequence[str]) -> None:
        if names and self.is_empty:
            raise OutOfCapacity("there are none left")
        self.names += names

    def retire(self, pool: PoolKey, names: Sequence[str]) -> None:
        self.names = [each for each in self.names if each not in names]

    def problems(self, pool: PoolKey, since: datetime) -> list[FleetProblem]:
        return []


@pytest.fixture(name="provider", autouse=True)
def provider_fixture(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """The farm's provider."""
    provider = Provider(PoolKey(ZONE, farm.instance_type, True))
    monkeypatch.setattr(wiring, "fleet", lambda _: provider)
    return provider


def held(farm: Farm, _: Provider) -> list[JobRef]:
    refs = [farm.submit(3), farm.submit(3)]
    for ref in refs:
        order(ref, Command.HOLD, farm.ports)
    return refs


def behind_scouts(farm: Farm, _: Provider) -> list[JobRef]:
    ref = farm.submit(3, scouts=[0])
    farm.run(ref, outcome="failed")
    return [ref]


def awaiting_files(farm: Farm, _: Provider) -> list[JobRef]:
    fields = {"upload": AWAITED, "sync": Sync(state=SyncState.PENDING)}
    return [farm.submit(3, inputs=SCENE, status=JobStatus.UPLOAD_PENDING, **fields)]


def with_a_missing_file(farm: Farm, _: Provider) -> list[JobRef]:
    ref = farm.submit(3, inputs=SCENE, sync=Sync(state=SyncState.PENDING, total_count=1))
    farm.ports.blobs.delete(blob_name(farm.account_id, md5_of(SCENE["/vol/otter/scene.ma"])))
    farm.push("sync", ref)
    return [ref]


def not_written_yet(farm: Farm, _: Provider) -> list[JobRef]:
    return [farm.create(3), farm.create(3)]


def at_the_limit(farm: Farm, _: Provider) -> list[JobRef]:
    farm.limit(1)
    return [farm.submit(3), farm.submit(3)]


def without_money(farm: Farm, _: Provider) -> list[JobRef]:
    give(farm, 2)
    give(farm, 5, "relay")
    return [farm.submit(3), farm.submit(3), farm.submit(3, project="relay")]


def without_seats(farm: Farm, _: Provider) -> list[JobRef]:
    give_seats(farm, arnold=1)
    return [farm.submit(3, licences=("arnold",)), farm.submit(3, licences=("arnold",))]


def nowhere(farm: Farm, _: Provider) -> list[JobRef]:
    farm.save_orchestrator(zones={ZONE: False})
    return [farm.submit(3), farm.submit(3)]


def switched_off_since(farm: Farm, _: Provider) -> list[JobRef]:
    refs = [farm.submit(3), farm.submit(3)]
    farm.save_orchestrator(zones={ZONE: False})
    return refs


def over_the_quota(farm: Farm, _: Provider) -> list[JobRef]:
    farm.save_orchestrator(max_per_type={farm.instance_type: 0})
    return [farm.submit(3), farm.submit(3)]


def out_of_stock(farm: Farm, provider: Provider) -> list[JobRef]:
    provider.is_empty = True
    return [farm.submit(3), farm.submit(3)]


def booting(farm: Farm, _: Provider) -> list[JobRef]:
    return [farm.submit(3), farm.submit(3)]


def with_the_scheduler(farm: Farm, _: Provider) -> list[JobRef]:
    farm.save_orchestrator(fleet="managed")
    return [farm.submit(3), farm.submit(3)]


SCENES: Sequence[tuple[WaitingFor, Callable[[Farm, Provider], list[JobRef]]]] = [
    (W.HOLD, held),
    (W.SCOUT, behind_scouts),
    (W.UPLOAD, awaiting_files),
    (W.SYNC, with_a_missing_file),
    (W.ADMISSION, not_written_yet),
    (W.LIMIT, at_the_limit),
    (W.BUDGET, without_money),
    (W.LICENCE, without_seats),
    (W.ZONE_OFF, nowhere),
    (W.ZONE_OFF, switched_off_since),
    (W.QUOTA, over_the_quota),
    (W.STOCK_OUT, out_of_stock),
    (W.BOOT, booting),
    (W.SCHEDULER, with_the_scheduler),
]


def a_minute_later(farm: Farm, minutes: int) -> None:
    """Have all happen that comes by itself: the tick, the sweep, a round, and what these call for."""
    scale(wiring.orchestrator_store().orchestrator(farm.account_id))
    farm.sweep(minutes=minutes)
    farm.deliver("admit", "settle", "sync", "command", "place")


def written(farm: Farm, minutes: int) -> list[str]:
    """Return what a minute writes."""
    before = farm.versions()
    a_minute_later(farm, minutes)
    after = farm.versions()
    return sorted(path for path in after if after[path] != before.get(path))


@pytest.mark.parametrize(("reason", "scene"), SCENES, ids=[each[1].__name__ for each in SCENES])
def test_whatever_something_waits_for_a_minute_in_which_nothing_changes_writes_on_no_job(
    farm: Farm,
    provider: Provider,
    reason: WaitingFor,
    scene: Callable[[Farm, Provider], list[JobRef]],
) -> None:
    refs = scene(farm, provider)
    farm.deliver("admit", "settle", "sync", "command", "place")
    for minutes in (1, 2):
        a_minute_later(farm, minutes)
    assert {farm.job(ref).waiting_for for ref in refs} == {reason}
    for minutes in (3, 4):
        assert [path for path in written(farm, minutes) if "/jobs/" in path] == []


def more_is_spent(farm: Farm, _: Provider, minutes: int) -> None:
    spend(farm, 1000, today(), number=minutes)
    spend(farm, 1000, today(), "relay", number=minutes)


def another_machine_boots(_: Farm, provider: Provider, minutes: int) -> None:
    provider.grow(provider.pool, [f"more-{minutes}"])


@pytest.mark.parametrize(
    ("scene", "change", "is_told"),
    [(without_money, more_is_spent, False), (booting, another_machine_boots, True)],
    ids=["money", "machines"],
)
def test_a_minute_in_which_a_sum_has_grown_writes_no_task_and_each_job_only_if_it_tells_the_sum(
    farm: Farm,
    provider: Provider,
    scene: Callable[[Farm, Provider], list[JobRef]],
    change: Callable[[Farm, Provider, int], None],
    is_told: bool,
) -> None:
    refs = scene(farm, provider)
    for minutes in (1, 2):
        a_minute_later(farm, minutes)
    jobs = [farm.document(ref).path for ref in refs]
    for minutes in (3, 4):
        change(farm, provider, minutes)
        found = [path for path in written(farm, minutes) if "/jobs/" in path]
        assert found == (jobs if is_told else [])


def test_every_reason_is_among_them() -> None:
    assert {reason for reason, _ in SCENES} == set(WaitingFor)
