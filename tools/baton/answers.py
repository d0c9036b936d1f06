"""What every command does with its answer: one JSON object, or lines and columns for people. Knows no service."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn

import click
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from shared.errors import BatonError, InvalidRequest
from tools.baton.target import WrongSettings, choose_target

Answer = Mapping[str, Any]
Command = Callable[..., Answer]

_WIDEST_CELL = 60


class Findings(Exception):
    """An answer that is bad news: it is told like any other, and the exit code is 1."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__("findings")


class Refused(click.ClickException):
    """A command that was understood and not carried out."""

    def __init__(self, error: Exception, as_json: bool) -> None:
        self._error = error
        self._as_json = as_json
        super().__init__(visible(str(error)))

    def show(self, file: Any = None) -> None:
        """Say why on stderr, as JSON for who asked for that."""
        if not self._as_json:
            super().show(file)
            return
        fields = self._error.fields if isinstance(self._error, InvalidRequest) else {}
        told = {"code": type(self._error).__name__, "message": str(self._error), "fields": fields}
        click.echo(json.dumps({"error": told}, default=str), err=True)


def answers(command: Command) -> Callable[..., None]:
    """Print what a command returns, or why it was refused."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @wraps(command)
    def run(as_json: bool, **arguments: Any) -> None:
        choose_target(bool(click.get_current_context().find_root().params.get("local")))
        try:
            tell(command(**arguments), as_json)
        except Findings as found:
            tell(found.answer, as_json)
            click.get_current_context().exit(1)
        except (BatonError, GoogleAPIError) as error:
            raise Refused(error, as_json) from error
        except GoogleAuthError as error:
            raise WrongSettings(f"Google's credentials: {error}") from error
        except RuntimeError as error:
            _raise_for_settings(error)

    return run


def _raise_for_settings(error: RuntimeError) -> NoReturn:
    """The wiring says which variable is missing; any other runtime error is a bug."""
    if "environment variable" in str(error):
        raise WrongSettings(
            f"{error} (--local is this machine's stack; docs/administration.md says what else is needed)"
        ) from error
    raise error


def destructive(question: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Ask before a command is carried out, unless `--yes`; `question` may name the command's arguments."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.option("--yes", is_flag=True, help="Do not ask.")
        @wraps(command)
        def run(yes: bool, **arguments: Any) -> None:
            words = {name: _words(value) for name, value in arguments.items()}
            if not yes:
                click.confirm(visible(question.format(**words)), abort=True, err=True)
            command(**arguments)

        return run

    return decorate


def _words(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def tell(answer: Answer, as_json: bool) -> None:
    """Print an answer: each list of records as a table, everything else as a line."""
    if as_json:
        click.echo(json.dumps(answer, default=_plain))
        return
    for name, value in answer.items():
        if not _is_list(value):
            click.echo(f"{_heading(name)}: {_shown(name, value)}")
    for name, value in answer.items():
        if _is_list(value):
            if len(answer) > 1:
                click.echo(f"\n{_heading(name)}:")
            _tell_list(name, value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _tell_list(name: str, items: Sequence[Any]) -> None:
    if not items:
        click.echo(f"no {_heading(name)}")
        return
    if not isinstance(items[0], Mapping):
        for item in items:
            click.echo(visible(str(item)))
        return
    columns = list(items[0])
    rows = [[_cell(_shown(column, item[column])) for column in columns] for item in items]
    table = [[_heading(column) for column in columns], *rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
    for row in table:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _heading(name: str) -> str:
    for unit in ("_micros", "_at"):
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def _cell(text: str) -> str:
    return text if len(text) <= _WIDEST_CELL else f"{text[: _WIDEST_CELL - 1]}…"


def _shown(name: str, value: Any) -> str:
    """Return a value as people read it; the unit in its name says how."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_micros"):
            return f"${value / 1_000_000:.4f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}Z"
        case Mapping():
            return (
                ", ".join(f"{key}={_shown(str(key), each)}" for key, each in value.items()) or "-"
            )
        case list() | tuple():
            return ", ".join(_shown(name, each) for each in value) or "-"
    return visible(str(value))


def visible(text: str) -> str:
    """Return text that can do nothing to a terminal: artists name their jobs as they like."""
    return "".join(
        each if each.isprintable() or each == "\t" else "\N{REPLACEMENT CHARACTER}" for each in text
    )
