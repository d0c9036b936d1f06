"""What is true of every command."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.tools.commands import run
from tools.baton import baton

PAGE = Path(__file__).parents[2] / "docs" / "administration.md"

Path_ = tuple[str, ...]


def commands_of(group: click.Group, path: Path_ = ()) -> Iterator[tuple[Path_, click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands_of(command, (*path, name))


ALL = list(commands_of(baton))
LEAVES = [(path, each) for path, each in ALL if not isinstance(each, click.Group)]
OPTIONS = [
    pytest.param(path, each, id=f"{'-'.join(path)}{each.opts[0]}")
    for path, command in LEAVES
    for each in command.params
    if isinstance(each, click.Option)
]


@pytest.mark.parametrize(("path", "command"), ALL, ids=["-".join(path) for path, _ in ALL])
def test_a_command_says_what_it_does(path: Path_, command: click.Command) -> None:
    assert command.help
    assert command.help.splitlines()[0].endswith((".", ":", "?")), command.help
    result = run(*path, "--help")
    assert (result.exit_code, "Usage: " in result.output) == (0, True)


@pytest.mark.parametrize(("path", "option"), OPTIONS)
def test_an_option_says_what_it_is_for(path: Path_, option: click.Option) -> None:
    assert option.help


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=["-".join(path) for path, _ in LEAVES])
def test_a_command_answers_in_json_and_stands_in_the_manual(
    path: Path_, command: click.Command
) -> None:
    assert "--json" in {name for each in command.params for name in each.opts}
    assert f"baton {' '.join(path)}" in PAGE.read_text()


def test_the_manual_names_no_command_that_does_not_exist() -> None:
    named = set(re.findall(r"^baton((?: [a-z][a-z-]*)+)", PAGE.read_text(), re.MULTILINE))
    known = {" ".join(path) for path, _ in ALL}
    assert {name.strip() for name in named if name.strip() not in known} == set()


def test_a_command_that_does_not_exist_is_wrong_usage() -> None:
    assert run("account", "explode").exit_code == 2
