"""The farm that all rows share: one stack, a studio for each version, and faults of the storage on order."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import requests
from click.testing import CliRunner

from emulators.up.client import Stack
from tests.clients.artist import Artist, Studio
from tests.clients.rows import Row
from tests.clients.tap import tap
from tests.e2e.farm import Farm
from tools.baton import baton

CALL_S = 30
MANY = 1_000_000
# What each account adds to its jobs.
VARIABLE = ("STUDIO", "otterhaus")


class StorageFaults:
    """Faults of the object storage. The stand-in knows one list of them only; the rows share it.

    To set the list counts anew: while one has a fault for some calls only, the others wait.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._orders: list[dict[str, Any]] = []
        self._lock = threading.RLock()

    @contextmanager
    def ordered(self, **order: Any) -> Iterator[None]:
        """Have matching calls fail like this while the block runs: all, or as many as `times` says."""
        with self._lock if "times" in order else nullcontext():
            self._change(self._orders.append, {"times": MANY} | order)
            try:
                yield
            finally:
                self._change(self._orders.remove, {"times": MANY} | order)

    def _change(self, change: Callable[[dict[str, Any]], None], order: dict[str, Any]) -> None:
        with self._lock:
            change(order)
            answer = requests.post(f"{self._url}/faults", json=self._orders, timeout=CALL_S)
        assert answer.status_code < 300, answer.text


class Site:
    """A running stack with the studios on it."""

    def __init__(self, stack: Stack, folder: Path, left: ExitStack) -> None:
        self.stack = stack
        self.faults = StorageFaults(stack.url("storage"))
        self._folder = folder
        self._left = left
        self._studios: dict[str, Studio] = {}

    def artist(self, row: Row) -> Artist:
        """Return a new machine for a row, in the studio of its version or in one of its own."""
        name = str(row) if row.flow.is_alone else row.version
        if name not in self._studios:
            self._studios[name] = self._open(self._folder / "studios" / name)
        return Artist(
            version=row.version,
            studio=self._studios[name],
            tap=self._left.enter_context(tap(self.stack.env["CONDUCTOR_URL"])),
            folder=self._folder / str(row),
            faults=self.faults,
        )

    def _open(self, folder: Path) -> Studio:
        folder.mkdir(parents=True)
        farm = Farm(self.stack, folder)
        variable = "=".join(VARIABLE)
        words = ["account", "defaults", "set", farm.account_id, "--variable", variable]
        done = CliRunner().invoke(baton, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return Studio(farm, (folder / f"{farm.account_id}.json").read_text())

    def log(self, name: str) -> str:
        """Return the whole log of a function."""
        return (self.stack.state_path / "logs" / f"{name}.log").read_text(errors="replace")
