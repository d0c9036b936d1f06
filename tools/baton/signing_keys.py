"""`baton signing-keys`: the keys that sign tokens, changed in two steps without signing anyone out."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

from shared import wiring
from shared.errors import InvalidRequest
from shared.tokens import with_next_key, with_next_key_signing
from tools.baton.answers import Answer, answers
from tools.baton.private_file import private_file

ring_argument = click.argument("ring", type=click.File())
output_option = click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Write the new ring there, readable for its owner only; it is never printed.",
)


@click.group("signing-keys")
def signing_keys() -> None:
    """The keys of BATON_SIGNING_KEYS, which sign every token.

    RING is a file that holds the variable's value as it is now, - for stdin. Store what is written as its new value.
    """


@signing_keys.command("add")
@ring_argument
@output_option
@answers
def add_signing_key(ring: TextIO, output: Path) -> Answer:
    """Add a fresh key to RING that verifies and does not sign yet; keys that nothing needs any more go.

    Deploy the new ring to every function before `switch`: one that does not know a key refuses what it signed.
    """

    def change(said: str) -> str:
        return with_next_key(said, secret=secrets.token_urlsafe(48), now=wiring.now())

    return _write(change, ring, output)


@signing_keys.command("switch")
@ring_argument
@output_option
@answers
def switch_signing_key(ring: TextIO, output: Path) -> Answer:
    """Have the newest key of RING sign from now on; the others go on verifying what they signed."""
    return _write(with_next_key_signing, ring, output)


def _write(change: Callable[[str], str], ring: TextIO, output: Path) -> Answer:
    said = ring.read().strip()
    with private_file(output) as file:
        try:
            changed = change(said)
        except ValueError as error:
            raise InvalidRequest({"ring": str(error)}) from error
        assert file is not None
        file.write(changed)
    ids = [entry.partition(":")[0] for entry in changed.split(",")]
    return {"path": output, "signing_key_id": ids[0], "verifying_key_ids": ids[1:]}
