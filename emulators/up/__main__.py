"""`python -m emulators.up {up,down,env,status,run}`: the local stack from the command line."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click

from emulators.ports import url
from emulators.up.client import AlreadyRunning, Progress, Stack, start, stop
from emulators.up.state import StackError, StateDir, default_state_path, port_base_from_env

DOCUMENTED = ("GOOGLE_CLOUD_PROJECT", "FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST") + (
    "FIREBASE_AUTH_EMULATOR_HOST",
    "STORAGE_EMULATOR_HOST",
    "BATON_BUCKET",
    "BATON_COMPUTE_ENDPOINT",
    "NOMAD_ADDR",
    "BATON_STATE_DIR",
)

boot_option = click.option(
    "--boot-s", type=float, default=3.0, show_default=True, help="How long an instance boots."
)
only_option = click.option(
    "--only", multiple=True, metavar="NAME", help="Start only this component; repeatable."
)


@click.group()
def main() -> None:
    """The whole of Baton on this machine, on the 16 ports from BATON_PORT_BASE (8080) on."""


def _here() -> tuple[StateDir, int]:
    port_base = port_base_from_env()
    return StateDir(default_state_path(port_base)), port_base


@contextmanager
def _plainly() -> Iterator[None]:
    """Show what a user can mend as one message, not as a traceback."""
    try:
        yield
    except StackError as exc:
        raise click.ClickException(str(exc)) from exc


@main.command()
@boot_option
@only_option
def up(boot_s: float, only: tuple[str, ...]) -> None:
    """Start the stack and say where everything is."""
    with _plainly():
        state, port_base = _here()
        if not _reach_or_start(state, port_base, only=only, boot_s=boot_s, progress=click.echo):
            click.echo("The stack runs already.")
        _show(Stack(state))


def _reach_or_start(
    state: StateDir, port_base: int, *, progress: Progress, **how: Any
) -> "subprocess.Popen[bytes] | None":
    """Wait until the stack is ready, started by somebody or by us. Returns its supervisor where it is ours."""
    if not state.is_locked():
        with suppress(AlreadyRunning):  # somebody else was quicker
            progress(f"Starting the stack (its logs: {state.logs})")
            return start(state, port_base, progress=progress, **how)
    Stack(state).wait_ready()
    return None


def _show(stack: Stack) -> None:
    click.echo(f"Dashboard and API  {stack.env['CONDUCTOR_URL']}")
    click.echo(f"Project            {stack.env['GOOGLE_CLOUD_PROJECT']}")
    click.echo(f"State and logs     {stack.state_path}")
    click.echo("`make env` prints what a Conductor client needs; `make down` ends the stack.")


@main.command()
def down() -> None:
    """End the stack, its instances included."""
    with _plainly():
        state, _ = _here()
        click.echo("The stack is down." if stop(state) else "No stack was running.")


@main.command()
def env() -> None:
    """Print the lines that point a shell and its Conductor clients at the stack."""
    with _plainly():
        state, _ = _here()
        variables = Stack(state).env
    # the state folder only where it is not the usual one: `baton` finds the usual one by itself
    elsewhere = ("BATON_STATE_DIR",) if "BATON_STATE_DIR" in os.environ else ()
    for name in ("CONDUCTOR_URL", "CONDUCTOR_API_URL", "CONDUCTOR_API_KEY", *elsewhere):
        if name in variables:
            click.echo(f"export {name}={shlex.quote(variables[name])}")
    if "CONDUCTOR_API_KEY" not in variables:
        click.echo(f"# no API key yet: {state.api_key} is missing")
    click.echo("# for developers:")
    for name in DOCUMENTED:
        click.echo(f"# export {name}={shlex.quote(variables[name])}")


@main.command()
def status() -> None:
    """Show each component; the exit code is 0 when all are healthy."""
    with _plainly():
        state, _ = _here()
        components = Stack(state).record()["components"]
    for name, component in components.items():
        where = url(component["port"]) if component["port"] else "-"
        restarts = f"{component['restarts']} restarts"
        click.echo(
            f"{name:<10} {component['status']:<10} {component['pid'] or '-':>8}  {where:<24} {restarts}"
        )
    sys.exit(any(component["status"] != "healthy" for component in components.values()))


@main.command(context_settings={"ignore_unknown_options": True})
@boot_option
@only_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(boot_s: float, only: tuple[str, ...], command: tuple[str, ...]) -> None:
    """Run COMMAND with the stack up, and end what was started for it. Returns the command's exit code."""
    with _plainly():
        state, port_base = _here()
        supervisor = _reach_or_start(
            state, port_base, only=only, boot_s=boot_s, is_tied=True, progress=_to_stderr
        )
        try:
            code = _run(command, Stack(state))
        finally:
            if supervisor:
                stop(state)
                supervisor.wait()
    sys.exit(code)


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)


def _run(command: tuple[str, ...], stack: Stack) -> int:
    """Run a command with the stack's environment, handing signals on to it. Returns its exit code as a shell does."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def hand_on(number: int, _: FrameType | None) -> None:
        # Ctrl-C reaches the command from the terminal itself
        if number == signal.SIGINT and sys.stdin.isatty():
            return
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    # before the command begins: one that came in between would end us and leave the command behind
    before = {n: signal.signal(n, hand_on) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        child = subprocess.Popen(command, env=os.environ | stack.env)
        for number in early:
            child.send_signal(number)
        code = child.wait()
    except OSError as exc:
        click.echo(f"{command[0]}: {exc.strerror}", err=True)
        return 127
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    main()
