"""One stack for all scenarios; a studio of its own for each."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.studio import create_farm
from emulators.up.client import Stack, stack
from tests.adapters import forget_adapters
from tests.e2e.farm import Farm


@pytest.fixture(scope="module")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole local stack, with a catalogue and one orchestrator."""
    with stack(boot_s=1.0) as running:
        before = dict(os.environ)
        os.environ.update(running.env)
        forget_adapters()
        create_farm(tmp_path_factory.mktemp("farm"), running.env | _path(), software={}, boot_s=2)
        yield running
        os.environ.clear()
        os.environ.update(before)
        forget_adapters()


def _path() -> dict[str, str]:
    return {"PATH": os.environ["PATH"]}


@pytest.fixture
def farm(running_stack: Stack, tmp_path: Path) -> Iterator[Farm]:
    """A new studio. Afterwards no fault is left for the next."""
    made = Farm(running_stack, tmp_path)
    yield made
    made.clear_faults()
