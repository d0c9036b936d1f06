"""What happens to instances in time: creation, boot, preemption, loss, deletion, repair.

Every step is recorded with the time it is due, so that a restarted stand-in goes on where the
killed one was.
"""

import signal
import time
import uuid
from dataclasses import dataclass

from emulators.compute.faults import Faults
from emulators.compute.machine_types import gpus_of, machine_type
from emulators.compute.machines import Machines
from emulators.compute.state import Document, State, new_number
from emulators.compute.wire import is_spot

_ERRORS_KEPT = 100
_SIMULATED_MAINTENANCE_S = 60.0


@dataclass(frozen=True)
class Pace:
    """How long things take here."""

    boot_s: float
    provision_s: float
    stop_s: float
    retry_s: float
    notice_s: float
    orphan_s: float


class Lifecycle:
    """Moves instances on. It alone starts and ends machines, which join `nomad` or `kubernetes` at its URL."""

    def __init__(
        self,
        state: State,
        faults: Faults,
        machines: Machines,
        pace: Pace,
        *,
        joins: dict[str, str],
        max_allocs: int,
    ) -> None:
        self._state = state
        self._faults = faults
        self._machines = machines
        self._pace = pace
        self._joins = joins
        self._max_allocs = max_allocs

    def recover(self) -> None:
        """Adopt the machines that still run; what should run and does not is lost."""
        instances = list(self._state.instances.values())
        self._machines.end_strays({self._machines.directory(i).name for i in instances})
        for instance in instances:
            if instance["status"] in ("STAGING", "RUNNING", "STOPPING"):
                if self._machines.adopt(instance):
                    self._state.log("adopted", instance)
                elif instance["status"] == "STAGING":
                    instance |= {"status": "PROVISIONING", "due_at": time.time()}
                else:
                    self._off(instance)

    def create(self, instance: Document) -> None:
        """Have a managed instance created, from its first attempt on."""
        retries = self._faults.has_retries(instance)
        instance |= {
            "action": "CREATING" if retries else "CREATING_WITHOUT_RETRIES", "status": None,
            "id": new_number(), "due_at": time.time(), "errors": [], "preempted": False,
            "maintenance_event": "NONE", "created_at": time.time(), "started_at": None,
            "stopped_at": None, "booted_at": None, "fate": None,
        }  # fmt: skip
        self._state.save_instance(instance)

    def delete(self, instance: Document, *, fate: str = "delete") -> None:
        """Have an instance stopped and deleted; `fate` recreate puts another in its place."""
        if instance["status"] is None and fate == "delete":
            self._state.drop_instance(instance)
            return
        instance |= {
            "action": "DELETING" if fate == "delete" else "RECREATING", "fate": fate,
            "status": "STOPPING", "due_at": time.time() + self._pace.stop_s,
        }  # fmt: skip
        self._state.log("deleting", instance)
        self._state.save_instance(instance)

    def preempt(self, instance: Document, notice_s: float | None = None) -> None:
        """Tell the instance, and take it away after the notice."""
        notice_s = self._pace.notice_s if notice_s is None else notice_s
        instance |= {
            "preempted": True, "maintenance_event": "TERMINATE_ON_HOST_MAINTENANCE",
            "status": "STOPPING", "fate": "preempt", "due_at": time.time() + notice_s,
        }  # fmt: skip
        self._state.log("preemption_notice", instance, notice_s=notice_s)
        self._state.save_instance(instance)
        self._describe(instance)

    def maintain(self, instance: Document) -> None:
        """Simulate a maintenance event: a spot instance is preempted, another one migrates."""
        if is_spot(instance["properties"].get("scheduling") or {}):
            self.preempt(instance)
            return
        instance["maintenance_event"] = "MIGRATE_ON_HOST_MAINTENANCE"
        instance["due_at"] = time.time() + _SIMULATED_MAINTENANCE_S
        self._state.save_instance(instance)
        self._describe(instance)

    def lose(self, instance: Document) -> None:
        """Let the host die under an instance."""
        self._machines.switch_off(instance, number=signal.SIGKILL)

    def advance(self) -> None:
        """Take every step that is due."""
        now = time.time()
        for instance in list(self._state.instances.values()):
            if instance["status"] == "RUNNING" and instance["booted_at"] is None:
                self._look_for_boot(instance)
            if instance["due_at"] is not None and instance["due_at"] <= now:
                self._step(instance)

    def _step(self, instance: Document) -> None:
        instance["due_at"] = None
        if instance["status"] is None:
            self._try_to_create(instance)
        elif instance["status"] == "PROVISIONING":
            self._switch_on(instance)
        elif instance["status"] == "STOPPING":
            if self._machines.is_on(instance):
                self._machines.switch_off(instance)
            else:
                self._off(instance)
        elif instance["maintenance_event"] != "NONE":
            instance["maintenance_event"] = "NONE"
            self._describe(instance)
            self._state.save_instance(instance)

    def _try_to_create(self, instance: Document) -> None:
        order = self._faults.stockout(instance)
        if order is None:
            instance |= {"status": "PROVISIONING", "errors": [], "created_at": time.time()}
            instance["due_at"] = time.time() + self._pace.provision_s
            self._state.log("created", instance)
            self._state.save_instance(instance)
            return
        zone = f"projects/{instance['project']}/zones/{instance['zone']}"
        error = {
            "code": "ZONE_RESOURCE_POOL_EXHAUSTED",
            "message": (
                f"The zone '{zone}' does not have enough resources available to fulfill the "
                "request. Try a different zone, or try again later."
            ),
        }
        self._record_error(instance, error)
        self._state.log("stockout", instance)
        if instance["action"] == "CREATING_WITHOUT_RETRIES":
            group = self._state.groups[instance["group"]]
            group["size"] -= 1
            self._state.save_group(group)
            self._state.drop_instance(instance)
            return
        instance |= {"errors": [error], "due_at": time.time() + self._pace.retry_s}
        self._state.save_instance(instance)

    def _record_error(self, instance: Document, error: Document) -> None:
        group = self._state.groups[instance["group"]]
        entry = {
            **error, "at": time.time(), "action": instance["action"],
            "instance": instance["name"], "template": instance["template"],
        }  # fmt: skip
        group["errors"] = [*group["errors"], entry][-_ERRORS_KEPT:]
        self._state.save_group(group)

    def _switch_on(self, instance: Document) -> None:
        boot_s = self._faults.boot_s(instance, self._pace.boot_s)
        instance["boot_at"] = None if boot_s is None else instance["created_at"] + boot_s
        instance["ready_s"] = self._faults.ready_s(instance)
        instance |= {"status": "STAGING", "started_at": time.time()}
        self._state.save_instance(instance)
        self._state.flush()  # were we killed now, the machine must not be started twice
        self._describe(instance)
        self._machines.switch_on(instance)
        instance |= {"status": "RUNNING", "action": "NONE"}
        self._state.save_instance(instance)
        self._state.log("running", instance, pid=self._machines.pid(instance))

    def _look_for_boot(self, instance: Document) -> None:
        booted_at = self._machines.status(instance).get("booted_at")
        if booted_at is not None:
            instance["booted_at"] = booted_at
            self._state.save_instance(instance)
            self._state.log("booted", instance, boot_s=round(booted_at - instance["created_at"], 3))

    def machine_ended(self, id_: str) -> None:
        """Take notice of a machine that has ended, whoever ended it."""
        for instance in self._state.instances.values():
            if instance["id"] == id_:
                self._off(instance)
                self._state.flush()
                return

    def shut_down(self) -> None:
        """Forget all instances, whose machines the caller has ended: an orderly end of the cloud."""
        for instance in list(self._state.instances.values()):
            if instance["status"] is not None:
                self._state.log("deleted", instance)
            self._machines.forget(instance)
            self._state.drop_instance(instance)
        for group in self._state.groups.values():
            group["size"] = 0
            self._state.save_group(group)

    def _off(self, instance: Document) -> None:
        """Carry on with an instance whose machine is off."""
        fate = instance["fate"]
        instance |= {"stopped_at": time.time(), "due_at": None}
        if fate == "delete":
            self._state.log("deleted", instance)
            self._machines.forget(instance)
            self._state.drop_instance(instance)
            return
        kinds = {"preempt": "preempted", "recreate": "deleted"}
        self._state.log(kinds.get(fate, "lost"), instance)
        instance |= {"status": "TERMINATED", "action": "NONE", "fate": None}
        self._state.save_instance(instance)
        group = self._state.groups[instance["group"]]
        policy = group["given"].get("instanceLifecyclePolicy") or {}
        if fate == "recreate" or policy.get("defaultActionOnFailure", "REPAIR") == "REPAIR":
            self._machines.forget(instance)
            self.create(instance)
            instance["action"] = "RECREATING"

    def _describe(self, instance: Document) -> None:
        """Tell the machine what it is."""
        properties = instance["properties"]
        labels = properties.get("labels") or {}
        facts = machine_type(properties["machineType"])
        assert facts is not None, "templates name known machine types only"
        extra = {**labels, **instance["metadata"]}
        directory = self._machines.directory(instance)
        machine = {
            "name": instance["name"], "id": instance["id"], "project": instance["project"],
            "zone": instance["zone"], "machine_type": properties["machineType"],
            "instance_type": extra.get("instance_type", properties["machineType"]),
            "orchestrator": extra.get("orchestrator", ""),
            "pool": instance["group"].rpartition("/")[2], "metadata": instance["metadata"],
            "preemptible": is_spot(properties.get("scheduling") or {}),
            "preempted": instance["preempted"], "maintenance_event": instance["maintenance_event"],
            "cores": facts.cores, "memory_mib": facts.memory_mib, "cpu_mhz": facts.cpu_mhz,
            "gpus": gpus_of(properties), "max_allocs": self._max_allocs,
            "node_id": str(uuid.uuid5(uuid.NAMESPACE_OID, instance["id"])),
            **self._joins, "boot_at": instance["boot_at"], "directory": str(directory),
            "ready_s": instance.get("ready_s", 0.0),
            "cache": str(self._machines.cache(instance["zone"])),
            "lock": str(self._machines.lock), "orphan_s": self._pace.orphan_s,
        }  # fmt: skip
        self._machines.describe(instance, machine)
