"""The `hosting` part of firebase.json: which path is a file, which goes to a function. Nothing here knows of HTTP."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from emulators.gateway.globs import InvalidGlob, glob_regex

REDIRECTING = ("redirects", "cleanUrls", "trailingSlash", "i18n")


class InvalidHosting(Exception):
    """firebase.json has a wrong or forbidden field; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """One rewrite: to a function (`service`) or to a file of the public folder (`destination`)."""

    pattern: re.Pattern[str]
    service: str | None = None
    destination: str | None = None


@dataclass(frozen=True, kw_only=True)
class Headers:
    """Headers for the files under a pattern."""

    pattern: re.Pattern[str]
    values: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Hosting:
    """What firebase.json says about one site."""

    public: Path
    ignored: tuple[re.Pattern[str], ...]
    headers: tuple[Headers, ...]
    rewrites: tuple[Rewrite, ...]

    def file_at(self, path: str) -> Path | None:
        """Return the file of the public folder at a decoded URL path, never one outside of it."""
        name = path.removeprefix("/") + ("index.html" if path.endswith("/") else "")
        parts = name.split("/")
        if ".." in parts or "." in parts or "" in parts or "\\" in name or "\0" in name:
            return None
        file = self.public / name
        if not os.path.isfile(file) or any(pattern.match("/" + name) for pattern in self.ignored):
            return None
        return file if file.resolve().is_relative_to(self.public.resolve()) else None

    def rewrite_of(self, path: str) -> Rewrite | None:
        """Return the first rewrite that matches a decoded URL path."""
        return next((rewrite for rewrite in self.rewrites if rewrite.pattern.match(path)), None)

    def headers_of(self, path: str) -> dict[str, str]:
        """Return the headers for a file at `path`; where patterns overlap, the last one wins."""
        return {
            key: value
            for headers in self.headers
            if headers.pattern.match(path)
            for key, value in headers.values.items()
        }


def decoded_path(target: str) -> str:
    """Return the path of a request target as globs see it: without the query, percent signs decoded.

    Old clients whose base URL ends with a slash ask for //api/...
    """
    path = unquote(target.partition("?")[0])
    return "/" + path.lstrip("/") if path.startswith("/") else path


def load_hosting(path: Path) -> Hosting:
    """Read firebase.json. Raises: InvalidHosting."""
    try:
        hosting = json.loads(path.read_text())["hosting"]
        return Hosting(
            public=path.parent / hosting["public"],
            ignored=tuple(_pattern({"source": _rooted(g)}) for g in hosting.get("ignore", [])),
            headers=tuple(
                Headers(
                    pattern=_pattern(row), values={h["key"]: h["value"] for h in row["headers"]}
                )
                for row in hosting.get("headers", [])
            ),
            rewrites=tuple(_rewrite(row) for row in _rewrites(hosting)),
        )
    except OSError as exc:
        raise InvalidHosting(f"{path}: {exc.strerror}") from exc
    except (ValueError, TypeError) as exc:
        raise InvalidHosting(f"{path}: {exc}") from exc
    except KeyError as exc:
        raise InvalidHosting(f"{path}: hosting: {exc} is missing") from exc


def _rewrites(hosting: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rewrites, unless Hosting is asked to redirect: the clients turn a redirected POST into a GET."""
    for name in REDIRECTING:
        if name in hosting:
            raise ValueError(
                f"hosting.{name} makes Hosting redirect, which the clients do not survive"
            )
    rewrites: list[dict[str, Any]] = hosting.get("rewrites", [])
    return rewrites


def _rewrite(row: dict[str, Any]) -> Rewrite:
    known = {"source", "regex", "run", "destination"}
    if unknown := set(row) - known:
        raise ValueError(f"hosting.rewrites: {sorted(unknown)} of {row} are not known here")
    service = row["run"]["serviceId"] if "run" in row else None
    destination = row.get("destination")
    if (service is None) == (destination is None):
        raise ValueError(f"hosting.rewrites: {row} needs either run or destination")
    return Rewrite(pattern=_pattern(row), service=service, destination=destination)


def _pattern(row: Mapping[str, Any]) -> re.Pattern[str]:
    """Return the pattern of a row, from its `source` (a glob) or `regex`."""
    try:
        return glob_regex(row["source"]) if "source" in row else re.compile(row["regex"])
    except (InvalidGlob, re.error) as exc:
        raise ValueError(f"hosting: {exc}") from exc


def _rooted(glob: str) -> str:
    return glob if glob.startswith(("/", "*")) else f"/{glob}"
