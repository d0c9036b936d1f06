"""`python -m emulators.compute --port P --data DIR --nomad URL`: the Compute Engine stand-in."""

import argparse
import asyncio
import sys
from pathlib import Path

from emulators.compute.faults import Faults
from emulators.compute.groups import Groups
from emulators.compute.lifecycle import Lifecycle, Pace
from emulators.compute.machines import InUse, Machines
from emulators.compute.operations import Operations
from emulators.compute.server import ComputeServer
from emulators.compute.state import State
from emulators.engine.http import Server, until_stopped


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="where state and machines are")
    joined = parser.add_mutually_exclusive_group(required=True)
    joined.add_argument("--nomad", help="URL of Nomad, which instances register with")
    joined.add_argument("--kubernetes", help="URL of the API server, which instances register with")
    parser.add_argument("--boot-s", type=float, default=2.0, help="from creation to joining")
    parser.add_argument("--stop-s", type=float, default=0.2, help="from deletion to being off")
    parser.add_argument("--operation-s", type=float, default=0.2)
    parser.add_argument("--retry-s", type=float, default=1.0, help="between tries to create")
    parser.add_argument("--notice-s", type=float, default=5.0, help="of a preemption")
    parser.add_argument("--orphan-s", type=float, default=20.0, help="instances outlive us by this")
    parser.add_argument("--tick-s", type=float, default=0.05)
    parser.add_argument("--max-allocs", type=int, default=1, help="allocations on one instance")
    return parser.parse_args()


async def _tick(
    arguments: argparse.Namespace,
    state: State,
    lifecycle: Lifecycle,
    groups: Groups,
    operations: Operations,
) -> None:
    while True:
        lifecycle.advance()
        groups.drop_empty()
        operations.forget_old()
        state.flush()
        await asyncio.sleep(arguments.tick_s)


async def _run(arguments: argparse.Namespace) -> None:
    directory = arguments.data.resolve()
    machines = Machines(directory, lambda id_: lifecycle.machine_ended(id_))
    machines.claim()
    state = State(directory / "compute.sqlite")
    faults = Faults(state)
    pace = Pace(
        boot_s=arguments.boot_s, provision_s=min(0.15 * arguments.boot_s, 1.0),
        stop_s=arguments.stop_s, retry_s=arguments.retry_s, notice_s=arguments.notice_s,
        orphan_s=arguments.orphan_s,
    )  # fmt: skip
    joins = {"nomad": arguments.nomad} if arguments.nomad else {"kubernetes": arguments.kubernetes}
    lifecycle = Lifecycle(
        state, faults, machines, pace, joins=joins, max_allocs=arguments.max_allocs
    )
    groups = Groups(state, lifecycle)
    operations = Operations(state, arguments.operation_s)
    lifecycle.recover()
    api = ComputeServer(state, groups, lifecycle, machines, faults, operations)
    server = Server(api.app)
    port = await server.start(arguments.port)
    print(f"compute stand-in: http://127.0.0.1:{port}", flush=True)
    ticking = asyncio.create_task(_tick(arguments, state, lifecycle, groups, operations))
    stopped = asyncio.create_task(until_stopped())
    done, _ = await asyncio.wait([stopped, ticking], return_when=asyncio.FIRST_COMPLETED)
    await server.stop()
    ticking.cancel()
    await machines.end_all()
    lifecycle.shut_down()
    state.close()
    for task in done:
        task.result()  # only the end of `stopped` is no error


if __name__ == "__main__":
    try:
        asyncio.run(_run(_arguments()))
    except InUse as exc:
        sys.exit(f"another stand-in works in {exc}")
