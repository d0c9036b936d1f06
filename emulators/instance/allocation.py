"""One allocation on this machine: its tasks, their restarts and events, as Nomad's client keeps them."""

import asyncio
import base64
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emulators.engine import processes
from emulators.instance import executor
from emulators.instance.environment import interpolate, node_variables, task_environment

_EVENTS_KEPT = 10
_NS = 1_000_000_000
_RESTART_DEFAULTS = {"Attempts": 3, "Interval": 24 * 3600 * _NS, "Delay": 15 * _NS, "Mode": "fail"}
_KILL_TIMEOUT_NS = 5 * _NS


@dataclass(frozen=True)
class Program:
    """A command that the machine's image offers. `main` runs in a forked child; else `argv`."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    main: Callable[[], int] | None


Programs = Mapping[str, Program]


def _timestamp() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Allocation:
    """Runs the tasks of `alloc` (its wire form); `on_change` is called after each change of state."""

    def __init__(
        self,
        alloc: dict[str, Any],
        *,
        node: dict[str, Any],
        directory: Path,
        programs: Programs,
        machine_environment: dict[str, str],
        on_change: Callable[["Allocation"], None],
    ) -> None:
        self.id: str = alloc["ID"]
        self.client_status = "pending"
        self.states: dict[str, dict[str, Any]] = {}
        self._alloc = alloc
        self._group: dict[str, Any] = next(
            g for g in alloc["Job"]["TaskGroups"] if g["Name"] == alloc["TaskGroup"]
        )
        self._node = node
        self._directory = directory
        self._programs = programs
        self._machine_environment = machine_environment
        self._on_change = on_change
        self._stopping = asyncio.Event()
        self._executors: dict[str, int] = {}

    @property
    def is_over(self) -> bool:
        """Whether no task of it will run any more."""
        return self.client_status in ("complete", "failed")

    def report(self) -> dict[str, Any]:
        """Return what the server must know."""
        descriptions = {
            "running": "Tasks are running",
            "complete": "All tasks have completed",
            "failed": "Failed tasks",
        }
        return {
            "ID": self.id,
            "ClientStatus": self.client_status,
            "ClientDescription": descriptions.get(self.client_status, "No tasks have started"),
            "TaskStates": self.states,
        }

    def stop(self) -> None:
        """Interrupt every task, then kill it after its timeout; quiet when it is stopping already."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        for name, pid in self._executors.items():
            self._announce_kill(name)
            processes.send(pid, signal.SIGTERM)

    async def run(self) -> None:
        """Run every task to its end."""
        for task in self._group["Tasks"]:
            self.states[task["Name"]] = {
                "State": "pending", "Failed": False, "Restarts": 0, "LastRestart": None,
                "StartedAt": None, "FinishedAt": None, "Events": [], "TaskHandle": None,
            }  # fmt: skip
            self._event(task["Name"], "Received", "Task received by client")
        await asyncio.gather(*(self._run_task(task) for task in self._group["Tasks"]))
        failed = any(state["Failed"] for state in self.states.values())
        self.client_status = "failed" if failed else "complete"
        self._on_change(self)

    async def _run_task(self, task: dict[str, Any]) -> None:
        name, state = task["Name"], self.states[task["Name"]]
        policy = {**_RESTART_DEFAULTS, **(self._group.get("RestartPolicy") or {})}
        policy |= task.get("RestartPolicy") or {}
        failures: list[float] = []
        command = self._command(task)
        while not self._stopping.is_set():
            self._event(name, "Task Setup", "Building Task Directory")
            end = await self._run_once(command, state)
            if end is None:
                state["Failed"] = True
                break
            if end.exit_code == 0 or self._stopping.is_set():
                break
            since = time.monotonic() - policy["Interval"] / _NS
            failures = [at for at in failures if at > since] + [time.monotonic()]
            if len(failures) > policy["Attempts"]:
                reason = (
                    "Exceeded allowed attempts"
                    if policy["Attempts"]
                    else "Policy allows no restarts"
                )
                self._event(name, "Not Restarting", reason, RestartReason=reason, FailsTask=True)
                state["Failed"] = True
                break
            self._event(
                name, "Restarting", "Task restarting", StartDelay=policy["Delay"],
                RestartReason="Restart within policy",
            )  # fmt: skip
            state |= {"State": "pending", "Restarts": state["Restarts"] + 1}
            state["LastRestart"] = _timestamp()
            self._on_change(self)
            await self._pause(policy["Delay"] / _NS)
        if self._stopping.is_set():
            self._event(name, "Killed", "Task successfully killed")
        state |= {"State": "dead", "FinishedAt": _timestamp()}

    async def _pause(self, delay_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), delay_s)
        except TimeoutError:
            return

    async def _run_once(
        self, command: executor.Command, state: dict[str, Any]
    ) -> executor.Ending | None:
        """Run the command to its end and record both; None when there is no such command."""
        program, path = command.argv[0], command.environment.get("PATH")
        if command.main is None and shutil.which(program, path=path) is None:
            message = f"failed to launch command: {program}: executable not found"
            self._event(
                command.name, "Driver Failure", message, DriverError=message, FailsTask=True
            )
            return None
        pid = executor.start(command)
        self._executors[command.name] = pid
        self._event(command.name, "Started", "Task started by client")
        state |= {"State": "running", "StartedAt": state["StartedAt"] or _timestamp()}
        self.client_status = "running"
        self._on_change(self)
        await executor.ended(pid)
        del self._executors[command.name]
        end = executor.ending(command)
        message = f"Exit Code: {end.exit_code}"
        details = {"exit_code": str(end.exit_code), "signal": str(end.signal)}
        if end.signal:
            message += f", Signal: {end.signal}"
        if end.is_oom:
            message += ', Exit Message: "OOM Killed"'
            details |= {"oom_killed": "true", "exit_message": "OOM Killed"}
        self._event(
            command.name, "Terminated", message, details,
            ExitCode=end.exit_code, Signal=end.signal, Message=details.get("exit_message", ""),
        )  # fmt: skip
        return end

    def _announce_kill(self, name: str) -> None:
        task = next(t for t in self._group["Tasks"] if t["Name"] == name)
        timeout_ns = task.get("KillTimeout") or _KILL_TIMEOUT_NS
        text = f"Sent interrupt. Waiting {timeout_ns / _NS:g}s before force killing"
        self._event(name, "Killing", text, KillTimeout=timeout_ns)
        self._on_change(self)

    def _event(
        self,
        name: str,
        type_: str,
        message: str,
        details: dict[str, str] | None = None,
        **fields: Any,
    ) -> None:
        event = {
            "Type": type_, "Time": time.time_ns(), "DisplayMessage": message,
            "Details": details or {}, "Message": "", "FailsTask": False, "RestartReason": "",
            "SetupError": "", "DriverError": "", "DriverMessage": "", "ExitCode": 0, "Signal": 0,
            "KillTimeout": 0, "KillError": "", "KillReason": "", "StartDelay": 0, **fields,
        }  # fmt: skip
        events = self.states[name]["Events"]
        events.append(event)
        del events[:-_EVENTS_KEPT]

    def _command(self, task: dict[str, Any]) -> executor.Command:
        """Lay out the task's directories and return what to run in them."""
        directory = self._directory
        local = directory / task["Name"] / "local"
        logs = directory / "alloc" / "logs"
        work = directory / "work"
        for path in (local, directory / task["Name"] / "secrets", logs, work):
            path.mkdir(parents=True, exist_ok=True)
        if payload_file := (task.get("DispatchPayload") or {}).get("File"):
            payload = base64.b64decode(self._alloc["Job"].get("Payload") or "")
            (local / os.path.basename(payload_file)).write_bytes(payload)
        environment = task_environment(
            self._alloc, self._group, task, node=self._node, directory=directory,
            machine={**self._machine_environment, "BATON_WORK_DIR": str(work)},
        )  # fmt: skip
        config = task.get("Config") or {}
        variables = {**node_variables(self._node), **environment}
        arguments = tuple(interpolate(str(arg), variables) for arg in config.get("args") or ())
        command = config["command"]
        program = self._programs.get(command) or Program((command,), {}, None)
        return executor.Command(
            argv=(*(interpolate(part, variables) for part in program.argv), *arguments),
            environment={**program.environment, **environment},
            directory=directory / task["Name"],
            logs=logs,
            name=task["Name"],
            machine=self._node["ID"],
            kill_signal=signal.Signals[task.get("KillSignal") or "SIGINT"],
            kill_timeout_s=(task.get("KillTimeout") or _KILL_TIMEOUT_NS) / _NS,
            memory_max_mib=(task.get("Resources") or {}).get("MemoryMaxMB") or 0,
            main=program.main,
        )
