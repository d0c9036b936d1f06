"""The machine itself: it boots, serves its metadata, and joins the scheduler.

It lives as long as the Compute Engine stand-in whose lock file is named in machine.json, and for
`orphan_s` more: enough for a restart of the stand-in, not for a machine that nobody will stop.
"""

import asyncio
import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Any

from emulators.engine.files import read_json, write_json
from emulators.engine.http import Server
from emulators.instance.kubelet import Kubelet
from emulators.instance.metadata import MetadataServer
from emulators.instance.node import Node


def run(machine_dir: Path) -> None:
    """Run the machine until it is switched off."""
    asyncio.run(_run(machine_dir))


async def _run(machine_dir: Path) -> None:
    machine = _described(machine_dir)
    metadata = MetadataServer(machine)
    loop, notice = asyncio.get_running_loop(), asyncio.Event()

    def look() -> None:
        described = _described(machine_dir)
        metadata.update(described)
        if described["preempted"]:
            notice.set()

    loop.add_signal_handler(signal.SIGHUP, look)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    look()  # it may have changed before the handler was there
    broken: asyncio.Future[None] = loop.create_future()
    loop.set_exception_handler(lambda _, context: _break(broken, context))
    port = await Server(metadata.app).start(0)
    status = {"metadata_port": port, "machine_pid": os.getpid(), "booted_at": None}
    write_json(machine_dir / "status.json", status)
    outlives = _outlive(Path(machine["lock"]), machine["orphan_s"])
    tasks = [
        asyncio.ensure_future(part)
        for part in (_boot(machine_dir, machine, port, notice), outlives)
    ]
    await asyncio.wait([broken, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for ended in (broken, *tasks):
        if ended.done():
            ended.result()


def _break(broken: "asyncio.Future[None]", context: dict[str, Any]) -> None:
    exc = context.get("exception")
    if isinstance(exc, Exception) and not broken.done():
        broken.set_exception(exc)


def _described(machine_dir: Path) -> dict[str, Any]:
    machine = read_json(machine_dir / "machine.json")
    if machine is None:
        raise FileNotFoundError(machine_dir / "machine.json")
    return machine


async def _boot(
    machine_dir: Path, machine: dict[str, Any], port: int, notice: asyncio.Event
) -> None:
    """Join the scheduler when the boot is over, and work; a dead boot never ends."""
    if machine["boot_at"] is None:
        await asyncio.Event().wait()

    def joined() -> None:
        status = {"metadata_port": port, "machine_pid": os.getpid(), "booted_at": time.time()}
        write_json(machine_dir / "status.json", status)

    host = f"127.0.0.1:{port}"
    await asyncio.sleep(max(machine["boot_at"] - time.time(), 0))
    if "kubernetes" in machine:
        kubelet = Kubelet(machine, metadata_host=host, on_joined=joined)
        await asyncio.gather(kubelet.run(), _end(kubelet, notice))
    else:
        await Node(machine, metadata_host=host, on_joined=joined).run()


async def _end(kubelet: Kubelet, notice: asyncio.Event) -> None:
    """Have a kubelet shut down when the machine gets its notice, as the system's own service does."""
    await notice.wait()
    kubelet.shut_down()


async def _outlive(lock: Path, orphan_s: float) -> None:
    """Return when nobody has held `lock` for `orphan_s`."""
    held_at = time.monotonic()
    while time.monotonic() - held_at < orphan_s:
        if _is_held(lock):
            held_at = time.monotonic()
        await asyncio.sleep(min(1.0, orphan_s / 4))


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)  # which gives the lock back
    return False
