"""An agent, played by a test: one process with the token of an attempt."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

INSTANCE = "instance-1"
ZONE = "z-a"


@dataclass(kw_only=True)
class Agent:
    """One process with the token of an attempt."""

    web: FlaskClient
    token: str
    claim_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def call(self, name: str, **body: Any) -> TestResponse:
        return self.send(name, {"claim": self.claim_id} | body)

    def send(self, name: str, body: object) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.web.post(f"/agent/v1/{name}", headers=headers, data=json.dumps(body))

    def claim(self, instance: str = INSTANCE) -> TestResponse:
        return self.call("claim", instance=instance, zone=ZONE)

    def heartbeat(self, memory_peak_mib: int = 0) -> TestResponse:
        return self.call("heartbeat", phase="rendering", memory_peak_mib=memory_peak_mib)

    def finish(self, outcome: str = "success", **said: Any) -> TestResponse:
        body = {"outcome": outcome, "exit_code": 0, "reason": "", "memory_peak_mib": 0}
        return self.call("finish", **(body | {"outputs": []} | said))

    def another_process(self) -> "Agent":
        """Return an agent that was started with the same token."""
        return Agent(web=self.web, token=self.token)
