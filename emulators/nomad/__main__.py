"""`python -m emulators.nomad --port P --data DIR`: the stand-in for Nomad's servers."""

import argparse
import asyncio
from pathlib import Path

from emulators.engine.http import Server, until_stopped
from emulators.nomad import jobs
from emulators.nomad.nodes import Nodes
from emulators.nomad.scheduling import Scheduler
from emulators.nomad.server import NomadServer
from emulators.nomad.state import State

_TICK_S = 0.1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="where the state is kept")
    parser.add_argument("--token", default="", help="refuse calls without this X-Nomad-Token")
    parser.add_argument("--heartbeat-ttl-s", type=float, default=3.0)
    parser.add_argument("--job-gc-s", type=float, default=4 * 3600.0, help="age of dead jobs")
    parser.add_argument("--node-gc-s", type=float, default=24 * 3600.0, help="age of down nodes")
    parser.add_argument("--gc-interval-s", type=float, default=300.0)
    return parser.parse_args()


async def _tick(nodes: Nodes, state: State) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        nodes.expire()
        state.flush()


async def _collect(state: State, arguments: argparse.Namespace) -> None:
    while True:
        await asyncio.sleep(arguments.gc_interval_s)
        jobs.collect_garbage(state, job_age_s=arguments.job_gc_s, node_age_s=arguments.node_gc_s)
        state.flush()


async def _run(arguments: argparse.Namespace) -> None:
    state = State(arguments.data / "nomad.sqlite")
    scheduler = Scheduler(state)
    scheduler.recover()
    nodes = Nodes(state, scheduler, arguments.heartbeat_ttl_s)
    server = Server(NomadServer(state, scheduler, nodes, token=arguments.token).app)
    port = await server.start(arguments.port)
    print(f"nomad stand-in: http://127.0.0.1:{port}", flush=True)
    work = [
        asyncio.create_task(_tick(nodes, state)),
        asyncio.create_task(_collect(state, arguments)),
    ]
    stopped = asyncio.create_task(until_stopped())
    done, _ = await asyncio.wait([stopped, *work], return_when=asyncio.FIRST_COMPLETED)
    await server.stop()
    state.records.close()
    for task in done:
        task.result()  # only the end of `stopped` is no error


if __name__ == "__main__":
    asyncio.run(_run(_arguments()))
