"""Amazon EC2's instance metadata service, version 2 only.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/, pages instancedata-data-retrieval.html,
work-with-tags-in-IMDS.html and spot-instance-termination-notices.html, read 2026-11.
"""

import os
import time

from agent.cloud import Identity
from agent.ending import Cause, Ending
from agent.errors import Unfit
from agent.service import pauses
from agent.transport import NoAnswer, Reply, Transport

DEFAULT_ENDPOINT = "http://169.254.169.254"

_TOKEN_LIFETIME_S = 6 * 3600
_PATIENCE_S = 10.0
_POLL_S = 5.0  # the notice comes two minutes ahead; Amazon recommends to look every five seconds
_FLEET_TAG = "tags/instance/baton-orchestrator"
_GOING = ("terminate", "stop", "hibernate")


class Ec2:
    """The metadata service of one machine."""

    def __init__(self, endpoint: str, transport: Transport) -> None:
        self._root = f"{endpoint.rstrip('/')}/latest/"
        self._transport = transport
        self._token = ""

    def identity(self) -> Identity:
        """Say who we are. Raises: Unfit."""
        return Identity(
            self._name(),
            self._read("placement/availability-zone"),
            self._read("instance-type"),
        )

    def is_preempted(self) -> bool:
        """Look once for the notice."""
        try:
            return _is_notice(self._get("spot/instance-action", timeout_s=1))
        except NoAnswer:
            return False

    def watch(self, ending: Ending) -> None:
        """Look for the notice again and again: it has no long poll."""
        while True:
            try:
                if _is_notice(self._get("spot/instance-action", timeout_s=5)):
                    ending.request(Cause.PREEMPTED, "the provider takes the instance back")
                    return
            except NoAnswer:
                pass  # the next look comes soon
            time.sleep(_POLL_S)

    def _name(self) -> str:
        """Return what the fleet and the scheduler call this machine: its tag, if the fleet made it, else Amazon's id.

        Other machines have such a tag too, often many of them the same one.
        """
        is_of_the_fleet = self._read(_FLEET_TAG, may_lack=True) != ""
        name = self._read("tags/instance/Name", may_lack=True) if is_of_the_fleet else ""
        return name or self._read("instance-id")

    def _read(self, name: str, *, may_lack: bool = False) -> str:
        """Return one value, asking again for a while: the service starts with the machine.

        What the machine has not got is "" if it `may_lack` it.
        """
        deadline = time.monotonic() + _PATIENCE_S
        for pause_s in pauses():
            try:
                reply = self._get(name, timeout_s=5)
                if reply.status == 200:
                    return reply.body.decode()
                if reply.status == 404 and may_lack:
                    return ""
                problem = f"answers {reply.status}"
            except NoAnswer as exc:
                problem = str(exc)
            if time.monotonic() > deadline:
                break
            time.sleep(pause_s)
        raise Unfit(f"the metadata service does not tell {name}: {problem}", os.EX_UNAVAILABLE)

    def _get(self, name: str, *, timeout_s: float) -> Reply:
        """Read a value with a session token, which is renewed when it has run out."""
        url = f"{self._root}meta-data/{name}"
        for is_last in (False, True):
            if not self._token or is_last:
                lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LIFETIME_S)}
                answer = self._transport.request(
                    "PUT", f"{self._root}api/token", lifetime, timeout_s=timeout_s
                )
                if answer.status != 200:
                    return answer
                self._token = answer.body.decode()
            header = {"X-aws-ec2-metadata-token": self._token}
            reply = self._transport.request("GET", url, header, timeout_s=timeout_s)
            if reply.status != 401:
                break
        return reply


def _is_notice(reply: Reply) -> bool:
    """Tell whether the answer announces the machine's end: 404 until then."""
    return reply.status == 200 and any(f'"{action}"'.encode() in reply.body for action in _GOING)
