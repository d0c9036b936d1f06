"""A render from claim to report, as the server sees it."""

import json
from pathlib import Path

import pytest

from tests.agent.conftest import Machine
from tests.agent.server import Farm


def test_inputs_are_at_the_artists_paths_and_outputs_come_back(
    machine: Machine, farm: Farm
) -> None:
    attempt = farm.add_attempt(
        "cat /vol/show/scenes/a/deep/scene.txt /vol/show/tex/wood.txt > frame.1.txt"
        " && mkdir -p /vol/show/renders/beauty && cp frame.1.txt /vol/show/renders/beauty/"
        ' && : > /vol/show/renders/empty.txt && echo "rendered by $STUDIO"',
        "/vol/show/renders",
        environment={"STUDIO": "otterhaus"},
    )
    farm.add_input(attempt, "/vol/show/scenes/a/deep/scene.txt", b"scene\n")
    farm.add_input(attempt, "/vol/show/tex/wood.txt", b"wood\n")
    report = machine.finish(attempt)
    assert (report["outcome"], report["exit_code"]) == ("success", 0), farm.log(attempt)
    assert farm.outputs(attempt) == {"beauty/frame.1.txt": b"scene\nwood\n", "empty.txt": b""}
    announced = {one["relative_path"]: (one["md5"], one["size"]) for one in report["outputs"]}
    assert announced == attempt.announced
    assert (attempt.instance, attempt.zone) == ("render-1", "us-central1-a")
    assert "rendered by otterhaus\n" in farm.log(attempt)


def test_nothing_is_left_on_the_machine_but_the_cache(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("chmod 0 /out; mkdir -p d && chmod 0 d", "/out")
    md5 = farm.add_input(attempt, "/vol/a.txt", b"a")
    machine.finish(attempt)
    assert list((machine.folder / "work").iterdir()) == []
    [cached] = [path for path in machine.cache.rglob("*") if path.is_file()]
    assert cached.read_bytes() == farm.blobs[f"blobs/{md5}"]


def test_inputs_cannot_be_changed(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt(
        "for try in 'echo x >> /vol/s/a.txt' 'chmod +w /vol/s/a.txt' 'rm /vol/s/a.txt' 'touch /vol/s/new'"
        ' ; do eval "$try" && exit 1; done; exit 0'
    )
    farm.add_input(attempt, "/vol/s/a.txt", b"kept")
    assert machine.finish(attempt)["outcome"] == "success", farm.log(attempt)


def test_the_executable_bit_is_set_where_the_artist_had_it(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("/vol/tools/go.sh && test ! -x /vol/tools/same.sh")
    script = b"#!/bin/sh\necho started by its own name\n"
    farm.add_input(attempt, "/vol/tools/go.sh", script, is_executable=True)
    farm.add_input(attempt, "/vol/tools/same.sh", script)
    assert machine.finish(attempt)["outcome"] == "success", farm.log(attempt)
    assert "started by its own name" in farm.log(attempt)


@pytest.mark.parametrize("output_path", ["/vol/show", "/vol", "/vol/show/"])
def test_a_render_may_write_among_its_inputs_without_harm_to_the_cache(
    machine: Machine, farm: Farm, output_path: str
) -> None:
    below = "" if output_path.startswith("/vol/show") else "show/"
    commands = [
        "cd /vol/show && echo more >> scene.txt && rm old.1.txt && echo new > old.1.txt && echo f > tex/f.txt",
        "cat /vol/show/scene.txt /vol/show/old.1.txt /vol/show/tex/wood.txt > /vol/show/seen.txt",
    ]
    first, second = (farm.add_attempt(command, output_path) for command in commands)
    for attempt in (first, second):
        farm.add_input(attempt, "/vol/show/scene.txt", b"scene\n")
        farm.add_input(attempt, "/vol/show/old.1.txt", b"old\n")
        farm.add_input(attempt, "/vol/show/tex/wood.txt", b"wood\n")
    assert machine.finish(first)["outcome"] == "success", farm.log(first)
    assert farm.outputs(first) == {
        f"{below}scene.txt": b"scene\nmore\n",
        f"{below}old.1.txt": b"new\n",
        f"{below}tex/f.txt": b"f\n",
    }
    assert machine.finish(second)["outcome"] == "success", farm.log(second)
    assert farm.outputs(second) == {f"{below}seen.txt": b"scene\nold\nwood\n"}


@pytest.mark.parametrize(
    "where",
    [
        "/srv/share/show",  # a UNC path
        "/Users/Jane Doe/häuser",
        "/tmp/ciocnode",
        "/usr/share/studio",
        "/usr/share/fonts/studio",
        "/etc/fonts",
        "/opt",
        "/var/tmp/x",
    ],
)
def test_inputs_and_outputs_may_lie_anywhere(machine: Machine, farm: Farm, where: str) -> None:
    attempt = farm.add_attempt(f"cp '{where}/in.txt' '/renders/show/out.txt'", "/renders/show")
    farm.add_input(attempt, f"{where}/in.txt", b"found")
    assert machine.finish(attempt)["outcome"] == "success", farm.log(attempt)
    assert farm.outputs(attempt) == {"out.txt": b"found"}


@pytest.mark.parametrize(
    "output_path", ["/tmp", "/tmp/a/b", "/var/tmp", "/a", "//srv/share/out", "/opt/out"]
)
def test_output_path_may_be_almost_anywhere(machine: Machine, farm: Farm, output_path: str) -> None:
    attempt = machine.render(f"echo done > '{output_path}/f.txt'", output_path)
    assert farm.outputs(attempt) == {"f.txt": b"done\n"}, farm.log(attempt)


@pytest.mark.parametrize(
    "output_path", ["/", "//", "out", "/a/../b", "/usr/share/x", "/proc/1", "/etc", "/sys"]
)
def test_an_impossible_output_path_fails_with_a_reason(
    machine: Machine, farm: Farm, output_path: str
) -> None:
    attempt = machine.render("true", output_path)
    assert attempt.finish is not None
    assert (attempt.finish["outcome"], attempt.finish["exit_code"]) == ("failed", None)
    assert "path" in attempt.finish["reason"]


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["/vol/a", "/vol/a"], "two different inputs are called /vol/a"),
        (["/vol/a", "/vol/a/b"], "file"),
        (["/out"], "/out"),
        (["relative"], "not absolute"),
        (["/vol/../../etc/shadow"], "not absolute"),
        (["/proc/self/x"], "/proc"),
        (["/.baton/work/x"], "/.baton"),
    ],
)
def test_inputs_which_cannot_be_laid_out_fail_with_a_reason(
    machine: Machine, farm: Farm, paths: list[str], reason: str
) -> None:
    attempt = farm.add_attempt("true")
    for number, path in enumerate(paths):
        farm.add_input(attempt, path, f"content {number}".encode())
    report = machine.finish(attempt)
    assert report["outcome"] == "failed"
    assert reason in report["reason"]


def test_a_failing_command_stores_its_log_but_no_outputs(machine: Machine, farm: Farm) -> None:
    attempt = machine.render("echo half > /out/frame.txt; echo 'no licence' >&2; exit 3")
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "failed"
    assert (attempt.finish["exit_code"], attempt.finish["reason"]) == (3, "exit code 3")
    assert attempt.finish["outputs"] == []
    assert farm.outputs(attempt) == {}
    assert "no licence\n" in farm.log(attempt)


def test_a_crash_is_reported_with_its_signal(machine: Machine) -> None:
    attempt = machine.render("kill -SEGV $$")
    assert attempt.finish is not None
    assert (attempt.finish["exit_code"], attempt.finish["reason"]) == (139, "killed by signal 11")


@pytest.mark.parametrize("path", [None, "", "/vol/bin"])
def test_programs_are_found_whatever_path_the_artist_has(
    machine: Machine, farm: Farm, path: str | None
) -> None:
    environment = {} if path is None else {"PATH": path}
    attempt = farm.add_attempt("ls /bin/sh && mine", environment=environment)
    farm.add_input(attempt, "/vol/bin/mine", b"#!/bin/sh\necho mine\n", is_executable=True)
    report = machine.finish(attempt)
    assert report["outcome"] == ("success" if path else "failed")
    assert "/bin/sh\n" in farm.log(attempt)


def test_links_among_the_outputs_are_not_followed(machine: Machine, farm: Farm) -> None:
    attempt = machine.render(
        "echo real > /out/real.txt; ln -s real.txt /out/link.txt; ln -s /etc /out/folder;"
        " ln -s /etc/shadow /out/shadow; mkfifo /out/pipe"
    )
    assert farm.outputs(attempt) == {"real.txt": b"real\n"}


def test_hundreds_of_outputs_are_stored(machine: Machine, farm: Farm) -> None:
    attempt = machine.render("for i in $(seq 1 620); do echo $i > /out/frame.$i.txt; done")
    assert attempt.finish is not None
    assert len(attempt.finish["outputs"]) == len(farm.outputs(attempt)) == 620
    assert farm.outputs(attempt)["frame.620.txt"] == b"620\n"


def test_a_spec_that_cannot_be_read_fails_the_attempt(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("true")
    attempt.inputs.append({"path": "/a", "md5": "short", "size": 1, "executable": False})
    assert "spec" in machine.finish(attempt)["reason"]


def test_software_of_the_image_is_at_its_own_place(machine: Machine, farm: Farm) -> None:
    tool = machine.folder / "opt" / "tool-1.0" / "hello"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho tool\n")
    tool.chmod(0o755)
    attempt = farm.add_attempt(f"{tool} && ! touch {tool.parent}/x && ls {tool.parents[1]}")
    software = f"/no/such/folder:{tool.parent}"
    report = machine.finish(attempt, {"BATON_SOFTWARE_PATHS": software})
    assert report["outcome"] == "success", farm.log(attempt)
    assert "tool\n" in farm.log(attempt)


def test_the_diary_of_the_machine_is_json_and_has_no_secret(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("true")
    run = machine.start(attempt)
    assert run.wait() == 0
    events = [json.loads(line)["event"] for line in run.diary.splitlines()]
    assert (events[0], events[-1]) == ("claimed", "finished")
    assert attempt.token not in run.diary


def test_the_agent_needs_nothing_of_the_other_rooms() -> None:
    for path in (Path(__file__).parents[2] / "agent").glob("*.py"):
        for room in ("shared", "functions", "emulators", "requests", "pyseccomp"):
            assert f"import {room}" not in path.read_text()
            assert f"from {room}" not in path.read_text()
