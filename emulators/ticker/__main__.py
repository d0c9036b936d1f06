"""`python -m emulators.ticker --port-base P`: call the schedules until told to stop."""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from deploy.functions import TABLE_PATH, InvalidTable, load_functions
from emulators.ticker.schedule import Job, jobs_of, tick

logger = logging.getLogger("emulators.ticker")


@click.command()
@click.option(
    "--port-base",
    type=int,
    required=True,
    help="Functions are at the ports after it, in table order.",
)
@click.option("--table", type=click.Path(path_type=Path, exists=True), default=TABLE_PATH)
def main(port_base: int, table: Path) -> None:
    """Play Cloud Scheduler. The shared secret BATON_PUSH_TOKEN comes from the environment."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    token = os.environ.get("BATON_PUSH_TOKEN")
    if not token:
        raise click.ClickException("BATON_PUSH_TOKEN is not set")
    try:
        functions = load_functions(table)
    except InvalidTable as exc:
        raise click.ClickException(str(exc)) from exc
    urls = {
        function.name: f"http://127.0.0.1:{port_base + 1 + i}"
        for i, function in enumerate(functions)
    }
    jobs = jobs_of(functions, urls)
    logger.info("ticking: %s", ", ".join(f"{job.name} every {job.interval_s:g} s" for job in jobs))
    with suppress(asyncio.CancelledError):
        asyncio.run(_until_stopped(jobs, token))


async def _until_stopped(jobs: Sequence[Job], token: str) -> None:
    running = asyncio.current_task()
    if running is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await tick(jobs, token)


main()
