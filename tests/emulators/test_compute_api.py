"""The Compute Engine stand-in through google-cloud-compute: what the API promises and refuses."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.cloud import compute_v1

from tests.emulators.farm import PROJECT, ZONE, Compute, stand_in
from tests.waiting import until

Status = compute_v1.Operation.Status
IN_POOL: dict[str, Any] = {"project": PROJECT, "zone": ZONE, "instance_group_manager": "pool"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    # Nobody listens at this Nomad address: these instances come up, and never join.
    compute = Compute(
        "emulators.compute", tmp_path_factory.mktemp("compute"),
        "--nomad", "http://127.0.0.1:9", "--boot-s", "0.2", "--retry-s", "0.1",
        "--operation-s", "0.05", "--stop-s", "0.3",
    )  # fmt: skip
    with stand_in(compute):
        yield compute


@pytest.fixture
def compute(started: Compute) -> Compute:
    started.post("/reset")
    requests.delete(started.url + "/faults", timeout=5)
    started.template()
    started.group()
    return started


def test_an_operation_is_pending_or_running_until_it_is_done(compute: Compute) -> None:
    operation = compute.groups.resize_unary(**IN_POOL, size=0)
    assert operation.status in (Status.PENDING, Status.RUNNING)
    assert operation.progress == 0
    assert not operation.end_time
    waited = compute.zone_operations.wait(project=PROJECT, zone=ZONE, operation=operation.name)
    assert waited.status == Status.DONE
    assert waited.progress == 100
    assert waited.end_time > waited.start_time >= waited.insert_time
    assert waited.operation_type == "compute.instanceGroupManagers.resize"
    assert waited.target_link.endswith(f"/zones/{ZONE}/instanceGroupManagers/pool")
    assert waited.zone.endswith(f"/zones/{ZONE}")


def test_an_operation_of_another_zone_is_not_found(compute: Compute) -> None:
    operation = compute.groups.resize_unary(**IN_POOL, size=0)
    with pytest.raises(exceptions.NotFound):
        compute.zone_operations.get(project=PROJECT, zone="us-east1-b", operation=operation.name)


def test_a_request_repeated_with_its_id_starts_nothing_new(compute: Compute) -> None:
    request_id = str(uuid.uuid4())
    first = compute.create("one", request_id=request_id)
    again = compute.create("one", request_id=request_id)
    assert again.name == first.name
    assert compute.size() == 1
    assert list(compute.members()) == ["one"]


@pytest.mark.parametrize("request_id", ["nonsense", "00000000-0000-0000-0000-000000000000"])
def test_a_request_id_that_is_no_uuid_is_refused(compute: Compute, request_id: str) -> None:
    with pytest.raises(exceptions.BadRequest, match="requestId"):
        compute.create("one", request_id=request_id)
    assert compute.members() == {}


def test_created_instances_run_and_carry_what_the_template_says(compute: Compute) -> None:
    compute.template(
        "labelled", machine_type="e2-highcpu-8", scheduling={}, labels={"show": "moon"}
    )
    compute.group("standard", instance_template="global/instanceTemplates/labelled")
    compute.create("standard-a", group="standard")
    until(lambda: compute.members("standard")["standard-a"].instance_status == "RUNNING")
    instance = compute.instances.get(project=PROJECT, zone=ZONE, instance="standard-a")
    assert instance.machine_type.endswith(f"/zones/{ZONE}/machineTypes/e2-highcpu-8")
    assert dict(instance.labels) == {"show": "moon"}
    assert instance.scheduling.provisioning_model == "STANDARD"
    assert not instance.scheduling.preemptible
    member = compute.members("standard")["standard-a"]
    assert (member.current_action, member.id) == ("NONE", instance.id)


def test_a_spot_template_makes_preemptible_instances(compute: Compute) -> None:
    compute.create("spot-a")
    until(lambda: compute.status("spot-a"))
    instance = compute.instances.get(project=PROJECT, zone=ZONE, instance="spot-a")
    assert instance.scheduling.preemptible
    assert instance.scheduling.provisioning_model == "SPOT"
    assert instance.scheduling.automatic_restart is False


@pytest.mark.parametrize(
    ("names", "refusal"),
    [
        (("new", "new"), exceptions.BadRequest),
        (("new", "taken"), exceptions.BadRequest),
        (("new", "elsewhere"), exceptions.Conflict),
        (("new", "Not_A_Name"), exceptions.BadRequest),
        ((), exceptions.BadRequest),
    ],
)
def test_a_request_with_one_bad_name_creates_nothing(
    compute: Compute, names: tuple[str, ...], refusal: type[Exception]
) -> None:
    compute.group("other")
    compute.create("taken")
    compute.create("elsewhere", group="other")
    with pytest.raises(refusal):
        compute.create(*names)
    assert list(compute.members()) == ["taken"]
    assert compute.size() == 1


def test_deleting_instances_lowers_the_target_size_and_picks_no_other(compute: Compute) -> None:
    compute.create("a", "b", "c")
    until(lambda: [m.instance_status for m in compute.members().values()] == ["RUNNING"] * 3)
    compute.delete("b")
    assert compute.size() == 2
    until(lambda: list(compute.members()) == ["a", "c"])
    assert compute.status("a") == compute.status("c") == "RUNNING"


def test_an_instance_that_is_being_deleted_is_listed_until_it_is_gone(compute: Compute) -> None:
    compute.create("a")
    until(lambda: compute.status("a") == "RUNNING")
    body = compute_v1.InstanceGroupManagersDeleteInstancesRequest(
        instances=[f"zones/{ZONE}/instances/a"]
    )
    compute.groups.delete_instances_unary(
        **IN_POOL, instance_group_managers_delete_instances_request_resource=body
    )
    member = compute.members()["a"]
    assert (member.current_action, member.instance_status) == ("DELETING", "STOPPING")
    group = compute.groups.get(**IN_POOL)
    assert (group.current_actions.deleting, group.status.is_stable) == (1, False)
    until(lambda: not compute.members())
    assert compute.groups.get(**IN_POOL).status.is_stable


def test_deleting_what_is_no_member_is_refused_as_a_whole_unless_skipped(compute: Compute) -> None:
    compute.create("a")
    with pytest.raises(exceptions.BadRequest, match="ghost"):
        compute.delete("a", "ghost")
    assert compute.size() == 1
    compute.delete("a", "ghost", skip=True)
    assert compute.size() == 0


@pytest.mark.parametrize("url", ["zones/us-east1-b/instances/a", "instances/a", "zones/x/a"])
def test_a_url_of_another_zone_or_none_is_refused_even_when_skipping(
    compute: Compute, url: str
) -> None:
    compute.create("a")
    with pytest.raises(exceptions.BadRequest):
        compute.delete(url, skip=True)
    assert compute.size() == 1


def test_resizing_makes_names_up_and_never_takes_one_again(compute: Compute) -> None:
    compute.done(compute.groups.resize_unary(**IN_POOL, size=3))
    first = set(compute.members())
    assert len(first) == 3
    assert all(name.startswith("pool-") for name in first)
    compute.done(compute.groups.resize_unary(**IN_POOL, size=0))
    until(lambda: not compute.members())
    compute.done(compute.groups.resize_unary(**IN_POOL, size=3))
    assert first.isdisjoint(compute.members())


def test_a_group_may_not_grow_beyond_the_provider_limit(compute: Compute) -> None:
    with pytest.raises(exceptions.BadRequest):
        compute.done(compute.groups.resize_unary(**IN_POOL, size=1001))
    assert compute.size() == 0


def test_a_pageless_group_lists_all_members_whatever_the_page_size(compute: Compute) -> None:
    compute.create("a", "b", "c")
    request = compute_v1.ListManagedInstancesInstanceGroupManagersRequest(**IN_POOL, max_results=2)
    pages = list(compute.groups.list_managed_instances(request).pages)
    assert [len(page.managed_instances) for page in pages] == [3]


def test_a_paginated_group_lists_its_members_in_pages(compute: Compute) -> None:
    compute.group("paged", list_managed_instances_results="PAGINATED")
    compute.create("a", "b", "c", group="paged")
    request = compute_v1.ListManagedInstancesInstanceGroupManagersRequest(
        project=PROJECT, zone=ZONE, instance_group_manager="paged", max_results=2
    )
    pages = list(compute.groups.list_managed_instances(request).pages)
    assert [[m.name for m in page.managed_instances] for page in pages] == [["a", "b"], ["c"]]


def test_a_stock_out_is_told_by_each_member_and_by_the_group(compute: Compute) -> None:
    compute.post("/faults", {"kind": "stockout", "zone": ZONE})
    compute.create("a")
    member = until(
        lambda: compute.members()["a"], holds=lambda found: found.last_attempt.errors.errors
    )
    assert member.current_action == "CREATING"
    assert not member.instance_status
    assert not member.id
    assert member.last_attempt.errors.errors[0].code == "ZONE_RESOURCE_POOL_EXHAUSTED"
    error = next(iter(compute.groups.list_errors(**IN_POOL)))
    assert error.error.code == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert error.instance_action_details.action == "CREATING"
    assert error.instance_action_details.instance.endswith(f"/zones/{ZONE}/instances/a")
    assert error.timestamp
    with pytest.raises(exceptions.NotFound):
        compute.instances.get(project=PROJECT, zone=ZONE, instance="a")
    assert compute.size() == 1


def test_the_group_tries_again_until_there_is_stock(compute: Compute) -> None:
    compute.post("/faults", {"kind": "stockout", "zone": ZONE})
    compute.create("a")
    until(lambda: compute.events("a").count("stockout") >= 2)
    requests.delete(compute.url + "/faults", params={"kind": "stockout"}, timeout=5)
    until(lambda: compute.status("a") == "RUNNING")
    assert not compute.members()["a"].last_attempt.errors.errors


def test_a_group_that_tries_once_gives_up_and_lowers_its_target(compute: Compute) -> None:
    compute.post("/faults", {"kind": "stockout", "retries": False})
    compute.create("a", "b")
    until(lambda: compute.size() == 0)
    assert compute.members() == {}
    actions = {e.instance_action_details.action for e in compute.groups.list_errors(**IN_POOL)}
    assert actions == {"CREATING_WITHOUT_RETRIES"}


def test_a_stock_out_spares_other_zones_other_types_and_what_still_fits(compute: Compute) -> None:
    compute.group("far", zone="us-east1-b")
    compute.post("/faults", {"kind": "stockout", "zone": ZONE, "capacity": 1})
    compute.post("/faults", {"kind": "stockout", "machine_type": "n2-standard-2"})
    compute.create("a", "b")
    compute.create("c", group="far", zone="us-east1-b")
    until(lambda: "stockout" in compute.events("a") + compute.events("b"))
    until(lambda: sorted(m.instance_status for m in compute.members().values()) == ["", "RUNNING"])
    until(lambda: compute.members("far", "us-east1-b")["c"].instance_status == "RUNNING")


def test_an_operation_can_be_ordered_to_fail_without_effect(compute: Compute) -> None:
    order = {"kind": "operation", "operation_type": "createInstances", "count": 1, "status": 503}
    compute.post("/faults", {**order, "code": "ZONE_RESOURCE_POOL_EXHAUSTED"})
    body = compute_v1.InstanceGroupManagersCreateInstancesRequest(instances=[{"name": "a"}])
    operation: Any = compute.groups.create_instances(
        **IN_POOL, instance_group_managers_create_instances_request_resource=body
    )
    with pytest.raises(exceptions.ServiceUnavailable):
        operation.result(timeout=20)
    assert compute.members() == {}
    compute.create("a")
    assert list(compute.members()) == ["a"]


def test_a_failed_operation_is_a_good_answer_that_holds_an_error(compute: Compute) -> None:
    compute.post("/faults", {"kind": "operation", "code": "QUOTA_EXCEEDED", "status": 403})
    started = compute.groups.resize_unary(**IN_POOL, size=1)
    operation = compute.zone_operations.wait(project=PROJECT, zone=ZONE, operation=started.name)
    assert operation.status == Status.DONE
    assert [error.code for error in operation.error.errors] == ["QUOTA_EXCEEDED"]
    assert operation.http_error_status_code == 403


def test_rate_limits_and_server_errors_last_for_as_many_calls_as_ordered(compute: Compute) -> None:
    compute.post("/faults", {"kind": "calls", "calls": 2, "status": 403})
    for _ in range(2):
        with pytest.raises(exceptions.Forbidden) as caught:
            compute.groups.get(**IN_POOL)
        assert caught.value.errors[0]["reason"] == "rateLimitExceeded"
    compute.post("/faults", {"kind": "calls", "calls": 1, "status": 500, "path": "/resize"})
    assert compute.size() == 0
    with pytest.raises(exceptions.InternalServerError):
        compute.groups.resize_unary(**IN_POOL, size=1)
    compute.done(compute.groups.resize_unary(**IN_POOL, size=1))


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"kind": "earthquake"},
        {"kind": "preempt", "instance": "nobody"},
        {"kind": "slow_boot"},
        {"kind": "slow_ready"},
        {"kind": "calls", "calls": 0},
        {"kind": "stockout", "capacity": -1},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(compute: Compute, order: dict[str, object]) -> None:
    reply = requests.post(compute.url + "/faults", json=order, timeout=5)
    assert reply.status_code in (400, 404)
    assert compute.get("/faults") == {"orders": [], "calls": []}


def test_unknown_things_are_not_found_in_the_words_of_the_provider(compute: Compute) -> None:
    path = f"projects/{PROJECT}/zones/{ZONE}/instanceGroupManagers/ghost"
    with pytest.raises(exceptions.NotFound, match=f"The resource '{path}' was not found") as caught:
        compute.groups.get(project=PROJECT, zone=ZONE, instance_group_manager="ghost")
    assert caught.value.errors[0]["reason"] == "notFound"
    with pytest.raises(exceptions.NotFound):
        compute.group("late", instance_template="global/instanceTemplates/ghost")


def test_templates_are_kept_listed_and_protected_while_used(compute: Compute) -> None:
    compute.template("spare")
    names = [template.name for template in compute.templates.list(project=PROJECT)]
    assert sorted(names) == ["spare", "template"]
    with pytest.raises(exceptions.Conflict):
        compute.template("spare")
    with pytest.raises(exceptions.BadRequest, match="already being used"):
        compute.done(compute.templates.delete_unary(project=PROJECT, instance_template="template"))
    compute.done(compute.templates.delete_unary(project=PROJECT, instance_template="spare"))
    with pytest.raises(exceptions.NotFound):
        compute.templates.get(project=PROJECT, instance_template="spare")


def test_a_machine_type_that_does_not_exist_is_refused(compute: Compute) -> None:
    with pytest.raises(exceptions.BadRequest, match="machineType"):
        compute.template("odd", machine_type="z9-standard-4")


@pytest.mark.parametrize(
    "properties",
    [
        {"machine_type": "g2-standard-4"},
        {"machine_type": "a2-highgpu-1g"},
        {"guest_accelerators": [{"accelerator_type": "nvidia-tesla-t4", "accelerator_count": 1}]},
    ],
)
def test_machines_with_gpus_cannot_migrate(compute: Compute, properties: dict[str, Any]) -> None:
    standard = {"provisioning_model": "STANDARD"}
    with pytest.raises(exceptions.BadRequest, match="live migration"):
        compute.template("gpu", scheduling=standard, **properties)
    ends = {**standard, "on_host_maintenance": "TERMINATE"}
    assert compute.template("gpu", scheduling=ends, **properties)
    compute.done(compute.templates.delete_unary(project=PROJECT, instance_template="gpu"))


def test_a_group_of_a_name_that_exists_is_refused(compute: Compute) -> None:
    with pytest.raises(exceptions.Conflict):
        compute.group()


def test_a_group_can_be_given_another_template(compute: Compute) -> None:
    link = compute.template("bigger", machine_type="n1-standard-8")
    resource = compute_v1.InstanceGroupManager(instance_template=link)
    compute.done(compute.groups.patch_unary(**IN_POOL, instance_group_manager_resource=resource))
    compute.create("a")
    until(lambda: compute.status("a") == "RUNNING")
    instance = compute.instances.get(project=PROJECT, zone=ZONE, instance="a")
    assert instance.machine_type.endswith("n1-standard-8")


def test_deleting_a_group_deletes_its_instances(compute: Compute) -> None:
    compute.create("a", "b")
    until(lambda: compute.status("b") == "RUNNING")
    compute.done(compute.groups.delete_unary(**IN_POOL))
    until(lambda: not list(compute.groups.list(project=PROJECT, zone=ZONE)))
    assert compute.get("/machines") == []
    with pytest.raises(exceptions.NotFound):
        compute.groups.get(**IN_POOL)


def test_groups_and_instances_are_listed_over_all_zones(compute: Compute) -> None:
    compute.group("far", zone="us-east1-b")
    compute.create("a")
    compute.create("b", group="far", zone="us-east1-b")
    until(lambda: len(list(compute.instances.list(project=PROJECT, zone="us-east1-b"))) == 1)
    until(lambda: compute.status("a"))
    groups = {
        zone: [group.name for group in found.instance_group_managers]
        for zone, found in compute.groups.aggregated_list(project=PROJECT)
    }
    assert groups == {f"zones/{ZONE}": ["pool"], "zones/us-east1-b": ["far"]}
    instances = {
        zone: [instance.name for instance in found.instances]
        for zone, found in compute.instances.aggregated_list(project=PROJECT)
    }
    assert instances == {f"zones/{ZONE}": ["a"], "zones/us-east1-b": ["b"]}
    assert dict(compute.groups.aggregated_list(project="another")) == {}


def test_lists_can_be_filtered(compute: Compute) -> None:
    compute.create("a-1", "a-2", "b-1")
    until(lambda: [m.instance_status for m in compute.members().values()] == ["RUNNING"] * 3)

    def names(expression: str) -> list[str]:
        request = compute_v1.ListInstancesRequest(project=PROJECT, zone=ZONE, filter=expression)
        return [instance.name for instance in compute.instances.list(request)]

    assert names("name=a-1") == ["a-1"]
    assert names('name="a-*" AND status=RUNNING') == ["a-1", "a-2"]
    assert names('(name != "a-1") (status = RUNNING)') == ["a-2", "b-1"]
    assert names("name eq 'never'") == []
    with pytest.raises(exceptions.BadRequest):
        names("name ?? a")


def test_a_malformed_body_is_refused_and_changes_nothing(compute: Compute) -> None:
    path = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/instanceGroupManagers/pool/createInstances"
    for body in (b"{", b"[1]", b'{"instances": 7}', b'{"instances": ["a"]}'):
        reply = requests.post(compute.url + path, data=body, timeout=5)
        assert reply.status_code == 400, body
    assert compute.members() == {}


def test_what_is_not_offered_says_so(compute: Compute, tmp_path: Path) -> None:
    reply = requests.get(compute.url + "/compute/v1/projects/p/regions/r/disks", timeout=5)
    assert reply.status_code == 404
    assert "not offered" in reply.json()["error"]["message"]
