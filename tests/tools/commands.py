"""The `baton` command, called as an administrator calls it."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from tools.baton import baton


def run(*arguments: object, says: str | None = None) -> Result:
    """Run a command; `says` is what is typed."""
    return CliRunner().invoke(baton, [str(each) for each in arguments], input=says)


def told(*arguments: object) -> dict[str, Any]:
    """Return what a command answers; it must not be refused."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(*arguments: object, code: int = 1) -> str:
    """Return what a command says when it is refused; it must be."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    return result.stderr


def password_file(folder: Path, password: str = "correct horse") -> Path:
    path = folder / "password"
    path.write_text(f"{password}\n")
    return path
