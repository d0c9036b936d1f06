"""The metadata server of one machine, in Google's wire format.

Source: https://cloud.google.com/compute/docs/metadata/querying-metadata, read 2026-11.
"""

import hashlib
import json
import time
from typing import Any

from emulators.engine.http import App, HttpError, Reply, Request, text_reply
from emulators.engine.watch import Topics

PREFIX = "/computeMetadata/v1"
PROJECT_NUMBER = "123456789012"
_HEADERS = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}


def metadata_tree(machine: dict[str, Any]) -> dict[str, Any]:
    """Return what the server shows of `machine` (the contents of machine.json)."""
    project = f"projects/{PROJECT_NUMBER}"
    spot = machine["preemptible"]
    return {
        "instance": {
            "attributes": dict(machine["metadata"]),
            "cpu-platform": "Intel Broadwell",
            "hostname": f"{machine['name']}.{machine['zone']}.c.{machine['project']}.internal",
            "id": int(machine["id"]),
            "machine-type": f"{project}/machineTypes/{machine['machine_type']}",
            "maintenance-event": machine["maintenance_event"],
            "name": machine["name"],
            "preempted": "TRUE" if machine["preempted"] else "FALSE",
            "scheduling": {
                "automatic-restart": "FALSE" if spot else "TRUE",
                "on-host-maintenance": "TERMINATE" if spot else "MIGRATE",
                "preemptible": "TRUE" if spot else "FALSE",
            },
            "tags": [],
            "zone": f"{project}/zones/{machine['zone']}",
        },
        "project": {
            "numeric-project-id": int(PROJECT_NUMBER),
            "project-id": machine["project"],
        },
    }


class MetadataServer:
    """Serves the tree of one machine; `update` wakes those who wait for a change."""

    def __init__(self, machine: dict[str, Any]) -> None:
        self._tree = metadata_tree(machine)
        self._topics = Topics()
        self._version = 0
        self.app = App(before=self._check)
        self.app.route("GET", "/", lambda _: text_reply("computeMetadata/\n", headers=_HEADERS))
        self.app.route("GET", f"{PREFIX}/:path", self._get)
        self.app.route("GET", f"{PREFIX}/?", self._get)

    def update(self, machine: dict[str, Any]) -> None:
        """Show `machine` from now on."""
        self._tree = metadata_tree(machine)
        self._version += 1
        self._topics.touch("tree", self._version)

    async def _check(self, request: Request) -> Reply | None:
        if request.headers.get("metadata-flavor") != "Google" and request.path != "/":
            return text_reply("Missing Metadata-Flavor:Google header.\n", 403, _HEADERS)
        if "x-forwarded-for" in request.headers:
            return text_reply("Forwarded requests are refused.\n", 403, _HEADERS)
        return None

    async def _get(self, request: Request) -> Reply:
        path = request.args.get("path", "")
        text, content_type = self._render(path, request.query)
        if request.query.get("wait_for_change", "").lower() == "true":
            text, content_type = await self._changed(path, request.query, text, content_type)
        return Reply(200, text.encode(), content_type, {**_HEADERS, "ETag": _etag(text)})

    async def _changed(
        self, path: str, query: dict[str, str], text: str, content_type: str
    ) -> tuple[str, str]:
        """Wait until the text differs from the one the caller knows, or its time is over."""
        known = query.get("last_etag", _etag(text))
        try:
            left_s = float(query.get("timeout_sec", "3600"))
        except ValueError as exc:
            raise HttpError(text_reply("Invalid timeout_sec.\n", 400, _HEADERS)) from exc
        version = self._version
        while _etag(text) == known and left_s > 0:
            start = time.monotonic()
            await self._topics.wait("tree", version, left_s)
            left_s -= time.monotonic() - start
            version = self._version
            text, content_type = self._render(path, query)
        return text, content_type

    def _render(self, path: str, query: dict[str, str]) -> tuple[str, str]:
        """Return text and content type of `path`. Raises: HttpError 404."""
        value: Any = self._tree
        for name in filter(None, path.split("/")):
            if not isinstance(value, dict) or name not in value:
                raise HttpError(text_reply("Not Found\n", 404, _HEADERS))
            value = value[name]
        if query.get("alt") == "json" or query.get("recursive", "").lower() == "true":
            return json.dumps(value), "application/json"
        if isinstance(value, dict):
            names = (f"{n}/" if isinstance(v, dict) else n for n, v in sorted(value.items()))
            return "".join(f"{name}\n" for name in names), "application/text"
        return str(value), "application/text"


def _etag(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
