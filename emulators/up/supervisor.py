"""Keep the processes of one stack alive: start all, wait until healthy, start again what dies, end all."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click
import psutil
from aiohttp import ClientError, ClientSession, ClientTimeout

from deploy.functions import InvalidTable, load_functions
from emulators.engine import processes
from emulators.ports import Ports, free_block_after, is_free
from emulators.up import leftovers
from emulators.up.plan import Component, Plan
from emulators.up.state import ALREADY_RUNNING, ROOT, StackError, StateDir

logger = logging.getLogger("emulators.up")

HEALTHY_WITHIN_S = 240.0
FIRST_TRIES = 3
BACKOFF_S = (0.1, 0.3, 1.0, 2.0, 5.0)
STEADY_AFTER_S = 10.0
STOP_WITHIN_S = 5.0
PROBE_TIMEOUT = ClientTimeout(total=2.0)


class Supervisor:
    """Runs the components of `plan` until `stop` is set, and keeps the record of them in the state folder."""

    def __init__(self, plan: Plan, only: Collection[str]) -> None:
        self._plan = plan
        self._only = only
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._healthy: dict[str, asyncio.Event] = {}
        self.stop = asyncio.Event()
        self._record: dict[str, Any] = {
            "supervisor_pid": os.getpid(),
            "root": str(ROOT),
            "port_base": plan.ports.base,
            "phase": "starting",
            "error": None,
            "env": plan.env(),
            "components": {},
        }

    async def run(self) -> None:
        """Start everything, serve until told to stop, end everything. Raises: StackError."""
        processes.adopt_orphans()
        work = asyncio.create_task(self._serve())
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            self._note(phase="stopping")
        except Exception as exc:
            self._note(phase="failed", error=str(exc) or repr(exc))
            raise
        finally:
            work.cancel()
            stopping.cancel()
            await asyncio.gather(work, stopping, return_exceptions=True)
            await self._end_all()

    async def _serve(self) -> None:
        """Start all components and keep them running. Ends only by cancellation or an error."""
        self._note()
        if left := leftovers.end(self._plan.state.path):
            raise StackError(f"processes of an earlier stack do not end: {', '.join(left)}")
        # in a thread, for it may fetch an emulator
        components = await asyncio.to_thread(self._plan.components, self._only)
        for component in components:
            self._check_port(component)
            self._healthy[component.name] = asyncio.Event()
            self._note_component(component, status="waiting", pid=None)
        try:
            async with asyncio.TaskGroup() as group:
                for component in components:
                    group.create_task(self._keep(component))
                group.create_task(self._reap_orphans())
                await self._all_healthy()
        except ExceptionGroup as group_of_errors:
            raise group_of_errors.exceptions[0] from None

    async def _all_healthy(self) -> None:
        try:
            async with asyncio.timeout(HEALTHY_WITHIN_S):
                for event in self._healthy.values():
                    await event.wait()
        except TimeoutError as exc:
            late = ", ".join(name for name, event in self._healthy.items() if not event.is_set())
            raise StackError(f"not healthy after {HEALTHY_WITHIN_S:g} s: {late}") from exc
        self._note(phase="ready")
        logger.info("all components are healthy")

    async def _keep(self, component: Component) -> None:
        """Run one component, for ever. Raises: StackError when it never comes up."""
        for name in component.after:
            if name in self._healthy:
                await self._healthy[name].wait()
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            process = await self._start(component)
            started_at = loop.time()
            is_healthy = await self._become_healthy(component, process)
            if is_healthy:
                self._healthy[component.name].set()
                self._note_component(component, status="healthy", pid=process.pid)
            code = await process.wait()
            self._end_group(component.name, process.pid)
            logger.warning("%s (pid %d) ended: %s", component.name, process.pid, _ending(code))
            steady = is_healthy and loop.time() - started_at > STEADY_AFTER_S
            failures = 1 if steady else failures + 1
            if failures >= FIRST_TRIES and not self._healthy[component.name].is_set():
                raise StackError(self._obituary(component, code))
            self._note_component(component, status="restarting", pid=None, restarted=True)
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])

    async def _start(self, component: Component) -> asyncio.subprocess.Process:
        component.directory.mkdir(parents=True, exist_ok=True)
        for path, text in component.files.items():
            path.write_text(text)
        supervisor_pid = os.getpid()
        with self._plan.state.log_path(component.name).open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *component.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(component.env),
                    cwd=component.directory,
                    start_new_session=True,
                    preexec_fn=lambda: processes.die_with_parent(supervisor_pid),
                )
            except FileNotFoundError as exc:
                raise StackError(
                    f"{component.name}: {component.command[0]} is not installed"
                ) from exc
        self._running[component.name] = process
        self._note_component(component, status="starting", pid=process.pid)
        return process

    async def _become_healthy(
        self, component: Component, process: asyncio.subprocess.Process
    ) -> bool:
        """Return whether the component came up and was prepared; False when it ended before."""
        async with ClientSession(timeout=PROBE_TIMEOUT) as session:
            while process.returncode is None:
                if component.port is None or await _answers(session, component):
                    try:
                        await component.prepare()
                    except (StackError, ClientError, TimeoutError) as exc:
                        logger.warning("%s: not prepared: %s", component.name, exc)
                    else:
                        return process.returncode is None
                await asyncio.sleep(0.05)
        return False

    async def _end_all(self) -> None:
        """Ask every component to end, then end all that is left below this process."""
        for process in self._running.values():
            processes.send(process.pid, signal.SIGTERM)
        waits = [asyncio.create_task(process.wait()) for process in self._running.values()]
        if waits:
            await asyncio.wait(waits, timeout=STOP_WITHIN_S)
        processes.kill_descendants()
        self._record["components"] = {}
        if left := leftovers.end(self._plan.state.path):
            logger.error("these processes do not end: %s", ", ".join(left))
        self._note()

    def _check_port(self, component: Component) -> None:
        """Refuse a port that somebody else uses. Raises: StackError."""
        if component.port is not None and not is_free(component.port):
            base = free_block_after(self._plan.ports.base)
            raise StackError(
                f"port {component.port} ({component.name}) is in use: set BATON_PORT_BASE to another block of 16 "
                f"ports, for all commands: export BATON_PORT_BASE={base}"
            )

    def _end_group(self, name: str, pid: int) -> None:
        """End what a dead component left in its group: gunicorn's workers keep the port for a second."""
        processes.send_group(pid, signal.SIGKILL)
        self._running.pop(name, None)

    async def _reap_orphans(self) -> None:
        """Collect adopted processes that have ended; the components' own are asyncio's to collect."""
        while True:
            await asyncio.sleep(1.0)
            own = {process.pid for process in self._running.values()}
            for pid in processes.children(os.getpid()):
                if pid not in own and psutil.pid_exists(pid) and processes.start_ticks(pid) is None:
                    os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222  never blocks

    def _obituary(self, component: Component, code: int) -> str:
        tail = self._plan.state.log_tail(component.name)
        log = self._plan.state.log_path(component.name)
        return f"{component.name} does not start ({_ending(code)}); the end of {log}:\n{tail}"

    def _note(self, **changes: object) -> None:
        self._record |= changes
        self._plan.state.write_record(self._record)

    def _note_component(
        self, component: Component, *, status: str, pid: int | None, restarted: bool = False
    ) -> None:
        before = self._record["components"].get(component.name, {"restarts": 0})
        self._record["components"][component.name] = {
            "status": status,
            "pid": pid,
            "port": component.port,
            "restarts": before["restarts"] + restarted,
        }
        self._note()


async def _answers(session: ClientSession, component: Component) -> bool:
    address = f"http://127.0.0.1:{component.port}{component.health_path}"
    try:
        async with session.get(address, allow_redirects=False) as answer:
            return answer.status < 500
    except (ClientError, TimeoutError):
        return False


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


async def supervise(plan: Plan, only: Collection[str], *, is_tied: bool) -> None:
    """Run the stack until SIGTERM or SIGINT; if tied, also until standard input ends with its other side."""
    supervisor = Supervisor(plan, only)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop.set)
    if is_tied:
        loop.add_reader(sys.stdin.fileno(), supervisor.stop.set)
    await supervisor.run()


@click.command()
@click.option("--port-base", type=int, required=True)
@click.option("--state-dir", type=click.Path(path_type=Path), required=True)
@click.option("--boot-s", type=float, required=True)
@click.option("--only", multiple=True)
@click.option("--tied", is_flag=True, help="End when standard input ends.")
def main(port_base: int, state_dir: Path, boot_s: float, only: tuple[str, ...], tied: bool) -> None:
    """Be the supervisor of a stack; `python -m emulators.up` starts this."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        state = StateDir(state_dir)
        state.prepare()
        if not state.lock():
            sys.exit(ALREADY_RUNNING)
        number = state.begin_run()
        plan = Plan(
            state=state,
            ports=Ports(port_base),
            functions=load_functions(),
            project=f"demo-baton-{port_base}-{number}",
            boot_s=boot_s,
        )
        asyncio.run(supervise(plan, only, is_tied=tied))
    except (StackError, InvalidTable) as exc:
        raise click.ClickException(str(exc)) from exc


if __name__ == "__main__":
    main()
