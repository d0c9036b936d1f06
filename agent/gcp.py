"""Google Compute Engine's metadata server.

Source: https://cloud.google.com/compute/docs/metadata/querying-metadata, read 2026-11.
"""

import os
import time

from agent.cloud import Identity
from agent.ending import Cause, Ending
from agent.errors import Unfit
from agent.service import pauses
from agent.transport import NoAnswer, Reply, Transport

DEFAULT_HOST = "metadata.google.internal"

_HEADERS = {"Metadata-Flavor": "Google"}
_PATIENCE_S = 10.0
_LONG_POLL_S = 300


class Gce:
    """The metadata server of one machine."""

    def __init__(self, host: str, transport: Transport) -> None:
        self._root = f"http://{host}/computeMetadata/v1/instance/"
        self._transport = transport

    def identity(self) -> Identity:
        """Say who we are. Raises: Unfit."""
        zone, machine_type = self._read("zone"), self._read("machine-type")
        return Identity(
            self._read("name"), zone.rpartition("/")[2], machine_type.rpartition("/")[2]
        )

    def is_preempted(self) -> bool:
        """Read the flag once."""
        try:
            return _is_true(self._get("preempted", timeout_s=1))
        except NoAnswer:
            return False

    def watch(self, ending: Ending) -> None:
        """Wait for the flag by long poll; the ETag closes the gap between two of them."""
        path = "preempted"
        for pause_s in pauses():
            try:
                reply = self._get(path, timeout_s=_LONG_POLL_S + 10)
                while reply.status == 200:
                    if _is_true(reply):
                        ending.request(Cause.PREEMPTED, "the provider takes the instance back")
                        return
                    path = f"preempted?wait_for_change=true&timeout_sec={_LONG_POLL_S}"
                    if etag := reply.headers.get("ETag"):
                        path += f"&last_etag={etag}"
                    reply = self._get(path, timeout_s=_LONG_POLL_S + 10)
            except NoAnswer:
                pass  # it comes back: a machine without its metadata server has nobody else to ask
            path = "preempted"
            time.sleep(pause_s)

    def _read(self, name: str) -> str:
        """Return one value, asking again for a while: the server starts with the machine."""
        deadline = time.monotonic() + _PATIENCE_S
        for pause_s in pauses():
            try:
                reply = self._get(name, timeout_s=5)
                if reply.status == 200:
                    return reply.body.decode()
                problem = f"answers {reply.status}"
            except NoAnswer as exc:
                problem = str(exc)
            if time.monotonic() > deadline:
                break
            time.sleep(pause_s)
        raise Unfit(
            f"the metadata server does not tell {self._root}{name}: {problem}", os.EX_UNAVAILABLE
        )

    def _get(self, path: str, *, timeout_s: float) -> Reply:
        return self._transport.request("GET", self._root + path, _HEADERS, timeout_s=timeout_s)


def _is_true(reply: Reply) -> bool:
    return reply.status == 200 and reply.body.strip() == b"TRUE"
