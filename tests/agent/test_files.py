"""Inputs on their way to the machine, outputs on their way from it."""

import os
import signal

from tests.agent.conftest import Machine
from tests.agent.server import Farm
from tests.waiting import until


def test_two_agents_at_once_fetch_an_input_once(machine: Machine, farm: Farm) -> None:
    content = os.urandom(5 << 20)
    attempts = [farm.add_attempt("md5sum < /vol/tex.exr > /out/sum.txt") for _ in range(3)]
    for attempt in attempts:
        md5 = farm.add_input(attempt, "/vol/tex.exr", content)
    runs = [machine.start(attempt) for attempt in attempts]
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert farm.downloads[f"blobs/{md5}"] == 1
    assert len({farm.outputs(attempt)["sum.txt"] for attempt in attempts}) == 1


def test_an_input_that_is_there_is_not_asked_for_again(machine: Machine, farm: Farm) -> None:
    for _ in range(2):
        attempt = farm.add_attempt("true")
        farm.add_input(attempt, "/vol/a.txt", b"a")
        farm.add_input(attempt, "/vol/copy of a.txt", b"a")
        machine.finish(attempt)
    assert farm.calls["inputs"] == 1
    assert farm.downloads[f"blobs/{attempt.inputs[0]['md5']}"] == 1


def test_accounts_do_not_share_a_cache(machine: Machine, farm: Farm) -> None:
    for account in ("one", "another"):
        attempt = farm.add_attempt("true")
        attempt.attempt_id = f"{account}-00001-000-1"
        md5 = farm.add_input(attempt, "/vol/a.txt", b"a")
        machine.finish(attempt)
    assert farm.downloads[f"blobs/{md5}"] == 2


def test_a_damaged_download_is_refused_and_tried_again(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("cp /vol/a.txt /out/")
    md5 = farm.add_input(attempt, "/vol/a.txt", b"right")
    farm.damage(f"blobs/{md5}", b"wrong", b"righ", b"right and more")
    assert machine.finish(attempt)["outcome"] == "success", farm.log(attempt)
    assert farm.outputs(attempt) == {"a.txt": b"right"}


def test_an_input_that_stays_damaged_fails_the_attempt(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("true")
    md5 = farm.add_input(attempt, "/vol/a.txt", b"right")
    farm.blobs[f"blobs/{md5}"] = b"wrong"
    report = machine.finish(attempt)
    assert report["outcome"] == "failed"
    assert "/vol/a.txt" in report["reason"]
    assert [path for path in machine.cache.rglob("*") if path.is_file()] == []


def test_an_input_that_the_store_lacks_fails_the_attempt(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("true")
    farm.add_input(attempt, "/vol/a.txt", b"a")
    farm.blobs.clear()
    report = machine.finish(attempt)
    assert report["outcome"] == "failed"
    assert "/vol/a.txt" in report["reason"]


def test_urls_that_have_run_out_are_renewed(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("cp /vol/a.txt /out/")
    farm.add_input(attempt, "/vol/a.txt", b"a")
    farm.expire_after("claim", "inputs", "outputs")
    assert machine.finish(attempt)["outcome"] == "success", farm.log(attempt)
    assert farm.outputs(attempt) == {"a.txt": b"a"}
    assert attempt.attempt_id in farm.log(attempt)


def test_a_killed_download_leaves_nothing_that_counts(machine: Machine, farm: Farm) -> None:
    content = os.urandom(8 << 20)
    attempts = [farm.add_attempt("cp /vol/tex.exr /out/") for _ in range(2)]
    for attempt in attempts:
        md5 = farm.add_input(attempt, "/vol/tex.exr", content)
    farm.hold_half(f"blobs/{md5}")
    run = machine.start(attempts[0])
    until(lambda: any(p.stat().st_size for p in machine.cache.rglob("*.part")))
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    farm.release()
    assert not [p for p in machine.cache.rglob("*") if p.is_file() and p.suffix != ".part"]
    assert machine.finish(attempts[1])["outcome"] == "success", farm.log(attempts[1])
    assert farm.outputs(attempts[1]) == {"tex.exr": content}
    assert not list(machine.cache.rglob("*.part"))


def test_an_output_that_cannot_be_stored_fails_the_attempt(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("echo x > /out/x.txt")
    farm.fail("PUT", *[403] * 5)
    report = machine.finish(attempt)
    assert report["outcome"] == "failed"
    assert "x.txt" in report["reason"]
    assert report["outputs"] == []


def test_an_attempt_succeeds_without_its_log(machine: Machine, farm: Farm) -> None:
    attempt = farm.add_attempt("true")
    farm.fail("PUT", 403, 403, 403)
    assert machine.finish(attempt)["outcome"] == "success"
    assert "success" in farm.log(attempt)


def test_an_output_with_a_name_that_cannot_be_told_fails_the_attempt(
    machine: Machine, farm: Farm
) -> None:
    attempt = machine.render("touch \"$(printf '/out/\\377.txt')\"")
    assert attempt.finish is not None
    assert attempt.finish["outcome"] == "failed"
    assert "UTF-8" in attempt.finish["reason"]


def test_names_of_outputs_may_have_any_character(machine: Machine, farm: Farm) -> None:
    attempt = machine.render("mkdir '/out/a b' && echo 1 > '/out/a b/ü%20#?&+.txt'")
    assert farm.outputs(attempt) == {"a b/ü%20#?&+.txt": b"1\n"}
