"""An artist's machine: one version of the unmodified client, a home, a temporary folder, and nothing of the farm."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from shared.models.job import JobRef
from tests.clients.install import client_folder
from tests.clients.tap import Tap
from tests.e2e.farm import Farm

DRIVERS = Path(__file__).with_name("drivers")
# A client that takes longer hangs: none of the flows needs half of it.
ENDS_WITHIN_S = 100
DAEMON_ENDS_WITHIN_S = 10
# So often an artist submits again what the client failed at by itself.
MOST_AGAIN = 4


def number(version: str) -> tuple[int, ...]:
    """Return a version as something that can be compared."""
    return tuple(int(part) for part in version.split("."))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A client's process that has ended."""

    code: int
    said: str

    def told(self) -> Any:
        """Return what a driver's last line says in JSON."""
        assert self.code == 0, self.said
        return json.loads(self.said.splitlines()[-1])


class Faults(Protocol):
    """What makes the object storage fail."""

    def ordered(self, **order: Any) -> AbstractContextManager[None]: ...


class Studio:
    """An account, and one rendered job that several of its artists may fetch."""

    def __init__(self, farm: Farm, api_key: str) -> None:
        self.farm = farm
        self.api_key = api_key
        self._rendered: JobRef | None = None
        self._lock = threading.Lock()

    def rendered(self, render: Callable[[Farm], JobRef]) -> JobRef:
        """Return the job; who asks first has it rendered."""
        with self._lock:
            if self._rendered is None:
                self._rendered = render(self.farm)
            return self._rendered


@dataclass(kw_only=True)
class Artist:
    """Somebody in a studio, who works with one version of the client. All their calls go through a tap."""

    version: str
    studio: Studio
    tap: Tap
    folder: Path
    faults: Faults
    more_env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.farm = self.studio.farm
        self.api_key: str | None = self.studio.api_key
        for name in ("home", "tmp", "work"):
            (self.folder / name).mkdir(parents=True)

    def is_at_least(self, version: str) -> bool:
        return number(self.version) >= number(version)

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of the client's processes."""
        env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "CONDUCTOR_URL": self.tap.url,
            "CONDUCTOR_API_URL": self.tap.url,
            "CIO_DISABLE_VERSION_CHECK": "1",
            "PYTHONUNBUFFERED": "1",
        }
        if self.api_key is not None:
            env["CONDUCTOR_API_KEY"] = self.api_key
        return env | self.more_env

    def command(self, driver: str, *words: object) -> list[str]:
        """Return the command of a driver; what is no text goes as JSON."""
        python = client_folder(self.version) / "bin" / "python"
        said = [word if isinstance(word, str) else json.dumps(word) for word in words]
        return [str(python), str(DRIVERS / f"{driver}.py"), *said]

    def drive(self, driver: str, *words: object) -> Finished:
        """Run a driver to its end."""
        return self.run(self.command(driver, *words))

    def conductor(self, *words: str) -> Finished:
        """Run the client's own command line to its end."""
        return self.run(self._conductor(*words))

    def _conductor(self, *words: str) -> list[str]:
        return [str(client_folder(self.version) / "bin" / "conductor"), *words]

    def run(self, command: list[str]) -> Finished:
        """Run a command to its end. Raises: AssertionError when it hangs, with what it said and what it exchanged."""
        with subprocess.Popen(
            command,
            env=self.env,
            cwd=self.folder / "home",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                said, _ = process.communicate()
                story = f"{said.decode(errors='replace')[-6000:]}\n{self.tap.story()[-6000:]}"
                raise AssertionError(f"{self.version} hangs: {command[1:]}\n{story}") from None
        return Finished(code=process.returncode, said=said.decode(errors="replace"))

    @contextmanager
    def daemon(self, *words: str) -> Iterator[Callable[[], str]]:
        """Run the command line as a daemon while the block runs; yields what tells the words it has said so far."""
        log = self.folder / "daemon.log"
        with (
            log.open("ab") as output,
            subprocess.Popen(
                self._conductor(*words),
                env=self.env,
                cwd=self.folder / "home",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield lambda: log.read_text(errors="replace")
                assert process.poll() is None, f"the daemon ended: {log.read_text()[-4000:]}"
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(DAEMON_ENDS_WITHIN_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)

    def wait(self, what: str, is_so: Callable[[], object], *, patience_s: float = 90) -> None:
        """Wait until something is so. Raises: AssertionError with all that the client exchanged."""
        deadline = time.monotonic() + patience_s
        while not is_so():
            assert time.monotonic() < deadline, f"not so: {what}\n{self.tap.story()[-6000:]}"
            time.sleep(0.05)

    def write(self, files: Mapping[str, bytes]) -> list[str]:
        """Write files below the artist's folder; returns their whole paths."""
        paths = []
        for name, content in files.items():
            path = self.folder / "work" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            paths.append(str(path))
        return paths

    @property
    def renders(self) -> Path:
        """The output path of the artist's jobs."""
        return self.folder / "work" / "renders"

    @property
    def uploader(self) -> list[str]:
        """The words of the version's uploader. New ones would keep their log where the whole machine does."""
        kept = ["--log_dir", str(self.folder / "home")]
        return ["upload", *kept] if self.is_at_least("8.0") else ["uploader"]

    def order(self, commands: list[str], **named: Any) -> dict[str, Any]:
        """Return what a plugin hands to the client; `named` overrides and adds."""
        return {
            "job_title": f"ciocore {self.version}",
            "project": "relay",
            "instance_type": "cpu-2-8",
            "output_path": str(self.renders),
            "preemptible": True,
            "autoretry_policy": {"preempted": {"max_retries": 3}},
            "tasks_data": [
                {"command": command, "frames": str(index + 1)}
                for index, command in enumerate(commands)
            ],
            "upload_paths": [],
        } | named

    def submit(self, commands: list[str], **named: Any) -> JobRef:
        """Submit with the client, again where it fails by itself as artists do; returns the job.

        Raises: AssertionError unless it is accepted as it must be.
        """
        order = self.order(commands, **named)
        told = _until(
            lambda done: done.code == 0 or not self._failed_by_itself(done),
            lambda: self.drive("submit", order),
        ).told()
        assert told["code"] == 201, told
        answer = told["answer"]
        assert answer["uri"] == f"/jobs/{answer['jobid']}"
        assert answer["status"] == "success" and answer["body"] == "job submitted."
        assert len(answer["jobid"]) >= 5
        return JobRef(self.farm.account_id, answer["jobid"])

    def upload(self, paths: list[str]) -> Finished:
        """Upload files by the command line, again where the client fails by itself."""
        words = paths if self.is_at_least("8.0") else ["--paths", *paths]
        return _until(
            lambda done: not self._failed_by_itself(done),  # it may end with 0 all the same
            lambda: self.conductor(*self.uploader, *words),
        )

    def _failed_by_itself(self, done: Finished) -> bool:
        """Tell whether a client has met a race of its own threads, as these do on a busy machine.

        The uploader of 4.x and 5.4 to 6.3 may read an MD5 before it has kept it. In 5.0 and 5.1 each thread ends after
        two seconds without work: when the URLs of some files come later than that after those of others, it uploads
        the others only, submits, and our refusal names what is missing.
        """
        if self.version == "5.1.1":
            return "not in the store" in done.said
        return "must be of type str or bytes, not <class 'dict'>" in done.said


def _until(is_well: Callable[[Finished], bool], run: Callable[[], Finished]) -> Finished:
    done = run()
    for _ in range(MOST_AGAIN):
        if is_well(done):
            break
        done = run()
    return done
