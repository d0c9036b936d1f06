"""NAME=VALUE on the command line."""

from collections.abc import Iterable

import click


def pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    """Return names and values; a value may hold further signs of equality. Raises: BadParameter naming the option."""
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=f"--{option}")
        found[name] = value
    return found
