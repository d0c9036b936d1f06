"""A machine with a farm behind it, and agents that run on it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.agent.metadata import GceMetadata
from tests.agent.server import Attempt, Farm

ROOT = Path(__file__).parents[2]
Report = dict[str, Any]


class AgentRun:
    """One agent process. Its diary is what it wrote to stderr."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._diary_path = folder / f"diary-{len(list(folder.iterdir()))}"
        with self._diary_path.open("wb") as diary:
            self.process = subprocess.Popen(
                argv,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=diary,
                stderr=diary,
            )

    def wait(self, timeout_s: float = 60) -> int:
        """Wait for its end; return its exit code."""
        return self.process.wait(timeout_s)

    @property
    def diary(self) -> str:
        """Everything it wrote so far."""
        return self._diary_path.read_text()


class Machine:
    """A machine of the farm: folders, metadata server, agents."""

    def __init__(self, farm: Farm, metadata: GceMetadata, folder: Path) -> None:
        self.farm = farm
        self.metadata = metadata
        self.folder = folder
        self.cache = folder / "cache"
        self._runs: list[AgentRun] = []

    def start(
        self,
        attempt: Attempt,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "agent"),
        *,
        has_google: bool = True,
    ) -> AgentRun:
        """Start an agent as the scheduler and the image would; `environment` adds to theirs."""
        given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "BATON_AGENT_URL": self.farm.url,
            "BATON_ATTEMPT_TOKEN": attempt.token,
            "BATON_CACHE_DIR": str(self.cache),
            "BATON_WORK_DIR": str(self.folder / "work"),
        }
        if has_google:
            given["GCE_METADATA_HOST"] = self.metadata.host
        run = AgentRun(command, {**given, **(environment or {})}, self.folder)
        self._runs.append(run)
        return run

    def render(self, command: str, output_path: str = "/out", **settings: Any) -> Attempt:
        """Run an attempt to its end; return what the server knows of it."""
        attempt = self.farm.add_attempt(command, output_path, **settings)
        self.finish(attempt)
        return attempt

    def finish(self, attempt: Attempt, environment: Mapping[str, str] | None = None) -> Report:
        """Run an agent to its end; return its report."""
        run = self.start(attempt, environment)
        code = run.wait()
        assert code == 0, run.diary
        assert attempt.finish is not None, run.diary
        return attempt.finish

    def close(self) -> None:
        """End what a failed test left."""
        for run in self._runs:
            if run.process.poll() is None:
                run.process.send_signal(signal.SIGKILL)
                run.process.wait()


def processes_with(marker: str) -> list[int]:
    """Return the processes on this machine whose command line has `marker`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.fixture
def farm() -> Iterator[Farm]:
    farm = Farm()
    yield farm
    farm.close()


@pytest.fixture
def metadata() -> Iterator[GceMetadata]:
    metadata = GceMetadata()
    yield metadata
    metadata.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter, as a machine's disk is: pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(prefix="baton-agent-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def machine(farm: Farm, metadata: GceMetadata, folder: Path) -> Iterator[Machine]:
    machine = Machine(farm, metadata, folder)
    yield machine
    machine.close()
