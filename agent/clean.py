"""Make a line of a program's output fit to be shown: no control sequences, no secrets, no end. Pure."""

import re

LINE_CHARACTERS = 4000

_SEQUENCES = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"  # colours, cursor
    "|\x1b[\\]PX^_].*?(?:\x07|\x1b\\\\|$)"  # titles, links, strings for the terminal
    "|\x1b[ -/]*[0-~]"
    "|\x9b[0-?]*[ -/]*[@-~]"
)
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SECRETS = re.compile(
    r"(?i:bearer)\s+[\w.~+/=-]+"
    r"|\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"  # JSON web tokens
    r"|(?i:(?<=[?&]x-goog-signature=)|(?<=[?&]x-amz-signature=)|(?<=x-amz-security-token=))[\w%.~+/=-]+"
)
_HIDDEN = "[hidden]"


def clean_line(line: bytes, secret: str) -> str:
    """Return a printable line; `secret` never appears in it."""
    text = line.decode("utf-8", "replace")
    text = _CONTROLS.sub("", _SEQUENCES.sub("", text))
    return shorten(hide(text, secret), LINE_CHARACTERS)


def hide(text: str, secret: str) -> str:
    """Return `text` without `secret` and whatever looks like one."""
    if secret:
        text = text.replace(secret, _HIDDEN)
    return _SECRETS.sub(_HIDDEN, text)


def shorten(text: str, limit: int) -> str:
    """Return at most about `limit` characters, saying how many are gone."""
    return (
        text if len(text) <= limit else f"{text[:limit]} ... {len(text) - limit} characters dropped"
    )
