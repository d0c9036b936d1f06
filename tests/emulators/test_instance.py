"""Emulated machines: real processes that boot, work, are taken away, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.emulators.farm import (
    PROJECT,
    ROOT,
    ZONE,
    Compute,
    StandIn,
    can_limit_memory,
    is_running,
    stand_in,
)
from tests.waiting import until

SECOND = 1_000_000_000
AGENT = """
import os, sys, threading

def main() -> int:
    print("agent", os.environ["NOMAD_JOB_ID"], os.environ["TOKEN"], sys.argv[1:], flush=True)
    print("threads", threading.active_count(), flush=True)
    return int(os.environ["EXIT_CODE"])

if __name__ == "__main__":
    sys.exit(main())
"""
# Leaves its session and its parent, as some renderers do, and notes its pid.
ESCAPE = "setsid sh -c 'sh -c \"echo \\$\\$ > {pids}/escaped; exec sleep 300\" &' "


@dataclass
class Farm:
    """Both stand-ins."""

    compute: Compute
    nomad: StandIn
    path: Path

    def boot(self, *names: str) -> None:
        """Create instances and wait until all have joined."""
        self.compute.create(*names)
        until(lambda: set(names) <= {node["Name"] for node in self.nomad.get("/v1/nodes")})

    def run(self, job_id: str, command: str, *arguments: str, **task: Any) -> None:
        """Register a job."""
        whole = {
            "Name": "render", "Driver": "raw_exec", "KillTimeout": 20 * SECOND,
            "Config": {"command": command, "args": list(arguments)},
            "Resources": {"Cores": 4, "MemoryMB": 1000}, **task,
        }  # fmt: skip
        group = {
            "Name": "attempt", "Count": 1, "Tasks": [whole],
            "RestartPolicy": {"Attempts": 0, "Mode": "fail"},
            "ReschedulePolicy": {"Attempts": 0, "Unlimited": False},
            "PreventRescheduleOnLost": True,
        }  # fmt: skip
        job = {"ID": job_id, "Type": "batch", "Datacenters": [ZONE], "TaskGroups": [group]}
        self.nomad.post("/v1/jobs", {"Job": job, "EnforceIndex": True, "JobModifyIndex": 0})

    def shell(self, job_id: str, script: str, **task: Any) -> None:
        self.run(job_id, "sh", "-c", script, **task)

    def alloc(self, job_id: str) -> dict[str, Any]:
        found = self.nomad.get(f"/v1/job/{job_id}/allocations")
        return dict(found[-1]) if found else {"ClientStatus": "none"}

    def wait(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """Return a job's allocation once it has one of the statuses."""
        until(lambda: self.alloc(job_id)["ClientStatus"] in statuses)
        return self.alloc(job_id)

    def terminated(self, job_id: str) -> dict[str, Any]:
        """Return the event that tells how a job's command ended."""
        events = self.wait(job_id, "complete", "failed")["TaskStates"]["render"]["Events"]
        return next(event for event in events if event["Type"] == "Terminated")

    def output(self, job_id: str, stream: str = "stdout") -> str:
        """Return what a job's command has printed."""
        directory = Path(self.compute.machine(self.alloc(job_id)["NodeName"])["directory"])
        alloc_id = str(self.alloc(job_id)["ID"])
        return (
            directory / "allocs" / alloc_id / "alloc" / "logs" / f"render.{stream}.0"
        ).read_text()

    def pid(self, name: str) -> int:
        """Return the pid which a command wrote into the file of that name."""
        path = self.path / name
        return int(until(lambda: path.read_text() if path.exists() else ""))


def _memory_groups(farm: Farm) -> list[Path]:
    """Return the control groups of the first node's commands."""
    node_id = farm.nomad.get("/v1/nodes")[0]["ID"]
    return [path for path in Path("/sys/fs/cgroup").rglob(f"{node_id}-*") if path.is_dir()]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    path = tmp_path_factory.mktemp("farm")
    (path / "image" / "agent").mkdir(parents=True)
    (path / "image" / "agent" / "__init__.py").touch()
    (path / "image" / "agent" / "__main__.py").write_text(AGENT)
    nomad = StandIn("emulators.nomad", path / "nomad", "--heartbeat-ttl-s", "2")
    with stand_in(nomad):
        compute = Compute(
            "emulators.compute", path / "compute", "--nomad", nomad.url, "--boot-s", "0.4",
            "--operation-s", "0.05", "--stop-s", "0.05",
            pythonpath=str(path / "image"),
        )  # fmt: skip
        with stand_in(compute):
            yield Farm(compute, nomad, path)


@pytest.fixture
def farm(stand_ins: Farm, tmp_path: Path) -> Farm:
    stand_ins.compute.post("/reset")
    stand_ins.nomad.post("/reset")
    requests.delete(stand_ins.compute.url + "/faults", timeout=5)
    stand_ins.compute.template()
    stand_ins.compute.group()
    return Farm(stand_ins.compute, stand_ins.nomad, tmp_path)


def test_from_creation_over_a_render_to_retirement(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.shell("acme-1", "echo rendered")
    assert farm.wait("acme-1", "complete")["NodeName"] == "pool-1"
    assert farm.output("acme-1") == "rendered\n"
    pid = farm.compute.machine("pool-1")["pid"]
    farm.compute.delete("pool-1")
    until(lambda: not is_running(pid))
    until(lambda: farm.compute.get("/machines") == [])
    until(lambda: farm.nomad.get("/v1/nodes")[0]["Status"] == "down")
    assert farm.compute.events("pool-1") == ["created", "running", "booted", "deleting", "deleted"]


def test_a_machine_joins_as_the_node_that_its_template_describes(farm: Farm) -> None:
    farm.boot("pool-1")
    (stub,) = farm.nomad.get("/v1/nodes")
    node = farm.nomad.get(f"/v1/node/{stub['ID']}")
    assert (node["Name"], node["Datacenter"], node["NodeClass"]) == (
        "pool-1",
        ZONE,
        "n1-standard-4",
    )
    assert node["Meta"] == {
        "zone": ZONE, "instance_type": "n1-standard-4", "preemptible": "true", "pool": "pool",
        "orchestrator": "nomad-1",
    }  # fmt: skip
    assert node["Attributes"]["cpu.numcores"] == "4"
    assert 14_000 < node["NodeResources"]["Memory"]["MemoryMB"] < 15 * 1024


def test_a_command_finds_what_nomad_and_the_machine_give_it(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.run(
        "acme-1", "env", Env={"TOKEN": "t-1", "WHERE": "${node.datacenter}/${meta.pool}"},
        Meta={"frame": "7"},
    )  # fmt: skip
    alloc = farm.wait("acme-1", "complete")
    found = dict(line.split("=", 1) for line in farm.output("acme-1").splitlines())
    machine = farm.compute.machine("pool-1")
    assert found["NOMAD_ALLOC_ID"] == alloc["ID"]
    assert found["NOMAD_JOB_ID"] == "acme-1"
    assert found["NOMAD_META_frame"] == found["NOMAD_META_FRAME"] == "7"
    assert found["GCE_METADATA_HOST"] == machine["metadata_host"]
    assert found["BATON_CACHE_DIR"].endswith(f"/zones/{ZONE}/cache")
    assert Path(found["BATON_CACHE_DIR"]).is_dir()
    assert Path(found["BATON_WORK_DIR"]).is_relative_to(machine["directory"])
    assert (found["TOKEN"], found["WHERE"]) == ("t-1", f"{ZONE}/pool")


@pytest.mark.parametrize(
    ("script", "status", "exit_code", "number"),
    [
        ("exit 0", "complete", 0, 0),
        ("exit 3", "failed", 3, 0),
        ("kill -SEGV $$", "failed", 139, 11),
        ("kill -KILL $$", "failed", 137, 9),
    ],
)
def test_how_a_command_ended_is_reported(
    farm: Farm, script: str, status: str, exit_code: int, number: int
) -> None:
    farm.boot("pool-1")
    farm.shell("acme-1", script)
    event = farm.terminated("acme-1")
    assert (event["ExitCode"], event["Signal"]) == (exit_code, number)
    assert "oom_killed" not in event["Details"]
    alloc = farm.alloc("acme-1")
    assert alloc["ClientStatus"] == status
    state = alloc["TaskStates"]["render"]
    assert (state["State"], state["Failed"]) == ("dead", status == "failed")
    assert state["StartedAt"] <= state["FinishedAt"]


@pytest.mark.skipif(not can_limit_memory(), reason="no right to make memory control groups here")
def test_a_command_without_enough_memory_is_told_apart_from_a_killed_one(farm: Farm) -> None:
    farm.boot("pool-1")
    resources = {"Cores": 4, "MemoryMB": 40, "MemoryMaxMB": 40}
    farm.run("acme-1", sys.executable, "-c", "bytearray(400 << 20)", Resources=resources)
    event = farm.terminated("acme-1")
    assert (event["ExitCode"], event["Signal"]) == (137, 9)
    assert event["Details"]["oom_killed"] == "true"
    assert "OOM Killed" in event["DisplayMessage"]
    assert not _memory_groups(farm)


@pytest.mark.skipif(not can_limit_memory(), reason="no right to make memory control groups here")
def test_no_control_group_outlives_its_machine(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.shell("acme-1", f"echo $$ > {farm.path}/own; sleep 300")
    farm.pid("own")
    assert _memory_groups(farm)
    farm.compute.delete("pool-1")
    until(lambda: farm.compute.get("/machines") == [])
    assert not _memory_groups(farm)


def test_a_command_that_does_not_exist_is_a_driver_failure(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.run("acme-1", "no-such-renderer")
    events = farm.wait("acme-1", "failed")["TaskStates"]["render"]["Events"]
    assert "no-such-renderer" in events[-1]["DriverError"]


@pytest.mark.parametrize("exit_code", ["0", "4"])
def test_the_agent_of_the_image_runs_forked_and_unthreaded(farm: Farm, exit_code: str) -> None:
    farm.boot("pool-1")
    farm.run("acme-1", "baton-agent", "-v", Env={"TOKEN": "t-1", "EXIT_CODE": exit_code})
    assert farm.terminated("acme-1")["ExitCode"] == int(exit_code)
    assert farm.output("acme-1") == "agent acme-1 t-1 ['-v']\nthreads 1\n"


def test_an_agent_that_crashes_fails_with_its_traceback(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.run("acme-1", "baton-agent", Env={"TOKEN": "t-1"})
    assert farm.terminated("acme-1")["ExitCode"] == 1
    assert "KeyError: 'EXIT_CODE'" in farm.output("acme-1", "stderr")


def test_a_stopped_job_is_asked_first(farm: Farm) -> None:
    farm.boot("pool-1")
    script = "trap 'echo asked; exit 0' TERM; echo $$ > {}/own; while :; do sleep 0.05; done"
    farm.shell("acme-1", script.format(farm.path), KillSignal="SIGTERM")
    farm.pid("own")
    requests.delete(f"{farm.nomad.url}/v1/job/acme-1", timeout=5)
    events = farm.wait("acme-1", "complete")["TaskStates"]["render"]["Events"]
    assert [event["Type"] for event in events[-3:]] == ["Killing", "Terminated", "Killed"]
    assert farm.output("acme-1") == "asked\n"


def test_a_stopped_job_that_refuses_is_killed_with_all_it_started(farm: Farm) -> None:
    farm.boot("pool-1")
    script = (
        ESCAPE.format(pids=farm.path) + "; trap '' TERM INT; echo $$ > {}/own; sleep 300 & wait"
    )
    farm.shell("acme-1", script.format(farm.path), KillTimeout=SECOND // 5)
    pids = [farm.pid("own"), farm.pid("escaped")]
    requests.delete(f"{farm.nomad.url}/v1/job/acme-1", timeout=5)
    assert farm.terminated("acme-1")["Signal"] == signal.SIGKILL
    assert not any(map(is_running, pids))


def test_what_a_finished_command_left_behind_is_ended(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.shell(
        "acme-1",
        ESCAPE.format(pids=farm.path) + f"; while [ ! -s {farm.path}/escaped ]; do :; done",
    )
    farm.wait("acme-1", "complete")
    assert not is_running(farm.pid("escaped"))


@pytest.mark.parametrize("victim", ["pid", "machine_pid"])
def test_a_killed_machine_takes_everything_on_it_along(farm: Farm, victim: str) -> None:
    farm.boot("pool-1")
    farm.shell("acme-1", ESCAPE.format(pids=farm.path) + f"; echo $$ > {farm.path}/own; sleep 300")
    machine = farm.compute.machine("pool-1")
    pids = [farm.pid("own"), farm.pid("escaped"), machine["pid"], machine["machine_pid"]]
    os.kill(machine[victim], signal.SIGKILL)
    until(lambda: not any(map(is_running, pids)))
    until(lambda: farm.compute.status("pool-1") == "TERMINATED")
    assert farm.compute.events("pool-1")[-1] == "lost"
    farm.wait("acme-1", "unknown")
    assert farm.nomad.get("/v1/nodes")[0]["Status"] == "down"


def test_a_lost_instance_gets_no_notice(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.shell(
        "acme-1",
        f"trap 'touch {farm.path}/asked' TERM INT HUP; echo $$ > {farm.path}/own; sleep 300",
    )
    pid = farm.pid("own")
    farm.compute.post("/faults", {"kind": "lose", "instance": "pool-1"})
    until(lambda: not is_running(pid))
    assert not (farm.path / "asked").exists()
    until(lambda: farm.compute.events("pool-1")[-1] == "lost")


def test_a_preempted_instance_is_told_before_it_is_taken(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.shell("acme-1", f"echo $$ > {farm.path}/own; sleep 300")
    pid = farm.pid("own")
    host = farm.compute.machine("pool-1")["metadata_host"]
    url = f"http://{host}/computeMetadata/v1/instance/preempted"
    headers = {"Metadata-Flavor": "Google"}
    now = requests.get(url, headers=headers, timeout=5)
    assert now.text == "FALSE"
    query = {"wait_for_change": "true", "last_etag": now.headers["ETag"]}
    farm.compute.post("/faults", {"kind": "preempt", "instance": "pool-1", "notice_s": 2})
    told = requests.get(url, headers=headers, params=query, timeout=30)
    assert told.text == "TRUE"
    event = farm.compute.metadata("pool-1", "instance/maintenance-event")
    assert event == "TERMINATE_ON_HOST_MAINTENANCE"
    assert farm.compute.status("pool-1") == "STOPPING"
    assert is_running(pid), "it works on during the notice"
    until(lambda: not is_running(pid))
    until(lambda: farm.compute.status("pool-1") == "TERMINATED")
    assert farm.compute.events("pool-1")[-2:] == ["preemption_notice", "preempted"]


def test_a_simulated_maintenance_event_preempts_a_spot_instance(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.compute.done(
        farm.compute.instances.simulate_maintenance_event_unary(
            project=PROJECT, zone=ZONE, instance="pool-1"
        )
    )
    until(lambda: farm.compute.metadata("pool-1", "instance/preempted") == "TRUE")


def test_a_group_that_repairs_makes_a_lost_instance_again(farm: Farm) -> None:
    farm.compute.group("mended", instance_lifecycle_policy={"default_action_on_failure": "REPAIR"})
    farm.compute.create("mended-1", group="mended")
    first = farm.compute.machine("mended-1")
    until(lambda: farm.nomad.get("/v1/nodes"))
    farm.compute.post("/faults", {"kind": "lose", "instance": "mended-1"})
    until(lambda: farm.compute.members("mended")["mended-1"].instance_status == "RUNNING"
          and farm.compute.machine("mended-1")["id"] != first["id"])  # fmt: skip
    until(lambda: sorted(n["Status"] for n in farm.nomad.get("/v1/nodes")) == ["down", "ready"])


def test_a_slow_boot_joins_late_and_a_dead_one_never(farm: Farm) -> None:
    farm.compute.post("/faults", {"kind": "slow_boot", "instance": "pool-slow", "boot_s": 1.2})
    farm.compute.post("/faults", {"kind": "dead_boot", "instance": "pool-dead"})
    farm.compute.create("pool-slow", "pool-dead", "pool-good")
    until(lambda: "booted" in farm.compute.events("pool-slow"))
    assert {node["Name"] for node in farm.nomad.get("/v1/nodes")} == {"pool-good", "pool-slow"}
    took = {
        event["instance"]: event["boot_s"]
        for event in farm.compute.get("/events") if event["kind"] == "booted"
    }  # fmt: skip
    assert took["pool-slow"] >= 1.2
    assert took["pool-slow"] > took["pool-good"] >= 0.4
    assert farm.compute.status("pool-dead") == "RUNNING", "only the scheduler misses it"


def test_a_machine_works_on_while_nomad_is_away_and_reports_afterwards(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.shell(
        "acme-1", f"echo $$ > {farm.path}/own; while [ ! -e {farm.path}/go ]; do sleep 0.02; done"
    )
    farm.pid("own")
    farm.nomad.kill()
    (farm.path / "go").touch()
    until(lambda: not is_running(farm.pid("own")))
    farm.nomad.start()
    farm.wait("acme-1", "complete")
    farm.shell("acme-2", "true")
    farm.wait("acme-2", "complete")


def test_a_machine_joins_again_when_nomad_has_forgotten_it(farm: Farm) -> None:
    farm.boot("pool-1")
    farm.shell("acme-1", f"echo $$ > {farm.path}/own; sleep 300")
    pid = farm.pid("own")
    farm.nomad.post("/reset")
    until(lambda: farm.nomad.get("/v1/nodes"))
    until(lambda: not is_running(pid))


def test_instances_survive_kill_9_of_the_cloud_and_are_adopted(farm: Farm) -> None:
    farm.boot("pool-1", "pool-2")
    before = {m["name"]: m["pid"] for m in farm.compute.get("/machines")}
    farm.compute.kill()
    os.kill(before["pool-2"], signal.SIGKILL)
    farm.compute.start()
    assert is_running(before["pool-1"])
    until(lambda: farm.compute.status("pool-2") == "TERMINATED")
    assert farm.compute.machine("pool-1")["pid"] == before["pool-1"]
    assert "adopted" in farm.compute.events("pool-1")
    until(lambda: sorted(n["Status"] for n in farm.nomad.get("/v1/nodes")) == ["down", "ready"])
    farm.shell("acme-1", "true")
    farm.wait("acme-1", "complete")
    farm.compute.delete("pool-1", "pool-2")
    until(lambda: not is_running(before["pool-1"]))
    until(lambda: farm.compute.members() == {})


def test_instances_that_were_being_made_or_unmade_at_kill_9_end_where_they_should(
    farm: Farm,
) -> None:
    farm.boot("pool-going")
    going = farm.compute.machine("pool-going")["pid"]
    farm.compute.create("pool-coming")
    farm.compute.delete("pool-going")
    farm.compute.kill()
    farm.compute.start()
    until(lambda: farm.compute.status("pool-coming") == "RUNNING")
    until(lambda: list(farm.compute.members()) == ["pool-coming"])
    assert not is_running(going)
    assert farm.compute.events("pool-coming").count("booted") <= 1


def _family(directory: Path) -> list[int]:
    """Return the pids of processes whose command line names `directory`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(directory) in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_machines_whose_cloud_never_comes_back_switch_themselves_off(tmp_path: Path) -> None:
    compute = Compute(
        "emulators.compute", tmp_path, "--nomad", "http://127.0.0.1:9", "--boot-s", "0.1",
        "--orphan-s", "0.5",
    )  # fmt: skip
    compute.start()
    compute.template()
    compute.group()
    compute.create("pool-1")
    compute.machine("pool-1")
    compute.kill()
    until(lambda: not _family(tmp_path))


def test_an_orderly_stop_leaves_no_process_and_an_empty_cloud(tmp_path: Path) -> None:
    compute = Compute(
        "emulators.compute", tmp_path, "--nomad", "http://127.0.0.1:9", "--boot-s", "0.1"
    )
    with stand_in(compute):
        compute.template()
        compute.group()
        compute.create("pool-1", "pool-2", "pool-3")
        compute.machine("pool-3")
        assert _family(tmp_path)
        assert compute.stop() == 0
        assert _family(tmp_path) == []
        compute.start()
        assert compute.members() == {}
        assert compute.size() == 0


def test_two_clouds_do_not_share_a_directory(farm: Farm, tmp_path: Path) -> None:
    first = Compute("emulators.compute", tmp_path, "--nomad", "http://127.0.0.1:9")
    with stand_in(first):
        command = [sys.executable, "-m", "emulators.compute", "--port", "0", "--nomad", "http://x"]
        second = subprocess.run(
            [*command, "--data", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode != 0
        assert "another stand-in" in second.stderr


def test_the_metadata_server_speaks_as_google_does(farm: Farm) -> None:
    farm.boot("pool-1")
    machine = farm.compute.machine("pool-1")
    base = f"http://{machine['metadata_host']}/computeMetadata/v1"
    assert requests.get(base + "/instance/name", timeout=5).status_code == 403
    assert farm.compute.metadata("pool-1", "instance/name") == "pool-1"
    assert farm.compute.metadata("pool-1", "instance/id") == machine["id"]
    assert farm.compute.metadata("pool-1", "instance/zone").endswith(f"/zones/{ZONE}")
    kind = farm.compute.metadata("pool-1", "instance/machine-type")
    assert kind.endswith("/machineTypes/n1-standard-4")
    assert farm.compute.metadata("pool-1", "instance/scheduling/preemptible") == "TRUE"
    assert farm.compute.metadata("pool-1", "instance/attributes/orchestrator") == "nomad-1"
    assert farm.compute.metadata("pool-1", "instance/attributes/") == "orchestrator\n"
    assert '"orchestrator": "nomad-1"' in farm.compute.metadata(
        "pool-1", "instance/", recursive="true"
    )
    headers = {"Metadata-Flavor": "Google"}
    reply = requests.get(base + "/instance/preempted", headers=headers, timeout=5)
    assert (reply.text, reply.headers["Metadata-Flavor"]) == ("FALSE", "Google")
    etag = reply.headers["ETag"]
    query = {"wait_for_change": "true", "timeout_sec": "0.2", "last_etag": etag}
    assert farm.compute.metadata("pool-1", "instance/preempted", **query) == "FALSE"
    query = {"wait_for_change": "true", "last_etag": "0"}
    assert farm.compute.metadata("pool-1", "instance/preempted", **query) == "FALSE"
    forwarded = {**headers, "X-Forwarded-For": "10.0.0.1"}
    assert requests.get(base + "/instance/name", headers=forwarded, timeout=5).status_code == 403
    for path in ("instance/ghost", "instance/attributes/ghost"):
        assert requests.get(f"{base}/{path}", headers=headers, timeout=5).status_code == 404
