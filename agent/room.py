"""Prepare the place where the command runs: the files, the mounts, the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agent.cache import Cache
from agent.errors import Failed
from agent.inputs import Spec
from agent.memory import Memory
from agent.mounts import HOME, plan_mounts
from agent.paths import is_within, on_node
from agent.reach import Reach
from agent.sandbox import Launch, render_environment, sandboxed, shell, write_system_files
from agent.settings import Settings
from agent.stage import Sourced, Stamp, located, make_folder, place, stage, stamps


class Order(NamedTuple):
    """What to run. Units: `memory_mib` is the render's limit, 0 for none."""

    command: str
    output_path: str
    memory_mib: int
    spec: Spec


class Room(NamedTuple):
    """A program ready to start; where its outputs will be, and what lies there already."""

    launch: Launch
    outputs_root: Path
    known: Mapping[str, Stamp]


def furnish(
    order: Order, cache: Cache, *, folder: Path, settings: Settings, memory: Memory
) -> Room:
    """Lay everything out below `folder`. Raises: Failed when the attempt cannot be laid out; OSError."""
    output_path = on_node(order.output_path)
    if output_path == "/":
        raise Failed("output_path is /")
    cached = {one.md5: cache.path(one.md5) for one in order.spec.inputs}
    inputs = located(order.spec.inputs, cached, output_path)
    scratch = folder / "scratch"
    for name in ("", "home", "work", "tmp"):
        make_folder(scratch / name, settings.sandbox_uid)
    furnish_as = _locked_up if settings.is_sandboxed else _in_the_open
    return furnish_as(order, inputs, output_path, folder, settings, memory)


def _locked_up(
    order: Order,
    inputs: Mapping[str, Sourced],
    output_path: str,
    folder: Path,
    settings: Settings,
    memory: Memory,
) -> Room:
    staged = stage(inputs, output_path, root=folder, owner_uid=settings.sandbox_uid)
    mounts = plan_mounts(
        staged,
        scratch=str(folder / "scratch"),
        system_files=write_system_files(folder / "etc", settings.sandbox_uid),
        software_paths=settings.software_paths,
    )
    launch = sandboxed(
        order.command,
        render_environment(order.spec.environment, HOME),
        mounts,
        uid=settings.sandbox_uid,
        memory_mib=order.memory_mib,
        memory=memory,
    )
    return Room(launch, staged.outputs_root, staged.known)


def _in_the_open(
    order: Order,
    inputs: Mapping[str, Sourced],
    output_path: str,
    folder: Path,
    settings: Settings,
    memory: Memory,
) -> Room:
    """Without a sandbox, for a machine or container that serves this one attempt: the artist's paths are real ones.

    A file which is there already stays; what is no longer what it was counts as an output.
    """
    for path, one in inputs.items():
        if not os.path.lexists(path):
            place(one, Path(path), is_own=is_within(path, output_path))
    outputs_root = Path(output_path)
    outputs_root.mkdir(parents=True, exist_ok=True)
    launch = Launch(
        argv=shell(order.command),
        environment=render_environment(order.spec.environment, str(folder / "scratch" / "home")),
        folder=str(folder / "scratch" / "work"),
        pass_fds=(),
        status_fd=-1,
        uid=None,
        groups=[memory.procs_path] if memory.procs_path else [],
        reach=Reach(()),
    )
    return Room(launch, outputs_root, stamps(outputs_root))
