"""`python -m emulators.gateway --port P`: serve the dashboard and the API on one host until told to stop."""

import asyncio
import logging
import os
import signal
from pathlib import Path

import click
import uvloop
from aiohttp import web

from deploy.functions import load_functions
from emulators.gateway.hosting import InvalidHosting, load_hosting
from emulators.gateway.proxy import ANSWER_TIMEOUT_S, START_WAIT_S, Proxy
from emulators.gateway.server import Gateway, firebase_config, make_server

logger = logging.getLogger("emulators.gateway")


@click.command()
@click.option("--port", type=int, required=True, help="The port of the site.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True),
    default=Path("firebase.json"),
    show_default=True,
)
@click.option(
    "--service",
    "overrides",
    multiple=True,
    metavar="NAME=URL",
    help="Where a function is, if not at its own port.",
)
@click.option("--answer-timeout-s", type=float, default=ANSWER_TIMEOUT_S, show_default=True)
@click.option("--start-wait-s", type=float, default=START_WAIT_S, show_default=True)
def main(
    port: int,
    config: Path,
    overrides: tuple[str, ...],
    answer_timeout_s: float,
    start_wait_s: float,
) -> None:
    """Serve the site of firebase.json. The functions are at the ports after --port, in the order of their table."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    services = {
        function.name: f"http://127.0.0.1:{port + 1 + index}"
        for index, function in enumerate(load_functions())
    }
    services |= dict(override.split("=", 1) for override in overrides)
    proxy = Proxy(services, answer_timeout_s=answer_timeout_s, start_wait_s=start_wait_s)
    try:
        hosting = load_hosting(config)
        if strange := {rewrite.service for rewrite in hosting.rewrites if rewrite.service} - set(
            services
        ):
            raise InvalidHosting(f"{config}: no such function: {', '.join(sorted(strange))}")
    except InvalidHosting as exc:
        raise click.ClickException(str(exc)) from exc
    uvloop.run(_serve(port, proxy, Gateway(hosting, proxy, firebase_config(os.environ))))


async def _serve(port: int, proxy: Proxy, gateway: Gateway) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with proxy:
        runner = web.ServerRunner(make_server(gateway), shutdown_timeout=2.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        logger.info("the site is at http://127.0.0.1:%d", port)
        await stopped.wait()
        await runner.cleanup()


main()
