"""How calls become answers: blocking reads, durable writes, pages, and Nomad's headers.

Source: https://developer.hashicorp.com/nomad/api-docs, read 2026-11.
"""

import random
import re
from collections.abc import Callable
from typing import Any

from emulators.engine.http import App, HttpError, Reply, Request, json_reply, text_reply
from emulators.nomad.errors import NomadError
from emulators.nomad.state import State, Wire

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}

Read = Callable[[Request], Any]


def duration_s(text: str) -> float:
    """Return a Go duration such as `1m30s` in seconds. Raises: NomadError 400."""
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise NomadError(400, "Invalid wait time")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


class Routes:
    """Routes of `app` over the tables."""

    def __init__(self, app: App, state: State) -> None:
        self._app = app
        self._state = state

    def read(
        self, path: str, topic: str, table: str, answer: Read, *, is_by_id: bool = False
    ) -> None:
        """Route a GET that may block until `topic` (its `{}` taken from the path) changes.

        Lists are sorted by age, or by id where `is_by_id`, and paged.
        """

        async def handle(request: Request) -> Reply:
            try:
                name = topic.format(*request.args.values())
                await self.block(request, name)
                value = answer(request)
                headers = self._headers(table)
                if isinstance(value, list):
                    value = _page(request, value, headers, is_by_id=is_by_id)
                return json_reply(value, headers=headers)
            except NomadError as exc:
                return text_reply(exc.message, exc.status, self._headers(table))

        self._app.route("GET", path, handle)

    async def block(self, request: Request, topic: str) -> None:
        """Return when `topic` is past the caller's index, or the caller's wait is over."""
        try:
            index = int(request.query.get("index") or 0)
        except ValueError as exc:
            raise NomadError(400, "Invalid index") from exc
        wait_s = duration_s(request.query["wait"]) if request.query.get("wait") else 300.0
        if index <= 0:
            return
        wait_s = min(wait_s, 300.0)
        wait_s += random.uniform(0, wait_s / 16)
        await self._state.topics.wait(topic, index, wait_s)

    def _headers(self, table: str) -> dict[str, str]:
        return {
            "X-Nomad-Index": str(max(self._state.topics.version(table), 1)),
            "X-Nomad-KnownLeader": "true",
            "X-Nomad-LastContact": "0",
        }

    def write(self, methods: str, path: str, change: Read) -> None:
        """Route a change; what it changed is durable before it is answered."""

        def handle(request: Request) -> Reply:
            try:
                value = change(request)
            except NomadError as exc:
                return text_reply(exc.message, exc.status)
            except (KeyError, TypeError, AttributeError) as exc:
                # Go's decoder refuses a body of the wrong shape; ours finds it while reading.
                raise HttpError(text_reply(f"malformed body: {exc!r}", 400)) from exc
            finally:
                self._state.flush()
            return json_reply(value, headers={"X-Nomad-Index": str(self._state.index)})

        for method in methods.split():
            self._app.route(method, path, handle)


def by_prefix(table: dict[str, Wire], request: Request) -> list[Wire]:
    """Return a table's objects by age. Raises: NomadError for a prefix that cannot be one of ids."""
    prefix = request.query.get("prefix", "")
    plain = prefix.replace("-", "")
    if len(plain) % 2 or re.fullmatch("[0-9a-f]*", plain) is None:
        raise NomadError(500, f"Invalid UUID: must be hexadecimal and of even length: {prefix!r}")
    if (request.query.get("namespace") or "default") not in ("default", "*"):
        return []
    if not prefix:
        return list(table.values())
    return [found for id_, found in table.items() if id_.startswith(prefix)]


def window(request: Request, ids: list[str]) -> list[str]:
    """Return what a page could show of sorted ids, and one more to name the next page by."""
    if not request.query.get("per_page"):
        return ids
    token = request.query.get("next_token", "")
    return [id_ for id_ in ids if id_ >= token][: _per_page(request) + 1]


def _per_page(request: Request) -> int:
    try:
        return int(request.query.get("per_page") or 0)
    except ValueError as exc:
        raise NomadError(400, "invalid per_page") from exc


def _page(
    request: Request, values: list[Wire], headers: dict[str, str], *, is_by_id: bool
) -> list[Wire]:
    """Return the page asked for; name the next one in `headers`.

    A token names a place, not an object: it holds when the object at that place has gone.
    """
    size, token = _per_page(request), request.query.get("next_token", "")
    if is_by_id:
        values = [value for value in values if value["ID"] >= token]
    elif token:
        index = token.partition(".")[0]
        if not index.isdecimal():
            raise NomadError(400, f"invalid next_token {token!r}")
        values = [value for value in values if value["CreateIndex"] >= int(index)]
    if 0 < size < len(values):
        following = values[size]
        name = str(following["ID"])
        headers["X-Nomad-Nexttoken"] = name if is_by_id else f"{following['CreateIndex']}.{name}"
        return values[:size]
    return values
