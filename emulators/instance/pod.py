"""One pod on this machine: its container's command as a family of processes, and its status as kubelets write it.

Sources, read 2026-11: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/,
https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/.
"""

import asyncio
import shutil
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emulators.engine import processes
from emulators.instance import executor
from emulators.instance.allocation import Program, Programs
from emulators.kubernetes.scheduling import mebibytes

_GRACE_S = 30
_EXIT_NO_COMMAND = 128
_SHUTDOWN = "Pod was terminated in response to imminent node shutdown."


def _timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Pod:
    """Runs the container of `pod` (its wire form) once; `on_change` is called after each change of state."""

    def __init__(
        self,
        pod: dict[str, Any],
        *,
        machine: str,
        directory: Path,
        programs: Programs,
        on_change: Callable[["Pod"], None],
    ) -> None:
        metadata = pod["metadata"]
        self.uid: str = metadata["uid"]
        self.path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self.phase = "Pending"
        self._state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self._spec: dict[str, Any] = pod["spec"]
        self._container: dict[str, Any] = pod["spec"]["containers"][0]
        self._machine = machine
        self._directory = directory
        self._programs = programs
        self._on_change = on_change
        self._executor: int | None = None
        self.stopping = asyncio.Event()
        self.is_withdrawn = False
        self._is_shut_down = False

    @property
    def is_over(self) -> bool:
        """Whether its container will not run any more."""
        return self.phase in ("Succeeded", "Failed")

    def status(self) -> dict[str, Any]:
        """Return what the API server must know."""
        is_running = "running" in self._state
        ready = {
            "type": "Ready", "status": "True" if is_running else "False",
            "lastTransitionTime": _timestamp(),
        }  # fmt: skip
        container = {
            "name": self._container["name"], "image": self._container["image"], "restartCount": 0,
            "ready": is_running, "state": self._state,
        }  # fmt: skip
        said = {"phase": self.phase, "conditions": [ready], "containerStatuses": [container]}
        if not self._is_shut_down or self.phase != "Failed":
            return said
        disruption = {
            "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
            "message": _SHUTDOWN, "lastTransitionTime": _timestamp(),
        }  # fmt: skip
        told = {"reason": "Terminated", "message": _SHUTDOWN}
        return {**said, **told, "conditions": [ready, disruption]}

    def stop(self) -> None:
        """Interrupt it because nobody wants it any more, and kill it after its grace; repeats are quiet."""
        self.is_withdrawn = True
        self._interrupt()

    def shut_down(self) -> None:
        """Interrupt it because its machine goes; it has failed then, unless it was over before."""
        self._is_shut_down = not self.is_over
        self._interrupt()

    def _interrupt(self) -> None:
        if not self.stopping.is_set():
            self.stopping.set()
            if self._executor is not None:
                processes.send(self._executor, signal.SIGTERM)

    def wait_for(self, reason: str, message: str) -> None:
        """Say what its container waits for before it can be started."""
        self._become("Pending", {"waiting": {"reason": reason, "message": message}})

    async def run(self, environment: Mapping[str, str]) -> None:
        """Run its container to the end."""
        command = self._command(environment)
        program = shutil.which(command.argv[0], path=command.environment.get("PATH"))
        if self.stopping.is_set() or (command.main is None and program is None):
            self.never_ran(f"{command.argv[0]}: executable not found")
            return
        started_at = _timestamp()
        self._executor = executor.start(command)
        self._become("Running", {"running": {"startedAt": started_at}})
        if self.stopping.is_set():
            processes.send(self._executor, signal.SIGTERM)
        await executor.ended(self._executor)
        self._executor = None
        end = executor.ending(command)
        reason = "OOMKilled" if end.is_oom else "Error" if end.exit_code else "Completed"
        ended = {"exitCode": end.exit_code, "reason": reason, "startedAt": started_at}
        phase = "Failed" if end.exit_code or self._is_shut_down else "Succeeded"
        self._become(phase, {"terminated": {**ended, "finishedAt": _timestamp()}})

    def never_ran(self, message: str) -> None:
        """Fail without having started."""
        ended = {"exitCode": _EXIT_NO_COMMAND, "reason": "StartError", "message": message}
        self._become("Failed", {"terminated": {**ended, "finishedAt": _timestamp()}})

    def _become(self, phase: str, state: dict[str, Any]) -> None:
        self.phase, self._state = phase, state
        self._on_change(self)

    def _command(self, environment: Mapping[str, str]) -> executor.Command:
        """Lay out the container's directories and return what to run in them."""
        root, logs = self._directory / "root", self._directory / "logs"
        for path in (root, logs):
            path.mkdir(parents=True, exist_ok=True)
        given: list[str] = [*self._container["command"], *(self._container.get("args") or ())]
        program = self._programs.get(given[0]) or Program((given[0],), {}, None)
        limits = (self._container.get("resources") or {}).get("limits") or {}
        return executor.Command(
            argv=(*program.argv, *given[1:]),
            environment={**program.environment, **environment},
            directory=root,
            logs=logs,
            name=self._container["name"],
            machine=self._machine,
            kill_signal=signal.SIGTERM,
            kill_timeout_s=self._spec.get("terminationGracePeriodSeconds", _GRACE_S),
            memory_max_mib=mebibytes(limits.get("memory", 0)),
            main=program.main,
        )
