"""The Compute Engine and Nomad stand-ins as child processes, and what tests ask of them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from emulators.instance.memory import MemoryGroup
from tests.waiting import until

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
PROJECT, ZONE = "studio", "us-central1-a"


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def can_limit_memory() -> bool:
    """Return whether machines can make memory control groups here, without which nothing runs out of memory."""
    group = MemoryGroup(f"probe-{os.getpid()}", 0)
    group.remove()
    return group.is_real


class StandIn:
    """One stand-in; the same port after a restart."""

    def __init__(self, module: str, data: Path, *arguments: str, pythonpath: str = "") -> None:
        self._command = [sys.executable, "-m", module, "--data", str(data), *arguments]
        self._pythonpath = pythonpath
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it, and return when it answers."""
        port = self.url.rpartition(":")[2] or "0"
        environment = {**os.environ, "PYTHONPATH": self._pythonpath}
        self._process = subprocess.Popen(
            [*self._command, "--port", port],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "http://" in line, f"{self._command} did not start: {line!r}"
        self.url = line.split()[-1]

    @property
    def pid(self) -> int:
        """Its pid."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._close()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._close()

    def _close(self) -> int:
        assert self._process is not None
        code = self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    @property
    def is_on(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a GET that must succeed."""
        reply = requests.get(self.url + path, params=query, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, path: str, body: object = None) -> Any:
        """Return the JSON of a POST that must succeed."""
        reply = requests.post(self.url + path, json=body, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.json()


class Compute(StandIn):
    """The Compute Engine stand-in through Google's own client."""

    def start(self) -> None:
        super().start()
        credentials: Any = AnonymousCredentials
        arguments: dict[str, Any] = {
            "credentials": credentials(),
            "client_options": {"api_endpoint": self.url},
        }
        self.templates = compute_v1.InstanceTemplatesClient(**arguments)
        self.groups = compute_v1.InstanceGroupManagersClient(**arguments)
        self.instances = compute_v1.InstancesClient(**arguments)
        self.zone_operations = compute_v1.ZoneOperationsClient(**arguments)
        self.global_operations = compute_v1.GlobalOperationsClient(**arguments)
        # Without this, `.result()` of an operation would ask Google's own endpoint.
        services: dict[str, object] = self.groups.transport._extended_operations_services
        services["zone_operations"] = self.zone_operations

    def done(self, operation: Any) -> Any:
        """Return an operation when it is DONE, which it must be without an error."""
        if operation.zone:
            zone = operation.zone.rpartition("/")[2]
            ended = self.zone_operations.wait(project=PROJECT, zone=zone, operation=operation.name)
        else:
            ended = self.global_operations.wait(project=PROJECT, operation=operation.name)
        assert ended.status == compute_v1.Operation.Status.DONE
        assert not ended.error.errors
        return ended

    def template(self, name: str = "template", **properties: Any) -> str:
        """Insert a template of a spot machine, unless `properties` say otherwise."""
        given = {
            "machine_type": "n1-standard-4",
            "scheduling": {"preemptible": True, "provisioning_model": "SPOT"},
            "metadata": {"items": [{"key": "orchestrator", "value": "nomad-1"}]},
            **properties,
        }
        resource = compute_v1.InstanceTemplate(name=name, properties=given)
        self.done(self.templates.insert_unary(project=PROJECT, instance_template_resource=resource))
        return f"global/instanceTemplates/{name}"

    def group(self, name: str = "pool", zone: str = ZONE, **given: Any) -> str:
        """Insert an empty group that repairs nothing, unless `given` says otherwise."""
        settings = {
            "name": name, "base_instance_name": name, "target_size": 0,
            "instance_template": "global/instanceTemplates/template",
            "instance_lifecycle_policy": {"default_action_on_failure": "DO_NOTHING"}, **given,
        }  # fmt: skip
        resource = compute_v1.InstanceGroupManager(**settings)
        self.done(
            self.groups.insert_unary(
                project=PROJECT, zone=zone, instance_group_manager_resource=resource
            )
        )
        return name

    def create(self, *names: str, group: str = "pool", zone: str = ZONE, **more: Any) -> Any:
        """Create instances by name; return the operation."""
        configs = [compute_v1.PerInstanceConfig(name=name) for name in names]
        body = compute_v1.InstanceGroupManagersCreateInstancesRequest(instances=configs)
        request = compute_v1.CreateInstancesInstanceGroupManagerRequest(
            project=PROJECT, zone=zone, instance_group_manager=group,
            instance_group_managers_create_instances_request_resource=body, **more,
        )  # fmt: skip
        return self.done(self.groups.create_instances_unary(request))

    def delete(self, *names: str, group: str = "pool", skip: bool = False, zone: str = ZONE) -> Any:
        """Delete members by name; return the operation."""
        urls = [name if "/" in name else f"zones/{zone}/instances/{name}" for name in names]
        body = compute_v1.InstanceGroupManagersDeleteInstancesRequest(
            instances=urls, skip_instances_on_validation_error=skip
        )
        return self.done(
            self.groups.delete_instances_unary(
                project=PROJECT, zone=ZONE, instance_group_manager=group,
                instance_group_managers_delete_instances_request_resource=body,
            )
        )  # fmt: skip

    def members(self, group: str = "pool", zone: str = ZONE) -> dict[str, Any]:
        """Return a group's managed instances by name."""
        listed = self.groups.list_managed_instances(
            project=PROJECT, zone=zone, instance_group_manager=group
        )
        return {member.name: member for member in listed}

    def size(self, group: str = "pool") -> int:
        """Return a group's target size."""
        found = self.groups.get(project=PROJECT, zone=ZONE, instance_group_manager=group)
        return int(found.target_size)

    def status(self, name: str) -> str:
        """Return an instance's status as its group lists it, empty when there is none."""
        member = self.members().get(name)
        return "" if member is None else str(member.instance_status)

    def machine(self, name: str) -> dict[str, Any]:
        """Return the process behind an instance, once it serves its metadata."""

        def look() -> list[dict[str, Any]]:
            machines = self.get("/machines")
            return [m for m in machines if m["name"] == name and m["metadata_host"]]

        return until(look)[0]

    def events(self, name: str) -> list[str]:
        """Return what has happened to an instance."""
        return [event["kind"] for event in self.get("/events") if event["instance"] == name]

    def metadata(self, name: str, path: str, **query: str) -> str:
        """Return what an instance's metadata server says."""
        host = self.machine(name)["metadata_host"]
        reply = requests.get(
            f"http://{host}/computeMetadata/v1/{path}",
            params=query, headers={"Metadata-Flavor": "Google"}, timeout=30,
        )  # fmt: skip
        assert reply.status_code == 200, reply.text
        return reply.text


@contextmanager
def stand_in(started: StandIn) -> Iterator[None]:
    """Start a stand-in and stop it at the end, whatever happened to it meanwhile."""
    started.start()
    try:
        yield
    finally:
        if started.is_on:
            started.stop()
