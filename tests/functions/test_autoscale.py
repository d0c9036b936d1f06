"""The function `autoscale` on a real scheduler and a real cloud as far as one machine has them: processes."""

import base64
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import functions_framework
import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from google.api_core.exceptions import InvalidArgument

from emulators.up.client import Stack, stack
from functions.autoscale.sweeps import sweep_asked
from shared import wiring
from shared.core.replay import PlannedTick, compare
from shared.errors import CloudError
from shared.models.account import Account
from shared.models.farm import (
    Breaker,
    BreakerState,
    Orchestrator,
    PoolKey,
    ProblemCode,
    Shape,
    Stage,
)
from shared.models.job import AttemptRef
from shared.models.task import TaskStatus, WaitingFor
from shared.ports import Fleet, Scheduler, SubmittedAttempt
from shared.services.autoscale import TickReport, tick
from shared.services.kept_ticks import keep_tick, kept_ticks
from shared.services.observe import Observation, at_once
from shared.services.orchestrators import switch_pool
from tests.adapters import forget_adapters
from tests.builders import a_job, a_task
from tests.contracts.stand_ins import order_fault, stand_in
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
SHAPE = Shape("e2-standard-2", True)
ZONES = {"us-central1-a": True, "us-central1-b": True}
A = PoolKey("us-central1-a", *SHAPE)
B = PoolKey("us-central1-b", *SHAPE)


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    """Firestore, Pub/Sub, storage, Nomad and Compute Engine, and an environment that names them."""
    needed = ("firestore", "pubsub", "storage", "nomad", "compute")
    with stack(only=needed, boot_s=0.2) as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.env.items():
            patch.setenv(name, value)
        forget_adapters()
        yield found
    forget_adapters()


@pytest.fixture(scope="module")
def web(running: Stack) -> FlaskClient:
    """The function, called as functions-framework calls it."""
    create_app: Any = functions_framework.create_app
    app: Flask = create_app("autoscale", str(ROOT / "functions/autoscale/main.py"))
    return app.test_client()


@dataclass
class Farm:
    """One orchestrator of its own, and what can be done to it."""

    stack: Stack
    web: FlaskClient
    orchestrator_id: str = field(default_factory=lambda: f"o{uuid.uuid4().hex[:8]}")
    submitted: int = 0

    def save(self, **fields: Any) -> None:
        """Set up the orchestrator, or change it."""
        known = Orchestrator(
            orchestrator_id=self.orchestrator_id,
            scheduler="nomad",
            scheduler_address=self.stack.url("nomad"),
            fleet="gce",
            project="render",
            region="us-central1",
            zones=ZONES,
            boot_s=1,
            idle_s=0,
        )
        wiring.orchestrator_store().save_orchestrator(replace(known, **fields))

    @property
    def orchestrator(self) -> Orchestrator:
        return wiring.orchestrator_store().orchestrator(self.orchestrator_id)

    @property
    def scheduler(self) -> Scheduler:
        return wiring.scheduler(self.orchestrator)

    @property
    def fleet(self) -> Fleet:
        return wiring.fleet(self.orchestrator)

    def submit(
        self, count: int, *, works_s: float = 0.2, cores: int = 2, avoided: Sequence[str] = ()
    ) -> None:
        """Give attempts to the scheduler; their agents look for somebody to claim from, in vain, and end."""
        for _ in range(count):
            self.submitted += 1
            ref = AttemptRef(self.orchestrator_id, "00001", f"{self.submitted:03}", 1)
            self.scheduler.submit(
                SubmittedAttempt(
                    ref=ref,
                    shape=SHAPE,
                    zones=list(ZONES),
                    cores=cores,
                    memory_mib=8192,
                    priority=5,
                    environment={
                        "BATON_AGENT_URL": "http://127.0.0.1:1",
                        "BATON_ATTEMPT_TOKEN": "x.y.z",
                        "BATON_PATIENCE_S": str(works_s),
                    },
                    avoided_instances=avoided,
                )
            )

    def tick(self) -> dict[str, Any]:
        """Call the function as the scheduler does."""
        answer = self.web.post(
            f"/tick?orchestrator_id={self.orchestrator_id}",
            headers={"X-Baton-Token": wiring.push_token()},
        )
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.get_json()[self.orchestrator_id]
        return found

    def run(
        self,
        *,
        new_token: Callable[[], str] = lambda: uuid.uuid4().hex[:8],
        follow_up: Callable[[TickReport], None] = lambda _: None,
        ask_again: Callable[[], None] = lambda: None,
        meanwhile: Callable[[], None] = lambda: None,
        **ahead: float,
    ) -> TickReport:
        """Run a tick beneath the function, at a time that lies ahead by so many `minutes`...

        `meanwhile` is called once it has looked at everything, before it decides.
        """

        def looked(seen: Observation) -> Observation:
            meanwhile()
            return seen

        report = tick(
            self.orchestrator_id,
            orchestrators=wiring.orchestrator_store(),
            scheduler=self.scheduler,
            fleet=self.fleet,
            clock=lambda: wiring.now() + timedelta(**ahead),
            new_token=new_token,
            follow_up=follow_up,
            ask_again=ask_again,
            trust=looked,
        )
        assert report is not None
        return report

    def size(self, *pools: PoolKey) -> int:
        return sum(len(self.fleet.instances(pool)) for pool in pools or (A, B))

    def up(self) -> int:
        """Return how many machines of this orchestrator have joined the scheduler."""
        names = {each.name for pool in (A, B) for each in self.fleet.instances(pool)}
        return sum(node.name in names and node.is_up for node in self.scheduler.nodes())

    def ticks_until(self, holds: Callable[[], bool]) -> None:
        """Tick until something holds. Raises: AssertionError when it never does."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, self.tick()
            self.tick()

    def order_fault(self, name: str, **order: object) -> None:
        url = f"{self.stack.url(name)}/faults"
        requests.post(url, json=order, timeout=10).raise_for_status()

    def refuse_growth(self, count: int) -> None:
        """Have so many calls for machines end in a stock-out."""
        code = "ZONE_RESOURCE_POOL_EXHAUSTED"
        kind = {"kind": "operation", "operation_type": "createInstances"}
        self.order_fault("compute", **kind, code=code, count=count)

    def faults(self, name: str) -> list[Any]:
        """Return the faults of calls that were ordered and have not begun."""
        calls: list[Any] = requests.get(f"{self.stack.url(name)}/faults", timeout=10).json()[
            "calls"
        ]
        return calls

    def decisions(self) -> list[Mapping[str, Any]]:
        path = f"orchestrators/{self.orchestrator_id}/decisions"
        found = wiring.firestore_client().collection(path).stream()
        return [each.to_dict() or {} for each in found]


@pytest.fixture
def farm(running: Stack, web: FlaskClient) -> Iterator[Farm]:
    made = Farm(running, web)
    made.save()
    yield made
    for name in ("nomad", "compute"):
        requests.delete(f"{running.url(name)}/faults", timeout=10).raise_for_status()
    for placement in made.scheduler.placements():
        made.scheduler.cancel(placement.attempt_id)
    for pool in (A, B):
        made.fleet.retire(pool, [each.name for each in made.fleet.instances(pool)])


class Inbox:
    """What is published on a topic from now on."""

    def __init__(self, stack: Stack, topic: str) -> None:
        project = f"projects/{wiring.setting('GOOGLE_CLOUD_PROJECT')}"
        self._url = f"{stack.url('pubsub')}/v1/{project}/subscriptions/t{uuid.uuid4().hex}"
        body = {"topic": f"{project}/topics/{topic}"}
        requests.put(self._url, json=body, timeout=10).raise_for_status()

    def take(self) -> list[dict[str, Any]]:
        """Return what has been published, when anything has."""
        pulled = requests.post(f"{self._url}:pull", json={"maxMessages": 100}, timeout=30)
        pulled.raise_for_status()
        received = pulled.json().get("receivedMessages", [])
        return [json.loads(base64.b64decode(each["message"]["data"])) for each in received]


# Who may call


def test_only_those_with_the_token_may_call(farm: Farm) -> None:
    for path in (
        "/tick",
        "/sweep",
        "/forget",
        "/projects/p/topics/scale",
        "/projects/p/topics/sweep",
    ):
        assert farm.web.post(path).status_code == 403
        assert farm.web.post(path, headers={"X-Baton-Token": "wrong"}).status_code == 403


def test_an_orchestrator_that_does_not_exist_is_not_found(farm: Farm) -> None:
    headers = {"X-Baton-Token": wiring.push_token()}
    assert farm.web.post("/tick?orchestrator_id=nowhere", headers=headers).status_code == 404


# A farm's day


def test_a_farm_grows_for_what_waits_and_goes_back_to_zero(farm: Farm) -> None:
    farm.submit(2)
    assert farm.tick()["grow_count"] == 2
    assert farm.size() == 2
    farm.ticks_until(lambda: farm.size() == 0)
    assert not [p for p in farm.scheduler.placements() if p.stage is Stage.WAITING]
    reasons = [each["reason"] for each in farm.decisions()]
    assert any("wait" in reason for reason in reasons)
    assert any("idle" in reason for reason in reasons)
    assert farm.tick()["errors"] == []


def test_repeated_ticks_start_nothing_twice(farm: Farm) -> None:
    farm.submit(2)
    for _ in range(4):
        farm.run()
    assert farm.size() <= 2


def test_a_message_makes_a_tick(farm: Farm) -> None:
    farm.submit(1)
    data = base64.b64encode(json.dumps({"orchestrator_id": farm.orchestrator_id}).encode()).decode()
    answer = farm.web.post(
        f"/projects/p/topics/scale?token={wiring.push_token()}",
        json={"message": {"data": data, "messageId": "1"}, "subscription": "s"},
    )
    assert answer.status_code == 204
    assert farm.size() == 1


def test_a_message_that_names_no_orchestrator_is_dropped(farm: Farm) -> None:
    for said in ({}, {"orchestrator_id": 7}, {"orchestrator_id": "nowhere"}):
        data = base64.b64encode(json.dumps(said).encode()).decode()
        answer = farm.web.post(
            f"/projects/p/topics/scale?token={wiring.push_token()}",
            json={"message": {"data": data}},
        )
        assert answer.status_code == 204


def test_the_sweep_looks_at_every_orchestrator(farm: Farm) -> None:
    answer = farm.web.post("/sweep", headers={"X-Baton-Token": wiring.push_token()})
    assert answer.status_code == 200
    assert "job_count" in answer.get_json()


def push(farm: Farm, topic: str, **said: object) -> int:
    """Push a message as Pub/Sub does; returns the status code."""
    data = base64.b64encode(json.dumps(said).encode()).decode()
    return farm.web.post(
        f"/projects/p/topics/{topic}?token={wiring.push_token()}",
        json={"message": {"data": data, "messageId": "1"}, "subscription": "s"},
    ).status_code


def test_active_jobs_of_every_account_and_every_orchestrator_are_swept_by_messages_of_their_own(
    farm: Farm,
) -> None:
    sweeps = Inbox(farm.stack, "sweep")
    save_account(farm)
    asleep = Farm(farm.stack, farm.web)
    save_account(asleep)
    job = a_job(account_id=farm.orchestrator_id)
    wiring.job_store().create_job(job)
    headers = {"X-Baton-Token": wiring.push_token()}
    assert farm.web.post("/sweep", headers=headers).get_json()["job_count"] >= 1
    asked = sweeps.take()
    assert {"account_id": farm.orchestrator_id, "job_ids": [job.job_id]} in asked
    assert {"orchestrator_id": farm.orchestrator_id} in asked
    assert asleep.orchestrator_id not in [each.get("account_id") for each in asked]


def save_account(farm: Farm) -> None:
    account = Account(account_id=farm.orchestrator_id, name="Otter", max_instances=9)
    wiring.account_store().save_account(account)


def test_a_message_has_jobs_swept_though_their_orchestrator_cannot_be_asked(farm: Farm) -> None:
    farm.save(scheduler_address="http://127.0.0.1:1")
    save_account(farm)
    job = a_job(account_id=farm.orchestrator_id, orchestrator_id=farm.orchestrator_id)
    wiring.job_store().create_job(job)
    expansions = Inbox(farm.stack, "expand")
    assert push(farm, "sweep", account_id=farm.orchestrator_id, job_ids=[job.job_id]) == 204
    assert [each["job_id"] for each in expansions.take()] == [job.job_id]
    farm.save()


def test_a_message_has_taken_from_an_orchestrator_what_waits_there_for_nothing(farm: Farm) -> None:
    job = a_job(account_id=farm.orchestrator_id, orchestrator_id=farm.orchestrator_id)
    wiring.job_store().create_job(job)
    tasks = [a_task(task_id="001", attempt=2), a_task(task_id="002", attempt=1)]
    wiring.job_store().add_page(job, 0, tasks)
    farm.submit(2)
    assert push(farm, "sweep", orchestrator_id=farm.orchestrator_id) == 204
    stages = {each.attempt_id: each.stage for each in farm.scheduler.placements()}
    (stale, current) = (AttemptRef(*job.ref, each, 1).attempt_id for each in ("001", "002"))
    assert (stages[stale], stages[current]) == (Stage.ENDED, Stage.WAITING)


def test_what_is_swept_side_by_side_shares_a_look_at_the_scheduler(farm: Farm) -> None:
    farm.order_fault("nomad", calls=9, status=500, path="^/v1/", method="GET")
    at_once(sweep_asked, [{"orchestrator_id": farm.orchestrator_id}] * 4)
    left = requests.get(f"{farm.stack.url('nomad')}/faults", timeout=10).json()
    assert [each["calls"] for each in left] == [8]


@pytest.mark.parametrize("wrong", [7, None, "", "..", "a/b", "-a", "a" * 129])
@pytest.mark.parametrize(
    ("topic", "name", "rest"),
    [
        ("sweep", "account_id", {"job_ids": []}),
        ("sweep", "account_id", {"job_id": "00001", "pages": []}),
        ("sweep", "job_id", {"account_id": "acme", "pages": []}),
        ("sweep", "orchestrator_id", {}),
        ("scale", "orchestrator_id", {}),
    ],
)
def test_a_message_whose_id_is_none_is_logged_and_acknowledged(
    farm: Farm,
    caplog: pytest.LogCaptureFixture,
    topic: str,
    name: str,
    rest: dict[str, object],
    wrong: object,
) -> None:
    with caplog.at_level(logging.ERROR, logger="baton"):
        assert push(farm, topic, **rest | {name: wrong}) == 204
    (said,) = [json.loads(each.message) for each in caplog.records if each.levelname == "ERROR"]
    assert (said["event"], said["code"]) == ("message dropped", "InvalidRequest")
    assert name in said["reason"]


def test_a_message_that_names_nothing_to_sweep_is_dropped(farm: Farm) -> None:
    assert push(farm, "sweep") == 204
    assert push(farm, "sweep", orchestrator_id="nowhere") == 204
    assert push(farm, "sweep", account_id="acme", job_ids="00001") == 204
    assert push(farm, "sweep", account_id="acme", job_ids=["a/b"]) == 204
    assert push(farm, "sweep", account_id="acme", job_id="00001", pages=[-1]) == 204


def test_orchestrators_have_their_ticks_at_the_same_time() -> None:
    together = threading.Barrier(20, timeout=PATIENCE_S)
    assert sorted(at_once(lambda each: (each, together.wait())[0], range(20))) == list(range(20))


def test_what_waits_is_given_a_reason(farm: Farm) -> None:
    farm.save(is_enabled=False)
    farm.submit(1)
    assert farm.run().reasons[SHAPE][0] is WaitingFor.ZONE_OFF
    farm.save()
    assert farm.run().reasons[SHAPE] == (
        WaitingFor.BOOT,
        "0 of 1 instances are up, 1 booting",
    )


def test_a_job_whose_attempts_wait_says_why_and_keeps_it_until_the_reason_changes(
    farm: Farm,
) -> None:
    job = a_job(account_id=farm.orchestrator_id, task_count=1)
    wiring.job_store().create_job(job)
    farm.save(is_enabled=False)
    farm.submit(1)
    farm.tick()
    assert wiring.job_store().job(job.ref).waiting_for is WaitingFor.ZONE_OFF
    farm.save()
    farm.tick()
    found = wiring.job_store().job(job.ref)
    assert found.waiting_for is WaitingFor.BOOT
    assert found.waiting_note == "0 of 1 instances are up, 1 booting"


def test_each_pool_says_why_it_does_not_serve_what_waits(farm: Farm) -> None:
    def reasons() -> dict[PoolKey, WaitingFor | None]:
        farm.run()
        found = wiring.orchestrator_store().pools(farm.orchestrator_id)
        return {each.pool: each.waiting_for for each in found}

    farm.save(max_instances=2)
    farm.submit(3, works_s=PATIENCE_S)
    farm.run()
    until(lambda: farm.up() == 2)
    until(lambda: [p.stage for p in farm.scheduler.placements()].count(Stage.WAITING) == 1)
    assert reasons() == {A: WaitingFor.QUOTA, B: WaitingFor.QUOTA}
    farm.save(max_instances=2, zones={A.zone: False, B.zone: True})
    assert reasons() == {A: WaitingFor.ZONE_OFF, B: WaitingFor.QUOTA}
    for each in farm.scheduler.placements():
        farm.scheduler.cancel(each.attempt_id)
    assert reasons() == {A: None, B: None}


def test_a_process_that_looks_for_the_first_time_knows_since_when_a_machine_is_idle(
    farm: Farm,
) -> None:
    farm.save(idle_s=60)
    keep_from_joining(farm)
    farm.submit(1)
    farm.run(minutes=-5)
    for each in farm.scheduler.placements():
        farm.scheduler.cancel(each.attempt_id)
    clear_faults(farm, "nomad")
    until(lambda: farm.up() == 1)
    farm.save(idle_s=60, scheduler_address=f"{farm.stack.url('nomad')}/")  # as a new process has it
    assert not farm.run().decisions
    (left,) = farm.run(minutes=2).decisions
    assert left.reason == "nothing waits, 1 idle for 60 s"


# Zones and stock


def test_a_zone_that_is_switched_off_gets_nothing_and_is_emptied(farm: Farm) -> None:
    farm.save(idle_s=3600)
    farm.submit(2)
    farm.run()
    until(lambda: farm.up() == 2)
    farm.save(idle_s=3600, zones={"us-central1-a": False, "us-central1-b": True})
    farm.ticks_until(lambda: farm.size(A) == 0)
    assert farm.size(B) == 1
    farm.submit(1, works_s=0)
    assert not farm.run().decisions


def test_growth_goes_elsewhere_when_a_zone_is_out_of_stock(farm: Farm) -> None:
    farm.order_fault("compute", kind="stockout", zone="us-central1-a")
    farm.submit(2, works_s=PATIENCE_S)
    farm.ticks_until(lambda: farm.up() == 2 and farm.size(A) == 0)
    assert farm.size(B) == 2
    (breaker,) = farm.orchestrator.breakers
    assert (breaker.pool, breaker.cause) == (A, "stock_out")
    assert breaker.state(wiring.now()) is BreakerState.OPEN


def test_a_tick_forgets_nothing_that_another_one_has_learnt_meanwhile(farm: Farm) -> None:
    other = B._replace(instance_type="e2-standard-4")
    until_at = wiring.now() + timedelta(hours=1)
    learnt = [Breaker(pool=other, until=until_at, cause=ProblemCode.DEAD_BOOTS)]

    def meanwhile() -> str:
        if learnt:
            breakers = (learnt.pop(),)
            wiring.orchestrator_store().change_orchestrator(
                farm.orchestrator_id, lambda known: replace(known, breakers=breakers)
            )
        return uuid.uuid4().hex[:8]

    farm.refuse_growth(1)
    farm.submit(2, works_s=PATIENCE_S)
    farm.run(new_token=meanwhile)
    causes = {each.cause for each in farm.orchestrator.breakers}
    assert causes == {ProblemCode.DEAD_BOOTS, ProblemCode.STOCK_OUT}


def test_a_tick_that_cannot_remember_what_it_learnt_scales_all_the_same(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    for size in range(1_048_500, 1_046_000, -100):  # as much as one document holds
        try:
            farm.save(instance_types=(SHAPE.instance_type, "x" * size))
        except InvalidArgument:
            continue
        break
    farm.refuse_growth(1)
    farm.submit(2, works_s=PATIENCE_S)
    with caplog.at_level(logging.ERROR, logger="baton"):
        farm.run()
    logged = [json.loads(each.message) for each in caplog.records if each.name == "baton"]
    assert "breakers not remembered" in [each["event"] for each in logged]
    assert not farm.orchestrator.breakers
    assert farm.size() > 0


def probe_of_a_pool_out_of_stock(farm: Farm) -> Sequence[str]:
    """Let the first zone run out of machines and have some again, and a minute pass; returns what it is tried with."""
    farm.order_fault("compute", kind="stockout", zone="us-central1-a")
    farm.submit(3, works_s=PATIENCE_S)
    farm.ticks_until(lambda: farm.size(B) == 3 and farm.size(A) == 0)
    clear_faults(farm, "compute", kind="stockout")
    farm.submit(4, works_s=PATIENCE_S)
    farm.run()
    assert farm.size(A) == 0  # it is still open: the others serve what waits
    farm.submit(4, works_s=PATIENCE_S)
    probed = farm.run(seconds=61)
    (probe,) = [each for each in probed.decisions if each.pool == A]
    assert "to find out whether it works again (stock_out)" in probe.reason
    return probe.grow


def test_a_pool_that_was_out_of_stock_is_tried_with_one_machine_and_no_other_till_it_joins(
    farm: Farm,
) -> None:
    farm.order_fault("compute", kind="dead_boot", zone="us-central1-a")
    assert len(probe_of_a_pool_out_of_stock(farm)) == 1
    farm.submit(4, works_s=PATIENCE_S)
    assert not [each for each in farm.run(seconds=62).decisions if each.pool == A and each.grow]


def test_a_pool_that_was_out_of_stock_works_again_once_its_probe_joins(farm: Farm) -> None:
    (name,) = probe_of_a_pool_out_of_stock(farm)
    until(lambda: any(node.name == name and node.is_up for node in farm.scheduler.nodes()))
    farm.submit(4, works_s=PATIENCE_S)
    healed = farm.run(seconds=63)
    (breaker,) = farm.orchestrator.breakers
    assert breaker.state(wiring.now() + timedelta(seconds=63)) is BreakerState.CLOSED
    assert [len(each.grow) > 1 for each in healed.decisions if each.pool == A] == [True]


def test_a_pool_whose_machines_never_join_gets_no_more_of_them(farm: Farm) -> None:
    farm.save(zones={"us-central1-a": True, "us-central1-b": False})
    farm.order_fault("compute", kind="dead_boot", count=3)
    farm.submit(3, works_s=PATIENCE_S)
    farm.run()
    report = farm.run(minutes=6)
    (breaker,) = farm.orchestrator.breakers
    assert (breaker.pool, breaker.cause) == (A, "dead_boots")
    assert not any(each.grow for each in report.decisions)
    reason, note = report.reasons[SHAPE]
    assert reason is WaitingFor.STOCK_OUT
    assert note.startswith("us-central1-a starts machines that never join; tried again from ")
    (probe,) = farm.run(minutes=7, seconds=5).decisions
    assert len(probe.grow) == 1


def test_an_operator_overrules_the_breaker_of_a_pool(farm: Farm) -> None:
    farm.save(
        zones={"us-central1-a": True},
        breakers=(
            Breaker(pool=A, until=wiring.now() + timedelta(hours=1), cause=ProblemCode.STOCK_OUT),
        ),
    )
    farm.submit(2)
    assert farm.tick()["grow_count"] == 0
    switch_pool(A.pool_id, True, farm.orchestrator_id, wiring.orchestrator_store())
    assert farm.tick()["grow_count"] == 2
    until(lambda: farm.up() == 2)
    switch_pool(A.pool_id, False, farm.orchestrator_id, wiring.orchestrator_store())
    farm.ticks_until(lambda: farm.size(A) == 0)
    farm.submit(1)
    assert farm.run().reasons[SHAPE][0] is WaitingFor.ZONE_OFF


def test_where_the_scheduler_starts_machines_by_itself_a_tick_decides_nothing_and_says_so(
    farm: Farm,
) -> None:
    farm.save(fleet="managed")
    farm.submit(2)
    report = farm.run()
    assert not report.decisions
    assert not report.errors
    said = (WaitingFor.SCHEDULER, "its scheduler starts machines by itself")
    assert report.reasons[SHAPE] == said
    farm.save()


def test_growth_that_is_refused_goes_elsewhere_within_the_same_tick(farm: Farm) -> None:
    farm.refuse_growth(1)
    farm.submit(1)
    farm.run()
    assert farm.size() == 1
    assert len(farm.orchestrator.breakers) == 1


def test_a_machine_that_never_joins_is_replaced(farm: Farm) -> None:
    farm.order_fault("compute", kind="dead_boot", count=1)
    farm.submit(1)
    farm.run()
    report = farm.run(minutes=6)
    (old,) = (name for each in report.decisions for name in each.retire)
    assert sum(len(each.grow) for each in report.decisions) == 1
    until(lambda: all(each.name != old for pool in (A, B) for each in farm.fleet.instances(pool)))
    assert farm.size() == 1


def test_a_silent_machine_takes_no_more_work_and_goes_if_it_is_silent_at_the_next_look_too(
    farm: Farm,
) -> None:
    farm.save(idle_s=3600)
    farm.submit(1)
    farm.run()
    until(lambda: farm.up() == 1 and not any(p.is_live for p in farm.scheduler.placements()))
    (name,) = (each.name for pool in (A, B) for each in farm.fleet.instances(pool))
    machines = requests.get(f"{farm.stack.url('compute')}/machines", timeout=10).json()
    (pid,) = [each["machine_pid"] for each in machines if each["name"] == name]
    os.kill(pid, signal.SIGSTOP)
    asked: list[str] = []
    try:
        until(lambda: farm.up() == 0)
        (first,) = farm.run(ask_again=lambda: asked.append("scale")).decisions
        assert (first.drain, first.retire) == ((name,), ())
        assert asked == []
        (second,) = farm.run().decisions
        assert (second.drain, second.retire) == ((), (name,))
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


# What gets work between the look and the deletion


def only_machine(farm: Farm) -> str:
    (found,) = (each for pool in (A, B) for each in farm.fleet.instances(pool))
    assert not found.is_retiring
    return found.name


def started_on(farm: Farm) -> list[str]:
    return [each.instance for each in farm.scheduler.placements() if each.stage is Stage.STARTED]


def keep_from_joining(farm: Farm) -> None:
    """Have the scheduler refuse whoever wants to register, until faults are cleared."""
    farm.order_fault("nomad", status=503, calls=1_000_000, path="^/v1/client/register")


def clear_faults(farm: Farm, name: str, *, kind: str = "") -> None:
    """Take back the faults of one kind that were ordered, or all."""
    url = f"{farm.stack.url(name)}/faults"
    requests.delete(url, params={"kind": kind}, timeout=10).raise_for_status()


def join(farm: Farm) -> None:
    """Let the machine join, and start what there is for it."""
    clear_faults(farm, "nomad")
    until(lambda: started_on(farm) == [only_machine(farm)])


def join_and_get_work(farm: Farm) -> None:
    farm.submit(1, works_s=PATIENCE_S)
    join(farm)


def spared(farm: Farm) -> list[int]:
    """Return how many machines were spared, by the decisions that spared any."""
    return [count for each in farm.decisions() if (count := each["facts"].get("spared"))]


def test_a_machine_that_is_called_off_and_joins_just_then_keeps_the_work_it_got(
    farm: Farm,
) -> None:
    farm.save(boot_s=3600)
    keep_from_joining(farm)
    farm.submit(1)
    farm.run()
    for each in farm.scheduler.placements():
        farm.scheduler.cancel(each.attempt_id)
    (called_off,) = farm.run(meanwhile=lambda: join_and_get_work(farm)).decisions
    assert (called_off.retire, spared(farm)) == ((only_machine(farm),), [1])
    assert started_on(farm) == [only_machine(farm)]
    assert not farm.run().decisions


def test_a_machine_that_is_given_up_and_joins_just_then_keeps_the_work_it_got(farm: Farm) -> None:
    keep_from_joining(farm)
    farm.submit(1, works_s=PATIENCE_S)
    farm.run()
    late = only_machine(farm)
    report = farm.run(meanwhile=lambda: join(farm), minutes=6)
    assert [each.retire for each in report.decisions if each.retire] == [(late,)]
    assert spared(farm) == [1]
    assert started_on(farm) == [late]


def test_a_machine_that_is_given_up_for_want_of_stock_and_comes_just_then_keeps_its_work(
    farm: Farm,
) -> None:
    farm.save(zones={A.zone: True})
    farm.order_fault("compute", kind="stockout", zone=A.zone)
    farm.submit(1, works_s=PATIENCE_S)
    farm.run()
    until(lambda: farm.fleet.instances(A)[0].problem is ProblemCode.STOCK_OUT)

    def come() -> None:
        clear_faults(farm, "compute")
        join(farm)

    report = farm.run(meanwhile=come)
    assert [each.retire for each in report.decisions] == [(only_machine(farm),)]
    assert spared(farm) == [1]
    assert started_on(farm) == [only_machine(farm)]


def test_a_drained_machine_that_somebody_puts_back_just_then_keeps_the_work_it_got(
    farm: Farm,
) -> None:
    farm.save(idle_s=3600)
    farm.submit(1)
    farm.run()
    until(lambda: farm.up() == 1 and not any(p.is_live for p in farm.scheduler.placements()))
    (node_id,) = (n.node_id for n in farm.scheduler.nodes() if n.name == only_machine(farm))
    farm.scheduler.set_eligible(node_id, False)

    def put_back() -> None:
        farm.scheduler.set_eligible(node_id, True)
        join_and_get_work(farm)

    (drained,) = farm.run(meanwhile=put_back).decisions
    assert (drained.retire, spared(farm)) == ((only_machine(farm),), [1])
    assert started_on(farm) == [only_machine(farm)]


def test_a_machine_that_the_provider_has_stopped_is_deleted_though_the_scheduler_knows_it(
    farm: Farm,
) -> None:
    farm.save(idle_s=3600)
    farm.submit(1)
    farm.run()
    until(lambda: farm.up() == 1 and not any(p.is_live for p in farm.scheduler.placements()))
    farm.order_fault("compute", kind="lose", instance=only_machine(farm))
    until(lambda: any(each.is_stopped for pool in (A, B) for each in farm.fleet.instances(pool)))
    farm.run()
    until(lambda: farm.size() == 0)
    assert spared(farm) == []


def test_a_machine_that_registered_and_never_gets_ready_is_out_of_use_before_it_is_deleted(
    running: Stack, web: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        stand_in("kubernetes", "--data", tmp_path / "kubernetes") as cluster,
        stand_in("compute", "--data", tmp_path / "compute", "--kubernetes", cluster) as cloud,
    ):
        monkeypatch.setenv("BATON_AGENT_IMAGE", "baton-agent:1")
        monkeypatch.setenv("BATON_COMPUTE_ENDPOINT", cloud)
        order_fault(cloud, kind="slow_ready", zone=A.zone, ready_s=3600)
        farm = Farm(running, web)
        farm.save(
            scheduler="kubernetes",
            scheduler_address=cluster,
            zones={A.zone: True},
            min_sizes={A.pool_id: 1},
        )
        farm.run()
        name = only_machine(farm)
        until(lambda: [node.is_joining for node in farm.scheduler.nodes()] == [True])
        asked: list[str] = []
        (first,) = farm.run(ask_again=lambda: asked.append("scale"), minutes=6).decisions
        assert (first.drain, first.retire, asked) == ((name,), (), ["scale"])
        assert [each.is_eligible for each in farm.scheduler.nodes() if each.name == name] == [False]
        (second,) = farm.run(minutes=6).decisions
        assert (second.drain, second.retire, spared(farm)) == ((), (name,), [])
        until(lambda: name not in [each.name for each in farm.fleet.instances(A)])


# Trouble


def test_overlapping_ticks_are_one_tick_that_goes_round_again(farm: Farm) -> None:
    store = wiring.orchestrator_store()
    held = store.begin_tick(farm.orchestrator_id, wiring.now())
    assert held is not None
    farm.submit(1)
    assert farm.tick() == {"is_busy": True}
    assert farm.size() == 0
    assert store.finish_tick(held, wiring.now()) is False  # somebody asked meanwhile
    assert store.finish_tick(held, wiring.now()) is True
    assert farm.tick()["grow_count"] == 1


def test_a_tick_that_lost_its_lease_leaves_that_of_the_next_one_alone(farm: Farm) -> None:
    store, now = wiring.orchestrator_store(), wiring.now()
    slow = store.begin_tick(farm.orchestrator_id, now)
    next_one = store.begin_tick(farm.orchestrator_id, now + timedelta(minutes=5))
    assert slow is not None
    assert next_one is not None
    assert store.finish_tick(slow, now) is True
    assert store.release_tick(slow) is False
    assert store.begin_tick(farm.orchestrator_id, now + timedelta(minutes=5)) is None
    assert store.release_tick(next_one) is True  # that was the one that asked


def test_a_stream_of_messages_cannot_keep_a_tick_going_and_is_answered_by_another_one(
    farm: Farm,
) -> None:
    rounds: list[TickReport] = []
    asked: list[str] = []

    def somebody_asks(report: TickReport) -> None:
        rounds.append(report)
        assert len(rounds) < 10
        assert farm.tick() == {"is_busy": True}

    farm.run(follow_up=somebody_asks, ask_again=lambda: asked.append("scale"))
    assert len(rounds) == 2
    assert asked == ["scale"]
    assert "grow_count" in farm.tick()


def test_a_tick_that_nobody_asked_to_repeat_asks_for_none(farm: Farm) -> None:
    asked: list[str] = []
    rounds: list[TickReport] = []
    farm.run(follow_up=rounds.append, ask_again=lambda: asked.append("scale"))
    assert len(rounds) == 1
    assert asked == []


def test_a_tick_that_found_every_zone_it_tried_out_of_stock_asks_for_another_one(
    farm: Farm,
) -> None:
    scale = Inbox(farm.stack, "scale")
    exhausted(farm, count=2)
    farm.submit(1)
    farm.tick()
    assert farm.size() == 0
    assert {"orchestrator_id": farm.orchestrator_id} in scale.take()


def exhausted(farm: Farm, count: int) -> None:
    """Have so many of the next orders for machines find none."""
    code = "ZONE_RESOURCE_POOL_EXHAUSTED"
    order = {"kind": "operation", "operation_type": "createInstances", "code": code}
    farm.order_fault("compute", **order, count=count)


def test_a_pool_that_an_operator_keeps_on_is_asked_once_a_tick_while_it_is_out_of_stock(
    farm: Farm,
) -> None:
    farm.save(zones={A.zone: True}, pool_switches={A.pool_id: True})
    exhausted(farm, count=10)
    farm.submit(1)
    rounds: list[TickReport] = []
    asked: list[str] = []
    for count in (1, 2):
        report = farm.run(follow_up=rounds.append, ask_again=lambda: asked.append("scale"))
        assert [len(each.grow) for each in report.decisions] == [1]
        assert (len(rounds), asked) == (count, [])


def test_a_tick_that_took_long_leaves_its_next_round_to_another_one(farm: Farm) -> None:
    exhausted(farm, count=2)
    farm.submit(1)
    rounds: list[TickReport] = []
    asked: list[str] = []
    passed = timedelta()

    def take_long(report: TickReport) -> None:
        nonlocal passed
        rounds.append(report)
        passed = timedelta(seconds=61)

    tick(
        farm.orchestrator_id,
        orchestrators=wiring.orchestrator_store(),
        scheduler=farm.scheduler,
        fleet=farm.fleet,
        clock=lambda: wiring.now() + passed,
        new_token=lambda: uuid.uuid4().hex[:8],
        follow_up=take_long,
        ask_again=lambda: asked.append("scale"),
    )
    assert (len(rounds), asked) == (1, ["scale"])


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("compute", {"kind": "calls", "status": 403, "reason": "rateLimitExceeded"}),
        ("compute", {"kind": "calls", "status": 500}),
        ("nomad", {"status": 500, "path": "^/v1/(jobs|allocations|nodes)"}),
        ("nomad", {"status": 429, "path": "^/v1/(jobs|allocations|nodes)"}),
    ],
)
def test_a_provider_that_fails_costs_the_tick_and_is_told(
    farm: Farm, name: str, order: dict[str, object]
) -> None:
    farm.submit(1)
    farm.order_fault(name, calls=1, **order)
    broken = farm.tick()
    assert len(broken["errors"]) == 1
    assert farm.tick()["errors"] == []
    assert farm.size() == 1


def test_trouble_in_one_pool_leaves_the_others_alone(farm: Farm) -> None:
    farm.submit(2)
    path = "us-central1-a/instanceGroupManagers/.*/createInstances"
    farm.order_fault("compute", kind="calls", calls=1, status=500, path=path)
    report = farm.run()
    assert len(report.errors) == 1
    assert farm.size(A) == 0
    assert farm.size(B) == 1
    stored = [each for each in farm.decisions() if "error" in each["facts"]]
    assert [each["pool"]["zone"] for each in stored] == ["us-central1-a"]


def test_a_pool_that_cannot_be_listed_is_left_alone(farm: Farm) -> None:
    farm.submit(2)
    farm.run()
    until(lambda: farm.up() == 2)
    path = "us-central1-a/instanceGroupManagers/.*/listManagedInstances"
    farm.order_fault("compute", kind="calls", calls=1, status=500, path=path)
    report = farm.run()
    assert len(report.errors) == 1
    assert all(each.pool != A for each in report.decisions)


def test_growth_goes_elsewhere_as_long_as_a_pool_cannot_be_listed_and_that_pool_says_so(
    farm: Farm,
) -> None:
    farm.submit(1, works_s=PATIENCE_S)
    farm.run()
    (own,) = [pool for pool in (A, B) if farm.size(pool)]
    (other,) = {A, B} - {own}
    path = f"{own.zone}/instanceGroupManagers/.*/listManagedInstances"
    farm.order_fault("compute", kind="calls", calls=2, status=500, path=path)
    farm.submit(3, works_s=PATIENCE_S)
    for _ in range(2):
        assert len(farm.run().errors) == 1
    assert farm.size(other) >= 3
    assert farm.size(own) == 1
    states = {each.pool: each for each in wiring.orchestrator_store().pools(farm.orchestrator_id)}
    assert states[own].waiting_note == "could not be listed: the provider could not be asked"
    assert states[own].waiting_for is not None


def test_a_tick_that_crashes_gives_its_lease_back(farm: Farm) -> None:
    class Crash(Exception):
        """A bug."""

    def crash() -> str:
        raise Crash

    farm.submit(1)
    with pytest.raises(Crash):
        farm.run(new_token=crash)
    assert farm.tick()["grow_count"] == 1


def test_a_tick_that_crashes_hands_on_what_it_was_asked_for(farm: Farm) -> None:
    asked: list[str] = []

    def crash(_: TickReport) -> None:
        assert farm.tick() == {"is_busy": True}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        farm.run(follow_up=crash, ask_again=lambda: asked.append("scale"))
    assert asked == ["scale"]


def test_a_tick_that_is_killed_half_way_is_finished_by_a_later_one(farm: Farm) -> None:
    farm.submit(2, works_s=PATIENCE_S)
    path = "us-central1-b/instanceGroupManagers/.*/createInstances"
    farm.order_fault("compute", kind="calls", calls=1, status=503, delay_s=PATIENCE_S, path=path)
    alone = (
        "import sys; from functions.autoscale.ticks import scale; from shared import wiring;"
        "scale(wiring.orchestrator_store().orchestrator(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", alone, farm.orchestrator_id], cwd=ROOT)
    until(lambda: farm.size(A) == 1 and not farm.faults("compute"))  # the other call is under way
    process.kill()
    process.wait()
    assert farm.tick() == {"is_busy": True}
    farm.run(minutes=3)
    until(lambda: farm.up() == 2)
    assert (farm.size(A), farm.size(B)) == (1, 1)


def test_what_ended_is_settled_while_only_the_provider_is_down(farm: Farm) -> None:
    def stages() -> list[Stage]:
        return [each.stage for each in farm.scheduler.placements()]

    farm.submit(1)
    farm.tick()
    until(lambda: Stage.ENDED in stages())
    farm.order_fault("compute", kind="calls", status=503)
    assert len(farm.tick()["errors"]) == 1
    assert Stage.ENDED not in stages()


def test_machines_that_the_scheduler_does_not_use_leave_and_the_job_is_told(farm: Farm) -> None:
    farm.submit(1, cores=500)
    farm.run()
    until(lambda: farm.up() == 1)
    assert not farm.run(seconds=30).decisions
    unused = farm.run(minutes=5)
    (left,) = unused.decisions
    assert len(left.drain) == 1
    assert left.reason == "1 idle, the scheduler does not use them"
    note = "1 instances are idle, the scheduler does not use them"
    assert unused.reasons[SHAPE] == (WaitingFor.SCHEDULER, note)
    gone = farm.run(minutes=5)
    assert [len(each.retire) for each in gone.decisions] == [1]
    until(lambda: farm.size() == 0)
    assert not farm.run(minutes=5).decisions
    tried = farm.run(minutes=8)
    assert sum(len(each.grow) for each in tried.decisions) == 1


def test_a_job_that_keeps_away_from_the_only_idle_machine_gets_another_at_the_next_tick(
    farm: Farm,
) -> None:
    farm.save(idle_s=3600)
    job = a_job(account_id=farm.orchestrator_id, counts={TaskStatus.PENDING: 1})
    wiring.job_store().create_job(job)
    farm.submit(1)
    farm.tick()
    until(lambda: not any(each.is_live for each in farm.scheduler.placements()))
    (bad,) = (each.name for pool in (A, B) for each in farm.fleet.instances(pool))
    wiring.job_store().change_job(job.ref, lambda now: replace(now, blocked_instances=(bad,)))
    farm.submit(1, avoided=[bad])
    assert farm.tick()["grow_count"] == 1
    assert not farm.orchestrator.breakers
    second = AttemptRef(*job.ref, "002", 1).attempt_id
    until(
        lambda: any(
            each.attempt_id == second and each.instance not in ("", bad)
            for each in farm.scheduler.placements()
        )
    )


def test_what_an_operator_changes_takes_effect_at_the_next_tick(farm: Farm) -> None:
    render = farm.fleet
    farm.save(project="elsewhere")
    farm.submit(1)
    assert farm.tick()["grow_count"] == 1
    assert farm.size() == 1
    assert not [*render.instances(A), *render.instances(B)]
    for pool in (A, B):
        farm.fleet.retire(pool, [each.name for each in farm.fleet.instances(pool)])
    farm.save(scheduler_address=f"{farm.stack.url('nomad')}/")
    assert farm.fleet is not render
    farm.save()
    assert farm.fleet is render


def test_an_orchestrator_in_trouble_leaves_the_others_alone(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    other = Farm(farm.stack, farm.web)
    other.save(scheduler_address="http://127.0.0.1:1")
    strange = Farm(farm.stack, farm.web)
    strange.save(fleet="ec2-not-yet")
    nameless = Farm(farm.stack, farm.web)
    nameless.save(project="")  # the provider's library refuses it with an error of Python's own
    farm.submit(1)
    headers = {"X-Baton-Token": wiring.push_token()}
    with caplog.at_level(logging.ERROR, logger="baton"):
        answer = farm.web.post("/tick", headers=headers).get_json()
    logged = [json.loads(each.message) for each in caplog.records if each.name == "baton"]
    (line,) = [each for each in logged if each["orchestrator_id"] == nameless.orchestrator_id]
    assert line["severity"] == "ERROR"
    assert line["reason"].startswith("ValueError: ")
    assert answer[nameless.orchestrator_id]["errors"] == [line["reason"]]
    assert answer[other.orchestrator_id]["errors"]
    assert answer[strange.orchestrator_id]["errors"]
    assert farm.web.post("/sweep", headers=headers).status_code == 200
    assert answer[farm.orchestrator_id]["grow_count"] == 1
    with pytest.raises(CloudError):
        other.scheduler.placements()


# What is kept


def kept_since(farm: Farm, begun: datetime) -> list[PlannedTick]:
    """Return the farm's kept ticks; the day may have changed meanwhile."""
    days = sorted({begun.date(), wiring.now().date()})
    return [each for day in days for each in kept_ticks(day, farm.orchestrator_id, wiring.blobs())]


def test_whatever_was_decided_was_kept_and_is_decided_again(farm: Farm) -> None:
    begun = wiring.now()
    farm.tick()
    assert kept_since(farm, begun) == []
    farm.submit(2)
    farm.tick()
    farm.ticks_until(lambda: farm.size() == 0)
    kept = kept_since(farm, begun)
    reasons = [each.reason for planned in kept for each in planned.decisions]
    assert sorted(reasons) == sorted(each["reason"] for each in farm.decisions())
    assert {each.inputs.orchestrator.orchestrator_id for each in kept} == {farm.orchestrator_id}
    for planned in kept:
        compared = compare(planned, planned.inputs.orchestrator)
        assert not [each for each in compared if each.differs]
    assert all(each["took"]["plan_ms"] >= 0 for each in farm.decisions())
    assert all(each["took"]["tick_s"] > 0 for each in farm.decisions())


def test_ticks_go_on_while_nothing_can_be_kept(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    begun = wiring.now()
    farm.submit(1)
    faults = f"{farm.stack.url('storage')}/faults"
    refusal = {"path_prefix": "/upload/", "times": 9, "status": 403}
    requests.post(faults, json=[refusal], timeout=10).raise_for_status()
    try:
        with caplog.at_level(logging.ERROR, logger="baton"):
            assert farm.tick()["grow_count"] == 1
    finally:
        requests.post(faults, json=[], timeout=10).raise_for_status()
    logged = [json.loads(each.message) for each in caplog.records if each.name == "baton"]
    assert {"tick not kept"} == {each["event"] for each in logged}
    assert kept_since(farm, begun) == []


def test_a_tick_is_kept_once_its_lease_is_given_back(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, blobs = wiring.orchestrator_store(), wiring.blobs()
    write, free = blobs.write, list[bool]()

    def look_and_write(name: str, content: bytes, content_type: str) -> None:
        held = store.begin_tick(farm.orchestrator_id, wiring.now())
        free.append(held is not None and not store.release_tick(held))
        write(name, content, content_type)

    monkeypatch.setattr(blobs, "write", look_and_write)
    farm.submit(1)
    farm.tick()
    assert free == [True]


def test_what_is_kept_is_forgotten_after_14_days(farm: Farm) -> None:
    farm.submit(1)
    (now, old) = farm.run().planned, farm.run(days=-15).planned
    for each in (now, old):
        assert each is not None
        keep_tick(each, wiring.blobs())
    headers = {"X-Baton-Token": wiring.push_token()}
    assert farm.web.post("/forget", headers=headers).get_json() == {"forgotten_count": 1}
    assert kept_since(farm, wiring.now()) == [now]
    assert farm.web.post("/forget", headers=headers).get_json() == {"forgotten_count": 0}
