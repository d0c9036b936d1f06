"""The server's side of the protocol (docs/protocol.md, section "Agents"), and what each answer makes us do."""

import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from agent.ending import Ending
from agent.errors import Refused, Unreachable, Withdrawn
from agent.transport import NoAnswer, Reply, Transport

PER_CALL = 500  # files, MD5s or lines in one call

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.2, 10.0
_NOT_OURS = (401, 409, 410)


class Verdict(NamedTuple):
    """How the attempt ended."""

    outcome: str
    exit_code: int | None = None
    reason: str = ""
    outputs: Sequence[dict[str, Any]] = ()


def pauses() -> Iterator[float]:
    """Yield growing, jittered pauses without end. Units: seconds."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1)
        pause_s = min(pause_s * 2, _LAST_PAUSE_S)


class Service:
    """The calls of one attempt. All but `claim` and `finish` end with Stopped as soon as the attempt shall end.

    Raises, every call: Withdrawn; Unreachable; Refused.
    """

    def __init__(
        self, url: str, token: str, transport: Transport, ending: Ending, patience_s: float
    ) -> None:
        self._url = f"{url}/agent/v1/"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._transport = transport
        self._ending = ending
        self._patience_s = patience_s
        self._claim = os.urandom(16).hex()

    def claim(self, instance: str, zone: str) -> dict[str, Any]:
        """Take the attempt; again, it answers the same with fresh URLs."""
        return self._call("claim", {"instance": instance, "zone": zone})

    def inputs(self, md5s: Sequence[str]) -> dict[str, str]:
        """Return where to get each blob."""
        urls: dict[str, str] = self._call("inputs", {"md5s": list(md5s)})["urls"]
        return urls

    def heartbeat(self, phase: str, memory_peak_mib: int) -> dict[str, Any]:
        """Say that we live; return what to do. Goes on being tried while the attempt is being ended."""
        body = {"phase": phase, "memory_peak_mib": memory_peak_mib}
        return self._call("heartbeat", body, is_stoppable=False)

    def logs(self, first_line: int, lines: Sequence[str]) -> None:
        """Show lines to those who watch: one try only, for the next flush comes at once and the file holds them all."""
        body = {"first_line": first_line, "lines": list(lines)}
        self._call("logs", body, is_stoppable=False, patience_s=0)

    def outputs(
        self, files: Sequence[dict[str, Any]], *, patience_s: float | None = None
    ) -> tuple[dict[str, str], str]:
        """Announce files; return where to put each, and where to put the log."""
        answer = self._call(
            "outputs",
            {"files": list(files)},
            is_stoppable=patience_s is None,
            patience_s=patience_s,
        )
        return answer["urls"], answer["log_url"]

    def finish(
        self, verdict: Verdict, memory_peak_mib: int, *, patience_s: float | None = None
    ) -> str:
        """Report the end; return the task's status."""
        body = {
            "outcome": verdict.outcome,
            "exit_code": verdict.exit_code,
            "reason": verdict.reason,
            "memory_peak_mib": memory_peak_mib,
            "outputs": list(verdict.outputs),
        }
        return str(self._call("finish", body, is_stoppable=False, patience_s=patience_s)["status"])

    def _call(
        self,
        name: str,
        body: dict[str, Any],
        *,
        is_stoppable: bool = True,
        patience_s: float | None = None,
    ) -> dict[str, Any]:
        """POST until it is answered; `patience_s` replaces the usual patience."""
        content = json.dumps({"claim": self._claim, **body}).encode()
        patience_s = self._patience_s if patience_s is None else patience_s
        deadline = time.monotonic() + patience_s
        for pause_s in pauses():
            problem = "no answer"
            try:
                timeout_s = min(30.0, max(patience_s, 1.0))
                reply = self._transport.request(
                    "POST", self._url + name, self._headers, content, timeout_s=timeout_s
                )
                if reply.status == 200:
                    answer: dict[str, Any] = json.loads(reply.body)
                    return answer
                _raise_final(name, reply)
                problem = f"answers {reply.status}"
            except (NoAnswer, ValueError) as exc:
                problem = str(exc)
            if time.monotonic() + pause_s > deadline:
                raise Unreachable(f"{name}: {problem}, for {patience_s:g} s")
            self._pause(pause_s, is_stoppable)
        raise AssertionError("pauses never end")

    def _pause(self, pause_s: float, is_stoppable: bool) -> None:
        if is_stoppable:
            self._ending.wait(pause_s)
            self._ending.check()
        else:
            time.sleep(pause_s)
            self._ending.check_ours()


def _raise_final(name: str, reply: Reply) -> None:
    """Raise what an answer says that no repetition changes."""
    if reply.status == 429 or reply.status >= 500:
        return
    try:
        error = json.loads(reply.body)["error"]
        text = f"{error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        text = f"status {reply.status}"
    if reply.status in _NOT_OURS:
        raise Withdrawn(f"{name}: {text}")
    raise Refused(f"the server refused {name}: {text}")
