"""Firebase Hosting's globs as regular expressions. Nothing here knows of HTTP.

Source: firebase.google.com/docs/hosting/full-config#glob_pattern_matching, 2026-11-20.
"""

import re

# what opens a group: what closes it, what separates its choices
GROUPS = {"{": ("}", ","), "@(": (")", "|")}


class InvalidGlob(ValueError):
    """The glob uses something that is not in the grammar below."""


def glob_regex(glob: str) -> re.Pattern[str]:
    """Compile a glob: `*`, `**`, `?`, `[abc]`, `{a,b}`, `@(a|b)` and `\\` before a plain character.

    `/a/**` matches `/a/` and all below, not `/a`: that is `/a{,/**}`. A whole segment `**` may be empty.
    Raises: InvalidGlob.
    """
    if not glob.startswith(("/", "*")):
        raise InvalidGlob(f"{glob!r}: a glob starts with / or *")
    source, position = "", 0
    open_groups: list[tuple[str, str]] = []
    while position < len(glob):
        token = _token(glob, position)
        position += len(token)
        closer, separator = open_groups[-1] if open_groups else ("", "")
        if token in GROUPS:
            open_groups.append(GROUPS[token])
            source += "(?:"
        elif token == closer:
            open_groups.pop()
            source += ")"
        elif token == separator:
            source += "|"
        else:
            source += _leaf(glob, token)
    if open_groups:
        raise InvalidGlob(f"{glob!r}: {open_groups[-1][0]!r} is missing")
    return re.compile(source + r"\Z", re.DOTALL)


def _token(glob: str, position: int) -> str:
    """Return the longest token at `position`: `**/` as one, so that it may stand for nothing."""
    rest = glob[position:]
    starts_segment = position == 0 or glob[position - 1] == "/"
    if starts_segment and rest.startswith("**/"):
        return "**/"
    for token in ("**", "@("):
        if rest.startswith(token):
            return token
    if rest[0] == "[":
        end = rest.find("]", 2)
        if end < 0:
            raise InvalidGlob(f"{glob!r}: ']' is missing")
        return rest[: end + 1]
    if rest[0] == "\\" and len(rest) > 1:
        return rest[:2]
    return rest[0]


def _leaf(glob: str, token: str) -> str:
    """Return the expression of a token that opens and closes no group."""
    if token == "**/":
        return "(?:.*/)?"
    if token == "**":
        return ".*"
    if token == "*":
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if token[0] == "[":
        inside = token[1:-1].replace("\\", r"\\")
        return f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]"
    if token in "(){}!+":
        raise InvalidGlob(f"{glob!r}: {token!r} has no meaning here")
    return re.escape(token[-1])
