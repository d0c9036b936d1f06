"""`python -m emulators.kubernetes --port P --data DIR`: the stand-in for Kubernetes' API server."""

import argparse
import asyncio
from pathlib import Path

from emulators.engine.http import Server, until_stopped
from emulators.kubernetes.jobs import Jobs
from emulators.kubernetes.nodes import Nodes, Patience
from emulators.kubernetes.scheduling import Scheduler
from emulators.kubernetes.server import KubernetesServer
from emulators.kubernetes.state import State

_TICK_S = 0.1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="where the state is kept")
    parser.add_argument("--token", default="", help="refuse calls without this bearer token")
    parser.add_argument("--namespace", default="baton", help="a namespace that is there at once")
    parser.add_argument("--node-grace-s", type=float, default=3.0, help="silence until unknown")
    parser.add_argument("--eviction-s", type=float, default=30.0, help="silence until evicted")
    parser.add_argument("--node-gone-s", type=float, default=60.0, help="silence until removed")
    return parser.parse_args()


async def _tick(nodes: Nodes, jobs: Jobs, state: State) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        nodes.advance()
        jobs.collect()
        state.flush()


async def _run(arguments: argparse.Namespace) -> None:
    state = State(arguments.data / "kubernetes.sqlite")
    scheduler = Scheduler(state)
    jobs = Jobs(state, scheduler)
    patience = Patience(arguments.node_grace_s, arguments.eviction_s, arguments.node_gone_s)
    nodes = Nodes(state, scheduler, jobs, patience)
    api = KubernetesServer(state, scheduler, jobs, nodes, token=arguments.token)
    api.ensure_namespaces(["default", arguments.namespace])
    server = Server(api.app)
    port = await server.start(arguments.port)
    print(f"kubernetes stand-in: http://127.0.0.1:{port}", flush=True)
    ticking = asyncio.create_task(_tick(nodes, jobs, state))
    stopped = asyncio.create_task(until_stopped())
    done, _ = await asyncio.wait([stopped, ticking], return_when=asyncio.FIRST_COMPLETED)
    await server.stop()
    state.records.close()
    for task in done:
        task.result()  # only the end of `stopped` is no error


if __name__ == "__main__":
    asyncio.run(_run(_arguments()))
