"""The demo's story, told on a running stack: `make demo`."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from demo import figures
from demo.frames import check, contact_sheet
from demo.studio import BLENDER, ROOT, Studio, create_farm, create_studio
from demo.watch import Watch
from shared import wiring
from shared.models.job import AttemptRef, Job, JobRef
from shared.models.task import Task, TaskStatus
from shared.services.attempts import manifest_name
from shared.services.audit import audit

FRAMES = 24
CHUNK = 2
INSTANCE_TYPE = "cpu-4-16"
OUT = ROOT / "build" / "demo"
CALL_S = 10
WIDTH_OF_A_FILE = 140


class Demo:
    """One telling of the story."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._env = dict(os.environ)
        software = Path(self._env["BATON_SOFTWARE_DIR"])
        self._blender = software / BLENDER
        self._client = ROOT / "build" / "clients" / "9.2.0"
        self._relay = OUT / "relay"
        self._preempted = ""

    def tell(self) -> None:
        """Tell it from beginning to end. Raises: whatever goes wrong, so that the demo never ends well by mistake."""
        for folder in (OUT / "home", self._relay / "scenes"):
            folder.mkdir(parents=True, exist_ok=True)
        studio = self._open_studio()
        scene = self._build_scene()
        job_id = self._submit(studio, scene)
        submitted_at = datetime.now(UTC)
        ref = JobRef(studio.account_id, job_id)
        ports = wiring.ports()
        self._say(f"Dashboard  {self._env['CONDUCTOR_URL']}/job/{job_id}")
        self._say(f"           sign in as {studio.email} with {studio.password}")
        job = Watch(ref, self._console, ports).until_it_ends(self._preempt_one)
        tasks = ports.jobs.tasks(ref, [str(index).zfill(3) for index in range(job.task_count)])
        self._expect(job.status == "success", f"the job ended as {job.status}")
        self._expect(bool(self._preempted), "no instance was busy long enough to be preempted")
        self._download(studio, job, tasks)
        self._wait_for_zero()
        self._report(job, submitted_at, tasks)
        broken = audit(studio.account_id, [job_id], ports)
        self._expect(not broken, f"the audit found: {broken}")
        self._say("The audit of the books found nothing wrong; the pool is at zero.")

    def _open_studio(self) -> Studio:
        self._say(
            "An administrator opens the studio: account, project, user, key, catalogue, orchestrator"
        )
        create_farm(OUT, self._env, software={"blender": self._blender}, max_instances=4)
        studio = create_studio(OUT, self._env, account_id=f"relay{int(time.time())}")
        self._say(f"Dashboard  {self._env['CONDUCTOR_URL']}  ({studio.email} / {studio.password})")
        return studio

    def _build_scene(self) -> Path:
        scene = self._relay / "scenes" / "baton.blend"
        self._say(f"The artist builds a scene: {scene}")
        env = {
            "PYTHONPATH": str(self._blender / "lib"),
            "PATH": "/usr/bin:/bin",
            "HOME": str(OUT / "home"),
        }
        script = ROOT / "demo" / "blender" / "scene.py"
        self._run(["/usr/bin/python3", str(script), str(scene)], env)
        return scene

    def _submit(self, studio: Studio, scene: Path) -> str:
        """Submit with the real client, showing its upload; returns the job's id."""
        order = OUT / "order.json"
        order.write_text(json.dumps(self._order(studio, scene)))
        command = [
            str(self._client / "bin" / "python"),
            str(ROOT / "demo" / "artist.py"),
            str(order),
        ]
        said: dict[str, Any] = {}
        columns = (TextColumn("Upload"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        with (
            Progress(*columns, console=self._console) as progress,
            subprocess.Popen(
                command, env=self._client_env(studio), stdout=subprocess.PIPE, text=True
            ) as running,
        ):
            bar = progress.add_task("upload", total=100)
            assert running.stdout is not None
            for line in running.stdout:
                if line.startswith("{"):
                    said = json.loads(line)
                    if said["event"] == "upload":
                        progress.update(bar, completed=said["percent"] or 0)
            progress.update(bar, completed=100)
        self._expect(said.get("event") == "submitted", "the client did not submit the job")
        self._say(f"Submitted by ciocore 9.2.0: {said['code']} {said['answer']}")
        return str(said["answer"]["jobid"])

    def _order(self, studio: Studio, scene: Path) -> dict[str, Any]:
        out = self._relay / "renders"
        starts = range(1, FRAMES + 1, CHUNK)
        return {
            "job_title": "Baton demo: a relay baton, 24 frames",
            "project": studio.project,
            "instance_type": INSTANCE_TYPE,
            "software_package_ids": ["local-blender"],
            "upload_paths": [str(scene)],
            "output_path": str(out),
            "tasks_data": [
                {
                    "command": f'blender -b "{scene}" -o "{out}/baton_####" -F PNG'
                    f" -s {start} -e {start + CHUNK - 1} -a",
                    "frames": f"{start}-{start + CHUNK - 1}",
                }
                for start in starts
            ],
            "chunk_size": CHUNK,
            "scout_frames": f"1,{FRAMES // 2},{FRAMES}",
            "preemptible": True,
            "autoretry_policy": {"preempted": {"max_retries": 3}},
            "metadata": {"shot": "relay010"},
        }

    def _preempt_one(self, job: Job, tasks: list[Task]) -> None:
        """Once the scouts have passed, take away one busy instance, on purpose."""
        if self._preempted or job.scouts_pending:
            return
        for task in tasks:
            if task.live is not None and task.status is TaskStatus.RUNNING and not task.is_scout:
                self._preempted = task.live.instance
                order = {"kind": "preempt", "instance": self._preempted, "notice_s": 2}
                url = f"{self._env['BATON_COMPUTE_ENDPOINT']}/faults"
                requests.post(url, json=order, timeout=CALL_S).raise_for_status()
                self._say(
                    f"The provider takes {self._preempted} back while it renders task {task.task_id}"
                )
                return

    def _download(self, studio: Studio, job: Job, tasks: Sequence[Task]) -> None:
        self._say("The artist downloads with `conductor download`")
        command = [str(self._client / "bin" / "conductor"), "download", job.job_id]
        self._run(command, self._client_env(studio))
        md5s: dict[str, str] = {}
        for task in tasks:
            ref = AttemptRef(job.account_id, job.job_id, task.task_id, task.attempts[-1].number)
            listed = json.loads(wiring.blobs().read(manifest_name(ref)))
            md5s |= {each["relative_path"]: each["md5"] for each in listed}
        frames = check(Path(job.output_path), md5s)
        self._expect(len(frames) == FRAMES, f"{len(frames)} frames came back, not {FRAMES}")
        sheet = OUT / "contact-sheet.png"
        contact_sheet(frames, sheet)
        self._say(f"{len(frames)} frames, each with the MD5 that the render made")
        self._say(f"Contact sheet  {sheet}")

    def _wait_for_zero(self) -> None:
        """Wait until the autoscaler has retired every instance."""
        deadline = time.monotonic() + 120
        while any(node["Status"] == "ready" for node in self._nodes()):
            self._expect(time.monotonic() < deadline, "instances were left after the job")
            time.sleep(0.5)

    def _nodes(self) -> list[dict[str, Any]]:
        headers = {"X-Nomad-Token": self._env.get("NOMAD_TOKEN", "")}
        answer = requests.get(
            f"{self._env['NOMAD_ADDR']}/v1/nodes", headers=headers, timeout=CALL_S
        )
        answer.raise_for_status()
        nodes: list[dict[str, Any]] = answer.json()
        return nodes

    def _report(self, job: Job, submitted_at: datetime, tasks: Sequence[Task]) -> None:
        ports = wiring.ports()
        entries = figures.ledger_of(job, ports)
        url = f"{self._env['BATON_COMPUTE_ENDPOINT']}/events"
        events = requests.get(url, timeout=CALL_S).json()
        lives = figures.lives(events, datetime.now(UTC))
        figures.show_bill(entries, self._console)
        figures.show_timeline(job, submitted_at, entries, lives, self._console)
        logs = Path(self._env["BATON_STATE_DIR"]) / "logs"
        used = figures.documents_used(logs)
        clock = figures.documents_used(logs, ("autoscale", "billing"))
        each = {kind: count / job.task_count for kind, count in used.items()}
        self._say(
            f"Firestore documents for each task: {each['read']:.1f} read, {each['write']:.1f} written; "
            f"by ticks, sweeps and roll-ups meanwhile: {clock['read']} read, {clock['write']} written"
        )

    def _client_env(self, studio: Studio) -> dict[str, str]:
        """Return what an artist's machine has: the three variables, and nothing of the farm."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(OUT / "home" / studio.account_id),
            "CONDUCTOR_URL": self._env["CONDUCTOR_URL"],
            "CONDUCTOR_API_URL": self._env["CONDUCTOR_API_URL"],
            "CONDUCTOR_API_KEY": studio.api_key,
            "CIO_DISABLE_VERSION_CHECK": "1",
        }

    def _run(self, command: Sequence[str], env: dict[str, str]) -> None:
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        self._expect(done.returncode == 0, f"{command[0]} failed: {done.stdout}{done.stderr}")

    def _expect(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            raise RuntimeError(otherwise)

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, highlight=False, soft_wrap=True)


def main() -> int:
    """Tell the story; returns 0 when every part of it came true, 130 when it was interrupted."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_OF_A_FILE)
    try:
        Demo(console).tell()
    except (RuntimeError, TimeoutError) as error:
        console.print(f"The demo failed: {error}", style="bold red", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted: the demo ends here, and with it what was started for it.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
