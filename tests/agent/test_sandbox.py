"""What a render cannot do, and where it can run."""

import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import Machine
from tests.agent.metadata import GceMetadata
from tests.agent.server import Attempt, Farm

PYTHON = "/usr/bin/python3"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
with_python = pytest.mark.skipif(not os.path.exists(PYTHON), reason=f"no {PYTHON}")

PROBE = """
import ctypes, json, os, socket
found = {}
def attempt(name, work):
    try:
        found[name] = repr(work())
    except Exception as exc:
        found[name] = type(exc).__name__ + ": " + str(exc)
def connect(host, port):
    with socket.create_connection((host, int(port)), timeout=3):
        return "connected"
def call(name, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) != 0:
        raise OSError(ctypes.get_errno(), "refused")
for host, port in (os.environ["METADATA"].split(":"), os.environ["FARM"].split(":"), ("8.8.8.8", "53")):
    attempt("connect " + host + ":" + port, lambda: connect(host, port))
attempt("connect metadata", lambda: connect("169.254.169.254", 80))
attempt("unix", lambda: (socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET))[0].family)
attempt("netlink", lambda: socket.socket(16, 3, 0))
attempt("unshare", lambda: call("unshare", 0x10000000))
attempt("mount", lambda: call("mount", b"x", b"/tmp", b"tmpfs", 0, None))
attempt("ptrace", lambda: call("ptrace", 16, 1, 0, 0))
attempt("chroot", lambda: call("chroot", b"/tmp"))
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
found["status"] = {name: status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
found["uid"] = os.getuid()
found["environment"] = dict(os.environ)
found["root"] = sorted(os.listdir("/"))
found["pids"] = [pid for pid in os.listdir("/proc") if pid.isdigit()]
found["environments"] = ""
for pid in found["pids"]:
    try:
        found["environments"] += open(f"/proc/{pid}/environ").read()
    except OSError:
        pass
print("FOUND " + json.dumps(found))
"""


@pytest.fixture
def probed(machine: Machine, farm: Farm, metadata: GceMetadata) -> Attempt:
    attempt = farm.add_attempt(
        f"{PYTHON} /vol/probe.py",
        environment={"METADATA": metadata.host, "FARM": farm.url.removeprefix("http://")},
    )
    farm.add_input(attempt, "/vol/probe.py", PROBE.encode())
    machine.finish(attempt)
    return attempt


def found(farm: Farm, attempt: Attempt) -> dict[str, Any]:
    """Return what the probe printed."""
    for line in farm.log(attempt).splitlines():
        if line.startswith("FOUND "):
            answer: dict[str, Any] = json.loads(line.removeprefix("FOUND "))
            return answer
    raise AssertionError(farm.log(attempt))


@with_python
def test_a_render_reaches_no_network_and_no_metadata_server(
    farm: Farm, probed: Attempt, metadata: GceMetadata
) -> None:
    host, port = metadata.host.split(":")
    with socket.create_connection((host, int(port)), timeout=3):
        pass  # from outside it answers
    answers = {
        name: text for name, text in found(farm, probed).items() if name.startswith("connect")
    }
    assert len(answers) == 4
    for name, text in answers.items():
        assert "unreachable" in str(text) or "refused" in str(text), name


@with_python
def test_a_render_has_no_privilege_and_cannot_get_one(farm: Farm, probed: Attempt) -> None:
    answer = found(farm, probed)
    nothing = "0000000000000000"
    assert answer["status"] == {
        "CapEff": nothing, "CapBnd": nothing, "NoNewPrivs": "1", "Seccomp": "2"
    }  # fmt: skip
    assert answer["uid"] != 0
    for call in ("unshare", "mount", "ptrace", "chroot", "netlink"):
        assert "OSError" in str(answer[call]), call
    assert "AF_UNIX" in str(answer["unix"])


@with_python
def test_a_render_sees_nothing_of_the_machine_the_agent_or_the_token(
    farm: Farm, probed: Attempt
) -> None:
    answer = found(farm, probed)
    assert {"vol", "out", "usr", "tmp"} <= set(answer["root"])
    assert not {"root", "home", "boot", "mnt", "run", "work"} & set(answer["root"])
    assert len(answer["pids"]) <= 4
    assert probed.token not in json.dumps(answer)
    environment = answer["environment"]
    assert isinstance(environment, dict)
    assert not [name for name in environment if name.startswith(("BATON", "GCE", "NOMAD"))]


def test_the_token_of_the_environment_is_out_of_reach(machine: Machine, farm: Farm) -> None:
    attempt = machine.render("cat /proc/*/environ | tr '\\0' '\\n'; ls /proc | grep -c '^[0-9]'")
    log = farm.log(attempt)
    assert "PATH=" in log
    assert "hidden" not in log  # it was not merely hidden
    assert "BATON_" not in log


def test_a_render_has_a_home_a_temporary_folder_and_a_place_to_work(
    machine: Machine, farm: Farm
) -> None:
    attempt = machine.render(
        "touch $HOME/a ./b /tmp/c /var/tmp/d /dev/shm/e && id -un"
        " && ! dd if=/dev/zero of=/tmp/big bs=1M count=400 2>/dev/null && ! touch /x && ! touch /dev/x",
        memory_mib=1024,
    )
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "success", farm.log(attempt)
    assert "render\n" in farm.log(attempt)


def test_a_render_is_not_run_where_it_cannot_be_locked_up(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("true")
    run = machine.start(attempt, {"PATH": "/no/bubblewrap/here"})
    assert run.wait() == os.EX_CONFIG
    assert "bubblewrap" in run.diary
    assert attempt.claim is None


def test_without_a_sandbox_the_artists_paths_are_real(machine: Machine, farm: Farm) -> None:
    place = machine.folder / "vol"
    attempt = farm.add_attempt(f"cat {place}/in/a.txt > {place}/out/b.txt; env", f"{place}/out")
    farm.add_input(attempt, f"{place}/in/a.txt", b"a")
    report = machine.finish(attempt, {"BATON_SANDBOX": "off"})
    assert report["outcome"] == "success", farm.log(attempt)
    assert farm.outputs(attempt) == {"b.txt": b"a"}
    assert "BATON_" not in farm.log(attempt)


def test_without_a_sandbox_only_what_the_render_wrote_is_stored(
    machine: Machine, farm: Farm
) -> None:
    out = machine.folder / "out"
    out.mkdir()
    (out / "old.txt").write_text("old")
    (out / "same.txt").write_text("same")
    attempt = farm.add_attempt(f"echo new > {out}/old.txt; sleep 60 & echo left behind", str(out))
    report = machine.finish(attempt, {"BATON_SANDBOX": "off"})
    assert report["outcome"] == "success", farm.log(attempt)
    assert farm.outputs(attempt) == {"old.txt": b"new\n"}


@pytest.fixture
def closed_machine(farm: Farm, metadata: GceMetadata) -> Iterator[Machine]:
    """A machine whose folders lie in a home folder that is closed to others."""
    home = Path(tempfile.mkdtemp(prefix="baton-home-", dir="/var/tmp"))
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    (home / "machine").mkdir()
    machine = Machine(farm, metadata, home / "machine")
    yield machine
    machine.close()
    shutil.rmtree(home)


def test_folders_below_a_closed_one_can_be_rendered_in(closed_machine: Machine, farm: Farm) -> None:
    tool = closed_machine.folder / "tool"
    tool.mkdir()
    (tool / "version").write_text("1.0\n")
    attempt = farm.add_attempt(f"cat {tool}/version /vol/a.txt > /out/b.txt")
    farm.add_input(attempt, "/vol/a.txt", b"a\n")
    report = closed_machine.finish(attempt, {"BATON_SOFTWARE_PATHS": str(tool)})
    assert report["outcome"] == "success", farm.log(attempt)
    assert farm.outputs(attempt) == {"b.txt": b"1.0\na\n"}


@as_root
@with_python
def test_an_ordinary_user_can_run_the_agent(machine: Machine, farm: Farm, folder: Path) -> None:
    newest = "import sys; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run([PYTHON, "-c", newest]).returncode:
        pytest.skip(f"{PYTHON} is too old")
    shutil.copytree(Path(__file__).parents[2] / "agent", folder / "image" / "agent")
    (folder / "work").mkdir()
    (folder / "cache").mkdir()
    for path in ("work", "cache"):
        os.chown(folder / path, NOBODY, NOBODY)
    commands = [
        "echo changed >> /vol/show/scene.txt; cat /vol/tex/wood.txt > /vol/show/f.txt; ! touch /vol/tex/x",
        "cat /vol/show/scene.txt /vol/tex/wood.txt > /vol/show/f.txt; id -u",
    ]
    attempts = [farm.add_attempt(command, "/vol/show") for command in commands]
    for attempt in attempts:
        farm.add_input(attempt, "/vol/show/scene.txt", b"scene\n")
        farm.add_input(attempt, "/vol/tex/wood.txt", b"wood\n")
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        environment = {"PYTHONPATH": str(folder / "image"), "PYTHONDONTWRITEBYTECODE": "1"}
        run = machine.start(attempt, environment, [*command, PYTHON, "-m", "agent"])
        assert run.wait() == 0, run.diary
        assert attempt.finish is not None, run.diary
        assert attempt.finish["outcome"] == "success", farm.log(attempt)
    first, second = attempts
    assert farm.outputs(first) == {"scene.txt": b"scene\nchanged\n", "f.txt": b"wood\n"}
    assert farm.outputs(second) == {"f.txt": b"scene\nwood\n"}


@as_root
@with_python
@pytest.mark.parametrize(
    "command",
    [
        f"{PYTHON} -c 'x = bytearray(600 << 20)'",
        f"{PYTHON} -c 'x = bytearray(600 << 20)'; true",  # the shell does not notice
    ],
)
def test_running_out_of_memory_is_told_apart(machine: Machine, farm: Farm, command: str) -> None:
    attempt = farm.add_attempt(command, memory_mib=96)
    run = machine.start(attempt)
    assert run.wait() == 0, run.diary
    if "memory_not_limited" in run.diary:
        pytest.skip("no memory group may be made here")
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "out_of_memory"
    assert attempt.finish["memory_peak_mib"] in range(48, 97)
    assert not list(Path("/sys/fs/cgroup").rglob(f"baton-{run.process.pid}"))


def test_a_render_within_its_memory_succeeds(machine: Machine, farm: Farm) -> None:
    attempt = machine.render("head -c 20M /dev/zero | tail -c 20M > /dev/null", memory_mib=256)
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "success", farm.log(attempt)
