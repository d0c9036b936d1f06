"""Cores and memory of Google's machine types, from their names.

Source: https://cloud.google.com/compute/docs/machine-resource, read 2026-11.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_GIB_PER_CORE: dict[str, dict[str, float]] = {
    "n1": {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9},
    "e2": {"standard": 4, "highmem": 8, "highcpu": 1},
    "n2": {"standard": 4, "highmem": 8, "highcpu": 1},
    "n2d": {"standard": 4, "highmem": 8, "highcpu": 1},
    "n4": {"standard": 4, "highmem": 8, "highcpu": 2},
    "c2": {"standard": 4},
    "c2d": {"standard": 4, "highmem": 8, "highcpu": 2},
    "c3": {"standard": 4, "highmem": 8, "highcpu": 2},
    "c3d": {"standard": 4, "highmem": 8, "highcpu": 2},
    "c4": {"standard": 3.75, "highmem": 7.75, "highcpu": 2},
    "c4d": {"standard": 3.875, "highmem": 7.875, "highcpu": 1.875},
    "g2": {"standard": 4},
    "t2d": {"standard": 4},
    "t2a": {"standard": 4},
    "m1": {"megamem": 14.9, "ultramem": 24},
}
_SHARED_CORE: dict[str, tuple[int, float]] = {
    "e2-micro": (2, 1.0),
    "e2-small": (2, 2.0),
    "e2-medium": (2, 4.0),
    "f1-micro": (1, 0.6),
    "g1-small": (1, 1.7),
}
_A2_GIB_PER_GPU, _A2_CORES_PER_GPU = 85, 12
_G2_GPUS = {24: 2, 48: 4, 96: 8}
#: What the kernel keeps for itself: MemTotal of a machine is less than its type says.
_USABLE_MEMORY = 0.97
_MHZ_PER_CORE = 2000


@dataclass(frozen=True)
class MachineType:
    """What a machine of one type offers to a scheduler."""

    cores: int
    memory_mib: int
    gpus: int = 0

    @property
    def cpu_mhz(self) -> int:
        """The sum over the cores, as Nomad counts a node's CPU."""
        return self.cores * _MHZ_PER_CORE


def machine_type(name: str) -> MachineType | None:
    """Return the facts of the type called `name`, None when there is no such type."""
    found = _nominal(name)
    if found is None:
        return None
    cores, gib = found
    return MachineType(cores, int(gib * 1024 * _USABLE_MEMORY), _gpus(name, cores))


def gpus_of(properties: Mapping[str, Any]) -> int:
    """Return how many GPUs an instance has: those of its type, which must be known, and those attached."""
    found = machine_type(properties["machineType"])
    assert found is not None, "templates name known machine types only"
    attached = properties.get("guestAccelerators") or ()
    return found.gpus + sum(int(each.get("acceleratorCount", 0)) for each in attached)


def _gpus(name: str, cores: int) -> int:
    """Return how many GPUs come with a type; those of N1 machines are attached."""
    if name.startswith("a2-"):
        return cores // _A2_CORES_PER_GPU
    return _G2_GPUS.get(cores, 1) if name.startswith("g2-") else 0


def _nominal(name: str) -> tuple[int, float] | None:
    if name in _SHARED_CORE:
        return _SHARED_CORE[name]
    if custom := re.fullmatch(r"(?:[a-z0-9]+-)?custom-(\d+)-(\d+)(?:-ext)?", name):
        return int(custom[1]), int(custom[2]) / 1024
    if gpus := re.fullmatch(r"a2-highgpu-(\d+)g", name):
        return int(gpus[1]) * _A2_CORES_PER_GPU, float(int(gpus[1]) * _A2_GIB_PER_GPU)
    sized = re.fullmatch(r"([a-z0-9]+)-([a-z]+)-(\d+)", name)
    if sized is None or sized[2] not in _GIB_PER_CORE.get(sized[1], {}):
        return None
    cores = int(sized[3])
    return (cores, cores * _GIB_PER_CORE[sized[1]][sized[2]]) if cores else None
