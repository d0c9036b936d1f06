"""The local stack's supervisor, on real emulators and real processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from deploy.functions import load_functions
from emulators.ports import BLOCK_SIZE, find_free_block
from emulators.up import Stack, StackError, leftovers, stack
from emulators.up.client import start, stop
from emulators.up.state import StateDir
from tests.emulators.programs import DEADLINE_S, ROOT
from tests.waiting import until


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack(only=["pubsub", "gateway", "ticker"]) as started:
        yield started


@pytest.fixture
def state() -> Iterator[StateDir]:
    """An empty state folder; not pytest's own, which others may not enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        made = StateDir(Path(folder) / "state")
        yield made
        stop(made)


def topics_and_targets(running: Stack) -> dict[str, dict[str, object]]:
    project = running.env["GOOGLE_CLOUD_PROJECT"]
    address = f"{running.url('pubsub')}/v1/projects/{project}/subscriptions?pageSize=1000"
    found = requests.get(address, timeout=DEADLINE_S).json()["subscriptions"]
    return {subscription["topic"].rpartition("/")[2]: subscription for subscription in found}


def test_every_topic_is_pushed_to_its_function_and_keeps_its_dead_letters(running: Stack) -> None:
    found = topics_and_targets(running)
    project, token = running.env["GOOGLE_CLOUD_PROJECT"], running.env["BATON_PUSH_TOKEN"]
    base = int(running.env["BATON_PORT_BASE"])
    for index, function in enumerate(load_functions()):
        for topic in function.topics:
            subscription = found.pop(topic.name)
            assert subscription["pushConfig"] == {
                "pushEndpoint": f"http://127.0.0.1:{base + 1 + index}/projects/{project}/topics/{topic.name}"
                f"?token={token}"
            }
            assert subscription["ackDeadlineSeconds"] == topic.ack_deadline_s
            assert subscription["deadLetterPolicy"] == {
                "deadLetterTopic": f"projects/{project}/topics/{topic.name}-dead",
                "maxDeliveryAttempts": topic.max_attempts,
            }
            assert not found.pop(f"{topic.name}-dead")["pushConfig"]
    assert found == {}


@pytest.mark.parametrize("name", ["gateway", "ticker", "pubsub"])
def test_what_is_killed_is_started_again_as_it_was(running: Stack, name: str) -> None:
    topics = topics_and_targets(running)
    before = running.pid(name)
    assert running.restart(name) != before
    assert topics_and_targets(running) == topics
    assert requests.get(f"{running.url('gateway')}/__/firebase/init.json", timeout=DEADLINE_S).ok


def test_the_environment_names_every_part_and_no_mark_of_the_stack(running: Stack) -> None:
    env = running.env
    base = int(env["BATON_PORT_BASE"])
    assert env["CONDUCTOR_URL"] == env["CONDUCTOR_API_URL"] == f"http://127.0.0.1:{base}"
    assert env["FIRESTORE_EMULATOR_HOST"] == f"127.0.0.1:{base + 5}"
    assert env["NOMAD_ADDR"] == f"http://127.0.0.1:{base + 10}"
    assert Path(env["BATON_STORAGE_CREDENTIALS"]).is_file()
    assert "CONDUCTOR_API_KEY" not in env
    assert "BATON_STACK" not in env


def test_a_component_that_is_not_there_is_named(running: Stack) -> None:
    with pytest.raises(StackError, match="no submit; it has pubsub, gateway, ticker"):
        running.pid("submit")
    with pytest.raises(StackError, match="no such component: pubsbu"), stack(only=["pubsbu"]):
        pass


def test_two_stacks_run_side_by_side_and_leave_nothing(running: Stack) -> None:
    with stack(only=["gateway"]) as other:
        pids = [other.pid("gateway"), other.record()["supervisor_pid"]]
        assert other.url("gateway") != running.url("gateway")
        folder = other.state_path
        assert [p.pid for p in leftovers.find(folder)] == pids[:1]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not folder.exists()
    assert psutil.pid_exists(running.pid("gateway"))


def test_orphans_of_a_component_end_with_the_stack() -> None:
    """An instance is nobody's child once its cloud was killed."""
    with stack(only=["ticker"]) as running:
        state_path = running.state_path
        env = os.environ | {"BATON_STACK": str(state_path)}
        orphan = subprocess.Popen(["sleep", "1000"], env=env, start_new_session=True)
        until(lambda: orphan.pid in [p.pid for p in leftovers.find(state_path)])
    assert orphan.wait(DEADLINE_S) == -signal.SIGKILL


def test_what_a_killed_supervisor_left_is_ended_by_the_next_one(state: StateDir) -> None:
    base = find_free_block()
    first = start(state, base, only=["ticker"])
    project = Stack(state).env["GOOGLE_CLOUD_PROJECT"]
    orphan = subprocess.Popen(["sleep", "1000"], env=os.environ | {"BATON_STACK": str(state.path)})
    first.kill()
    first.wait()
    with pytest.raises(StackError, match="no stack runs"):
        Stack(state).record()
    second = start(state, base, only=["ticker"])
    assert orphan.wait(DEADLINE_S) == -signal.SIGKILL
    assert Stack(state).env["GOOGLE_CLOUD_PROJECT"] != project, "the emulators' data is gone too"
    assert stop(state)
    second.wait(DEADLINE_S)
    assert not stop(state)
    assert leftovers.find(state.path) == []


def test_a_stack_ends_with_the_process_that_it_is_tied_to(state: StateDir) -> None:
    """A test run that was killed must not leave emulators behind."""
    program = (
        "import sys, time; from pathlib import Path;"
        "from emulators.up.client import start; from emulators.up.state import StateDir;"
        f"start(StateDir(Path({str(state.path)!r})), {find_free_block()}, only=['ticker'], is_tied=True);"
        "print('up', flush=True); time.sleep(1000)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        ticker = Stack(state).pid("ticker")
        owner.kill()
    until(lambda: not state.is_locked())
    assert not psutil.pid_exists(ticker)


def test_a_port_in_use_is_named_and_nothing_is_left() -> None:
    base = find_free_block()
    with (
        socket.create_server(("127.0.0.1", base)),
        pytest.raises(StackError, match=rf"port {base} \(gateway\) is in use: set BATON_PORT_BASE"),
        stack(base_port=base, only=["gateway"]),
    ):
        pass
    assert not list(Path("/var/tmp").glob(f"baton-{base}"))


def test_a_component_that_does_not_start_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = tmp_path / "broken.jar"
    jar.write_text("not a jar")
    monkeypatch.setenv("PUBSUB_EMULATOR_JAR", str(jar))
    with (
        pytest.raises(StackError, match=r"pubsub does not start \(exit code 1\)(.|\n)*broken\.jar"),
        stack(only=["pubsub"]),
    ):
        pass


def test_an_emulator_that_is_nowhere_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_JAR", "/nowhere/firestore.jar")
    with pytest.raises(StackError, match="FIRESTORE_EMULATOR_JAR names"), stack(only=["firestore"]):
        pass


def test_secrets_are_kept_between_runs_and_from_other_users(state: StateDir) -> None:
    state.prepare()
    token, signer = state.secret("push-token"), state.storage_credentials.read_text()
    assert len(token) >= 32
    again = StateDir(state.path)
    again.prepare()
    assert (again.secret("push-token"), again.storage_credentials.read_text()) == (token, signer)
    assert state.path.stat().st_mode & 0o777 == 0o755, "sandboxed renders pass through"
    assert state.private.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in state.private.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_the_state_folder_of_another_user_is_refused_in_words(state: StateDir) -> None:
    state.prepare()
    state.private.chmod(0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        with pytest.raises(StackError, match="belongs to another user: set BATON_PORT_BASE"):
            state.is_locked()
    finally:
        os.seteuid(before)
        state.private.chmod(0o700)


class CommandLine:
    """`python -m emulators.up` with a block of ports and a state folder of its own."""

    def __init__(self, state: StateDir) -> None:
        base = str(find_free_block())
        self.env = os.environ | {"BATON_PORT_BASE": base, "BATON_STATE_DIR": str(state.path)}

    def popen(
        self, *arguments: str, program: tuple[str, ...] = ("-m", "emulators.up")
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: str, program: tuple[str, ...] = ("-m", "emulators.up")
    ) -> tuple[int, str, str]:
        process = self.popen(*arguments, program=program)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def command(state: StateDir) -> CommandLine:
    return CommandLine(state)


def test_up_status_env_down_tell_one_story(command: CommandLine, state: StateDir) -> None:
    assert command.run("env")[0] == 1
    code, out, _ = command.run("up", "--only", "gateway")
    assert (code, "Dashboard and API  http://127.0.0.1:" in out) == (0, True)
    assert "runs already" in command.run("up")[1]
    code, out, _ = command.run("status")
    assert (code, out.split()[:2]) == (0, ["gateway", "healthy"])
    state.api_key.write_text('{"client_id": "it\'s"}')
    lines = command.run("env")[1]
    shell = f"set -e\n{lines}\nprintf '%s' \"$CONDUCTOR_API_KEY\""
    assert subprocess.check_output(["bash", "-c", shell]) == state.api_key.read_bytes()
    assert command.run("down")[:2] == (0, "The stack is down.\n")
    assert command.run("down")[:2] == (0, "No stack was running.\n")
    assert command.run("status")[0] == 1
    assert leftovers.find(state.path) == []


def test_the_stack_of_another_copy_is_left_alone_and_named(
    command: CommandLine, state: StateDir
) -> None:
    assert command.run("up", "--only", "gateway")[0] == 0
    gateway = Stack(state).pid("gateway")
    state.write_record(Stack(state).record() | {"root": "/home/ines/another-baton"})
    for words in (["up"], ["down"], ["env"], ["status"], ["run", "touch", str(state.path / "ran")]):
        code, _, err = command.run(*words)
        assert (code, "that of another copy, /home/ines/another-baton" in err) == (1, True), words
        assert "export BATON_PORT_BASE=" in err
    assert psutil.pid_exists(gateway)
    assert not (state.path / "ran").exists()
    state.write_record(state.read_record() | {"root": str(ROOT)})  # type: ignore[operator]
    assert command.run("down")[0] == 0


def test_a_stack_that_somebody_else_is_starting_is_waited_for(
    command: CommandLine, state: StateDir
) -> None:
    first = command.popen("up", "--only", "pubsub")
    until(state.is_locked)
    code, out, err = command.run(
        "run", "bash", "-c", 'echo > "/dev/tcp/${PUBSUB_EMULATOR_HOST/://}"'
    )
    assert (code, out) == (0, ""), err
    assert first.wait(DEADLINE_S) == 0
    first.communicate()


@pytest.mark.parametrize(
    ("program", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $PPID; exec sleep 1000", 143)]
)  # fmt: skip
def test_run_ends_the_stack_and_passes_the_exit_code_on(
    command: CommandLine, state: StateDir, program: str, code: int
) -> None:
    script = f'echo "$CONDUCTOR_URL"; {program}'
    result = command.run("run", "--only", "ticker", "bash", "-c", script)
    assert result[:2] == (code, f"http://127.0.0.1:{command.env['BATON_PORT_BASE']}\n"), result[2]
    assert not state.is_locked()
    assert leftovers.find(state.path) == []


def test_a_signal_that_comes_while_the_command_begins_reaches_it(
    command: CommandLine, state: StateDir
) -> None:
    impatient = """
import os, signal, subprocess
from emulators.up.__main__ import main

class Popen(subprocess.Popen):
    def __init__(self, command, *args, **kwargs):
        super().__init__(command, *args, **kwargs)
        if command[0] == "sleep":
            os.kill(os.getpid(), signal.SIGTERM)

subprocess.Popen = Popen
main()
"""
    result = command.run("run", "--only", "ticker", "sleep", "1000", program=("-c", impatient))
    assert result[:2] == (143, ""), result[2]
    assert not state.is_locked()
    assert leftovers.find(state.path) == []


def test_run_uses_the_stack_that_runs_and_leaves_it_running(
    command: CommandLine, state: StateDir
) -> None:
    command.run("up", "--only", "ticker")
    before = Stack(state).pid("ticker")
    assert command.run("run", "true")[0] == 0
    assert Stack(state).pid("ticker") == before


def test_a_program_that_is_not_there_is_named(command: CommandLine) -> None:
    code, _, err = command.run("run", "--only", "ticker", "no-such-program")
    assert (code, "no-such-program: No such file" in err) == (127, True)


def test_a_named_base_is_used_and_a_second_stack_takes_the_next_free_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = find_free_block()
    with contextlib.ExitStack() as held:
        for port in range(base, base + BLOCK_SIZE):
            held.enter_context(socket.create_server(("127.0.0.1", port)))
    monkeypatch.setenv("BATON_PORT_BASE", str(base))
    with stack(only=["gateway"]) as first, stack(only=["gateway"]) as second:
        bases = [int(each.env["BATON_PORT_BASE"]) for each in (first, second)]
    assert bases[0] == base
    assert bases[1] > base
