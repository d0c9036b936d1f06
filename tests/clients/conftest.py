"""One stack for all versions of the client. The rows that were chosen run side by side."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from demo.studio import create_farm
from emulators.up.client import stack
from tests.adapters import forget_adapters
from tests.clients.install import VERSIONS, install
from tests.clients.rows import Row, Running
from tests.clients.studios import Site

MIB = 1024 * 1024

# Flows are no test modules, and their assertions shall speak all the same.
for _name in (
    "connecting",
    "controlling",
    "downloading",
    "uploading",
    "traps_of_reading",
    "traps_of_uploading",
):
    pytest.register_assert_rewrite(f"tests.clients.{_name}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The whole local stack, with every version installed; large files begin at 6 MiB."""
    folder = tmp_path_factory.mktemp("clients")
    for version in VERSIONS:
        install(version)
    before = dict(os.environ)
    os.environ["BATON_MULTIPART_THRESHOLD_BYTES"] = str(6 * MIB)
    os.environ["BATON_MULTIPART_PART_BYTES"] = str(5 * MIB)
    try:
        with stack(boot_s=1.0) as running, ExitStack() as left:
            os.environ.update(running.env)
            forget_adapters()
            create_farm(folder, dict(os.environ), software={}, boot_s=2)
            yield Site(running, folder, left)
    finally:
        os.environ.clear()
        os.environ.update(before)
        forget_adapters()


@pytest.fixture(scope="module")
def running(site: Site, request: pytest.FixtureRequest) -> Iterator[Running]:
    """All rows of this module that shall be tested, started."""
    chosen = [
        row
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
        for row in item.callspec.params.values()
        if isinstance(row, Row)
    ]
    started = Running(chosen, site.artist)
    yield started
    started.close()
