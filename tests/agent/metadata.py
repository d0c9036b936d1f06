"""Metadata servers as Google and Amazon have them, as far as an agent asks them."""

import json
import threading
from collections.abc import Mapping

from tests.agent.http_server import Answer, HttpServer, Request


class GceMetadata:
    """The metadata server of one Compute Engine instance."""

    def __init__(self, instance: str = "render-1", zone: str = "us-central1-a") -> None:
        self._values = {
            "name": instance,
            "zone": f"projects/123456789012/zones/{zone}",
            "machine-type": "projects/123456789012/machineTypes/n2-standard-4",
            "preempted": "FALSE",
        }
        self._changed = threading.Condition()
        self._http = HttpServer(self)
        self.host = self._http.address

    def preempt(self) -> None:
        """Give the notice."""
        with self._changed:
            self._values["preempted"] = "TRUE"
            self._changed.notify_all()

    def close(self) -> None:
        """Stop, and let those go who wait."""
        self.preempt()
        self._http.close()

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        if request.headers.get("metadata-flavor") != "Google":
            return Answer(403)
        name = request.path.removeprefix("/computeMetadata/v1/instance/")
        with self._changed:
            if name not in self._values:
                return Answer(404)
            if request.query.get("wait_for_change") == "true":
                known = request.query.get("last_etag", _etag(self._values[name]))
                timeout_s = float(request.query.get("timeout_sec", "60"))
                self._changed.wait_for(lambda: _etag(self._values[name]) != known, timeout_s)
            value = self._values[name]
        headers = (("Metadata-Flavor", "Google"), ("ETag", _etag(value)))
        return Answer(200, value.encode(), headers)


class AwsMetadata:
    """The metadata service, version 2, of one EC2 instance. It shows no `tags` unless the machine's options say so."""

    def __init__(
        self,
        instance_id: str = "i-0abc",
        zone: str = "eu-west-1b",
        machine_type: str = "c7i.large",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._values = {
            "instance-id": instance_id,
            "placement/availability-zone": zone,
            "instance-type": machine_type,
            **{f"tags/instance/{key}": value for key, value in (tags or {}).items()},
        }
        self._token = "first-token"
        self._action: dict[str, str] | None = None
        self._http = HttpServer(self)
        self.endpoint = f"http://{self._http.address}"

    def preempt(self) -> None:
        """Give the notice."""
        self._action = {"action": "terminate", "time": "2026-11-20T12:00:00Z"}

    def renew_token(self) -> None:
        """Make the token invalid that was given."""
        self._token = "second-token"

    def close(self) -> None:
        """Stop."""
        self._http.close()

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        if request.method == "PUT" and request.path == "/latest/api/token":
            if "x-aws-ec2-metadata-token-ttl-seconds" not in request.headers:
                return Answer(400)
            return Answer(200, self._token.encode())
        if request.headers.get("x-aws-ec2-metadata-token") != self._token:
            return Answer(401)
        values = dict(self._values)
        if self._action:
            values["spot/instance-action"] = json.dumps(self._action)
        value = values.get(request.path.removeprefix("/latest/meta-data/"))
        return Answer(404) if value is None else Answer(200, value.encode())


def _etag(value: str) -> str:
    return f"{hash(value) & 0xFFFFFFFF:x}"
