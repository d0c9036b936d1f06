"""The Fleet of shared/ports.py on Compute Engine: one zonal managed instance group per pool.

A group is told by name what to start and what to delete, and never chooses by itself: no resizing, no self-repair. Its
operations are done when they are scheduled, so what really happened is only ever read from the next listing.
Source: https://cloud.google.com/compute/docs/reference/rest/v1/instanceGroupManagers, read 2026-11.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import requests
from google.api_core import exceptions as google_errors
from google.auth import exceptions as auth_errors
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from shared.errors import CloudError, OutOfCapacity, OverQuota, RateLimited, Unreachable
from shared.fleets.empty_pools import EmptyPools
from shared.fleets.gce_resources import (
    Machine,
    group_name,
    group_of,
    groups_filter,
    is_unused,
    pool_of,
    template_of,
)
from shared.models.farm import (
    FleetInstance,
    FleetProblem,
    Orchestrator,
    PoolKey,
    ProblemCode,
    named_at,
)

# The provider's word -> error; everything else is a CloudError. The words in capitals come from operations, the others
# from answers. Source: https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation, read 2026-11.
ERRORS: Mapping[str, type[CloudError]] = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": OutOfCapacity,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": OutOfCapacity,
    "QUOTA_EXCEEDED": OverQuota,
    "quotaExceeded": OverQuota,
    "RATE_LIMIT_EXCEEDED": RateLimited,
    "rateLimitExceeded": RateLimited,
    "userRateLimitExceeded": RateLimited,
    "backendError": Unreachable,
}
PROBLEMS: Mapping[type[CloudError], ProblemCode] = {
    OutOfCapacity: ProblemCode.STOCK_OUT,
    OverQuota: ProblemCode.QUOTA,
}

TIMEOUT_S = 30.0
# Three operations in a row must fit into a tick's time; Google itself would have us wait for two minutes.
WAIT_TIMEOUT_S = 30.0
MOST_PER_CALL = 1000
PAGE_SIZE = 500

STOPPED = frozenset({"STOPPED", "SUSPENDED", "TERMINATED"})
LEAVING = frozenset({"DEPROVISIONING", "PENDING_STOP", "STOPPING", "SUSPENDING"})
STARTING = frozenset({"CREATING", "CREATING_WITHOUT_RETRIES", "RECREATING"})


class GceFleet:
    """The instance groups of one orchestrator. `endpoint` is set only where the API is not Google's own."""

    def __init__(
        self, orchestrator: Orchestrator, *, endpoint: str = "", machine: Machine | None = None
    ) -> None:
        self._orchestrator = orchestrator
        self._machine = machine or Machine()
        self._ready: set[PoolKey] = set()
        # All pools at the latest listing, None before there was any.
        self._pools: set[PoolKey] | None = None
        self._empty = EmptyPools()
        options: dict[str, Any] = {}
        if endpoint:
            options["credentials"] = AnonymousCredentials()
            options["client_options"] = {"api_endpoint": endpoint}
        with _translated("connecting"):
            self._groups = compute_v1.InstanceGroupManagersClient(**options)
            self._templates = compute_v1.InstanceTemplatesClient(**options)
            self._zone_operations = compute_v1.ZoneOperationsClient(**options)
            self._global_operations = compute_v1.GlobalOperationsClient(**options)

    def grow(self, pool: PoolKey, names: Sequence[str]) -> None:
        for some in _batches(names):
            self._note_growth(pool)
            with _translated(f"growing {pool.zone}"):
                self._ensure_group(pool)
                try:
                    self._create(pool, some)
                except google_errors.NotFound:  # deleted behind our back
                    self._ready.discard(pool)
                    self._ensure_group(pool)
                    self._create(pool, some)
                except google_errors.BadRequest:
                    # Refused as a whole when one of the names is there already, from an earlier call.
                    there = {each.name for each in self.instances(pool)}
                    missing = [name for name in some if name not in there]
                    if len(missing) == len(some):
                        raise
                    if missing:
                        self._create(pool, missing)

    def pools(self) -> list[PoolKey]:
        request = compute_v1.AggregatedListInstanceGroupManagersRequest(
            project=self._orchestrator.project, filter=groups_filter(self._orchestrator)
        )
        with _translated("listing groups"):
            scopes = list(_call(self._groups.aggregated_list, request))
        found: set[PoolKey] = set()
        unused: set[PoolKey] = set()
        for scope, listed in scopes:
            if listed.warning.code == "UNREACHABLE":
                found |= self._pools_seen(scope)
            for group in listed.instance_group_managers:
                pool = pool_of(self._orchestrator, group.description)
                if pool is not None:
                    found.add(pool)
                    if is_unused(group):
                        unused.add(pool)
        self._empty.note(unused)
        self._pools = found
        return sorted(found)

    def _pools_seen(self, scope: str) -> set[PoolKey]:
        """Return the pools that a zone had which cannot be listed now. Raises: Unreachable when nobody knows."""
        kind, _, zone = scope.partition("/")
        if kind != "zones":
            return set()
        if self._pools is None and zone.startswith(f"{self._orchestrator.region}-"):
            raise Unreachable(f"gce: listing groups: the provider cannot reach {zone}")
        return {pool for pool in self._pools or () if pool.zone == zone}

    def instances(self, pool: PoolKey) -> list[FleetInstance]:
        if self._empty.is_quiet(pool):
            return []
        request = compute_v1.ListManagedInstancesInstanceGroupManagersRequest(
            max_results=PAGE_SIZE, **self._where(pool)
        )
        with _translated(f"listing {pool.zone}"):
            listed = _existing(self._groups.list_managed_instances, request)
        found = [_instance(pool, each) for each in listed]
        return sorted(found, key=lambda each: (each.created_at, each.name))

    def retire(self, pool: PoolKey, names: Sequence[str]) -> None:
        for some in _batches(names):
            body = compute_v1.InstanceGroupManagersDeleteInstancesRequest(
                instances=[f"zones/{pool.zone}/instances/{name}" for name in some],
                skip_instances_on_validation_error=True,
            )
            request = compute_v1.DeleteInstancesInstanceGroupManagerRequest(
                instance_group_managers_delete_instances_request_resource=body, **self._where(pool)
            )
            with _translated(f"shrinking {pool.zone}"):
                try:
                    started = _call(self._groups.delete_instances_unary, request)
                except google_errors.NotFound:  # the group is gone, and they with it
                    return
                self._finish(started, pool.zone)

    def problems(self, pool: PoolKey, since: datetime) -> list[FleetProblem]:
        if self._empty.is_quiet(pool):
            return []
        request = compute_v1.ListErrorsInstanceGroupManagersRequest(
            max_results=PAGE_SIZE, **self._where(pool)
        )
        with _translated(f"reading errors of {pool.zone}"):
            listed = _existing(self._groups.list_errors, request)
        found = [
            FleetProblem(
                pool=pool,
                code=_problem(each.error.code),
                message=each.error.message,
                at=datetime.fromisoformat(each.timestamp).astimezone(UTC),
            )
            for each in listed
        ]
        return sorted((each for each in found if each.at >= since), key=lambda each: each.at)

    def _note_growth(self, pool: PoolKey) -> None:
        self._empty.note_growth(pool)
        if self._pools is not None:
            self._pools.add(pool)

    def _create(self, pool: PoolKey, names: Sequence[str]) -> None:
        """Create instances. Raises: CloudError; google's NotFound and BadRequest."""
        where = self._where(pool)
        # The same names again are the same request, because no name is ever used twice.
        request = compute_v1.CreateInstancesInstanceGroupManagerRequest(
            instance_group_managers_create_instances_request_resource=(
                compute_v1.InstanceGroupManagersCreateInstancesRequest(
                    instances=[compute_v1.PerInstanceConfig(name=name) for name in names]
                )
            ),
            request_id=str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join((*where.values(), *names)))),
            **where,
        )
        self._finish(_call(self._groups.create_instances_unary, request), pool.zone)

    def _finish(self, operation: compute_v1.Operation, zone: str = "") -> None:
        """Wait until an operation of `zone`, or a global one, is done. Raises: CloudError when it failed.

        One that is not waited for any longer goes on: the next listing shows what came of it.
        """
        if operation.status != compute_v1.Operation.Status.DONE:
            try:
                operation = self._waited(operation.name, zone)
            except requests.Timeout as exc:
                said = f"{operation.operation_type} still works after {WAIT_TIMEOUT_S:.0f} s"
                raise CloudError(f"gce: {operation.name}: {said}") from exc
        for error in operation.error.errors:
            raise ERRORS.get(error.code, CloudError)(f"gce: {error.code}: {error.message}")

    def _waited(self, name: str, zone: str) -> compute_v1.Operation:
        where = {"project": self._orchestrator.project, "operation": name}
        how: dict[str, Any] = {"retry": None, "timeout": WAIT_TIMEOUT_S}
        if zone:
            request = compute_v1.WaitZoneOperationRequest(zone=zone, **where)
            return self._zone_operations.wait(request, **how)
        return self._global_operations.wait(compute_v1.WaitGlobalOperationRequest(**where), **how)

    def _ensure_group(self, pool: PoolKey) -> None:
        """Create a pool's group, or give it the present template."""
        if pool in self._ready:
            return
        template = self._ensure_template(pool)
        request = compute_v1.GetInstanceGroupManagerRequest(**self._where(pool))
        try:
            group = _call(self._groups.get, request)
        except google_errors.NotFound:
            self._insert_group(pool, template)
        else:
            if group.instance_template.rpartition("/")[2] != template.rpartition("/")[2]:
                patch = compute_v1.PatchInstanceGroupManagerRequest(
                    instance_group_manager_resource=compute_v1.InstanceGroupManager(
                        instance_template=template
                    ),
                    **self._where(pool),
                )
                self._finish(_call(self._groups.patch_unary, patch), pool.zone)
        self._ready.add(pool)

    def _insert_group(self, pool: PoolKey, template: str) -> None:
        request = compute_v1.InsertInstanceGroupManagerRequest(
            project=self._orchestrator.project,
            zone=pool.zone,
            instance_group_manager_resource=group_of(self._orchestrator, pool, template),
        )
        try:
            self._finish(_call(self._groups.insert_unary, request), pool.zone)
        except google_errors.Conflict:  # somebody else was quicker
            return

    def _ensure_template(self, pool: PoolKey) -> str:
        """Create the template of a pool's instances; returns its URL."""
        template = template_of(self._orchestrator, pool, self._machine)
        request = compute_v1.InsertInstanceTemplateRequest(
            project=self._orchestrator.project, instance_template_resource=template
        )
        with suppress(google_errors.Conflict):  # there already, and the same: its name says so
            self._finish(_call(self._templates.insert_unary, request))
        return f"global/instanceTemplates/{template.name}"

    def _where(self, pool: PoolKey) -> dict[str, str]:
        return {
            "project": self._orchestrator.project,
            "zone": pool.zone,
            "instance_group_manager": group_name(self._orchestrator, pool),
        }


def _call(method: Callable[..., Any], request: object) -> Any:
    """Call the API once; what it answers is a message, or pages that are fetched while they are read."""
    return method(request=request, retry=None, timeout=TIMEOUT_S)


def _existing(method: Callable[..., Any], request: object) -> list[Any]:
    """Return all that a paged list of a group holds: nothing when there is no such group."""
    try:
        return list(_call(method, request))
    except google_errors.NotFound:
        return []


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), MOST_PER_CALL):
        yield names[start : start + MOST_PER_CALL]


def _instance(pool: PoolKey, listed: compute_v1.ManagedInstance) -> FleetInstance:
    action, status = listed.current_action, listed.instance_status
    name = listed.name or listed.instance.rpartition("/")[2]
    try:
        created_at = named_at(name)
    except ValueError:  # not started by us: older than anything
        created_at = datetime.fromtimestamp(0, UTC)
    errors = [error.code for error in listed.last_attempt.errors.errors]
    return FleetInstance(
        name=name,
        pool=pool,
        created_at=created_at,
        is_retiring=action in ("DELETING", "ABANDONING") or status in LEAVING,
        is_stopped=status in STOPPED and action == "NONE",
        problem=_problem(errors[0]) if errors and action in STARTING else None,
    )


def _problem(code: str) -> ProblemCode:
    return PROBLEMS.get(ERRORS.get(code, CloudError), ProblemCode.OTHER)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn the provider's errors into ours."""
    try:
        yield
    except google_errors.GoogleAPICallError as exc:
        reasons = [str(error.get("reason", "")) for error in exc.errors if isinstance(error, dict)]
        known = (ERRORS[reason] for reason in reasons if reason in ERRORS)
        raise next(known, CloudError)(f"gce: {doing}: {exc}") from exc
    except (requests.RequestException, auth_errors.TransportError) as exc:
        raise Unreachable(f"gce: {doing}: {exc}") from exc
    except (google_errors.RetryError, auth_errors.GoogleAuthError) as exc:
        raise CloudError(f"gce: {doing}: {exc}") from exc
