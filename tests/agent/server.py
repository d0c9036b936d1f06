"""The server as agents see it: docs/protocol.md, section "Agents", and storage behind signed URLs.

It keeps the rules of the protocol strictly, so that an agent which breaks one fails its test.
"""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.agent.http_server import Answer, HttpServer, Request
from tests.md5 import md5_of

OUTCOMES = {"success", "failed", "out_of_memory", "preempted", "killed"}


@dataclass
class Attempt:
    """One attempt: what it shall do, and what was heard of it."""

    token: str
    attempt_id: str
    command: str
    output_path: str
    inputs: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    memory_mib: int = 0
    heartbeat_s: float = 0.2
    is_watched: bool = False
    action: str = "continue"
    is_withdrawn: bool = False
    claim: str | None = None
    instance: str = ""
    zone: str = ""
    phases: list[str] = field(default_factory=list)
    shown: dict[int, str] = field(default_factory=dict)
    announced: dict[str, tuple[str, int]] = field(default_factory=dict)
    finish: dict[str, Any] | None = None


class Farm:
    """Attempts, blobs, and the faults a test orders."""

    def __init__(self) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.blobs: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.downloads: Counter[str] = Counter()
        self.changed = threading.Condition()
        self._faults: dict[str, list[Answer]] = {}
        self._damaged: dict[str, list[bytes]] = {}
        self._expiring: list[str] = []
        self._held = ""
        self._released = threading.Event()
        self._signatures = 0
        self._expired_before = 0
        self._http = HttpServer(self)
        self.url = f"http://{self._http.address}"

    def close(self) -> None:
        """Stop."""
        self.release()
        self._http.close()

    def add_attempt(self, command: str, output_path: str = "/out", **settings: Any) -> Attempt:
        """Have an attempt ready for an agent."""
        number = len(self.attempts) + 1
        # It looks like what it is, a JSON web token, and is no secret of anybody.
        token = f"eyJhbGciOiJSUzI1NiJ9.eyJhdHRlbXB0Ijp{number}.c2lnbmF0dXJl{number}"
        attempt = Attempt(token, f"a-studio-00001-{number:03}-1", command, output_path, **settings)
        self.attempts[token] = attempt
        return attempt

    def add_input(
        self, attempt: Attempt, path: str, content: bytes, *, is_executable: bool = False
    ) -> str:
        """Have a file of the artist in the store and in the attempt's spec; return its MD5."""
        md5 = md5_of(content)
        self.blobs[f"blobs/{md5}"] = content
        attempt.inputs.append(
            {"path": path, "md5": md5, "size": len(content), "executable": is_executable}
        )
        return md5

    def fail(self, call: str, *answers: int | Answer) -> None:
        """Have the next calls answered like this. `call`: a call's name, GET or PUT; status 0 hangs up."""
        ready = [Answer(one) if isinstance(one, int) else one for one in answers]
        self._faults.setdefault(call, []).extend(ready)

    def damage(self, name: str, *contents: bytes) -> None:
        """Have the next downloads of a blob bring these bytes instead."""
        self._damaged[name] = list(contents)

    def expire_after(self, *calls: str) -> None:
        """Make the URLs useless that the next answer to each of these calls carries."""
        self._expiring.extend(calls)

    def hold_half(self, name: str) -> None:
        """Stop downloads of a blob half way, until `release`."""
        self._held = name

    def release(self) -> None:
        """Let downloads go on."""
        self._held = ""
        self._released.set()

    def wait_for(self, what: str, condition: Callable[[], bool], timeout_s: float = 20) -> None:
        """Wait until `condition` holds after some request."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout_s), f"waited in vain for {what}"

    def outputs(self, attempt: Attempt) -> dict[str, bytes]:
        """Return what is stored of an attempt's outputs."""
        prefix = f"outputs/{attempt.attempt_id}/"
        return {
            name.removeprefix(prefix): content
            for name, content in self.blobs.items()
            if name.startswith(prefix)
        }

    def log(self, attempt: Attempt) -> str:
        """Return the stored log."""
        return self.blobs[f"logs/{attempt.attempt_id}"].decode()

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        call = request.path.rpartition("/")[2] if request.method == "POST" else request.method
        with self.changed:
            self.calls[call] += 1
            answer = self._fault(call) or self._route(request, call)
            if call in self._expiring:
                self._expiring.remove(call)
                self._expired_before = self._signatures
            self.changed.notify_all()
            return answer

    def _fault(self, call: str) -> Answer | None:
        waiting = self._faults.get(call)
        return waiting.pop(0) if waiting else None

    def _route(self, request: Request, call: str) -> Answer:
        if request.path.startswith("/storage/"):
            return self._store(request, request.path.removeprefix("/storage/"))
        if request.method != "POST" or request.path != f"/agent/v1/{call}":
            return _error(404, "NotFound", request.path)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        attempt = self.attempts.get(token)
        if attempt is None:
            return _error(401, "Unauthorized", "no such token")
        body = json.loads(request.body)
        if not re.fullmatch(r"\S{16,64}", body["claim"]):
            return _error(422, "InvalidRequest", "claim")
        if attempt.is_withdrawn:
            return _error(410, "AttemptWithdrawn", "the job was killed")
        if attempt.claim is not None and attempt.claim != body["claim"]:
            return _error(409, "StaleAttempt", "another process holds it")
        if attempt.claim is None and call != "claim":
            return _error(409, "StaleAttempt", "not claimed")
        if attempt.finish is not None and call != "finish":
            return _error(409, "StaleAttempt", "ended")
        handler: Callable[[Attempt, dict[str, Any]], Answer] = getattr(self, f"_on_{call}")
        return handler(attempt, body)

    def _on_claim(self, attempt: Attempt, body: dict[str, Any]) -> Answer:
        attempt.claim = body["claim"]
        attempt.instance, attempt.zone = body["instance"], body["zone"]
        spec = {"environment": attempt.environment, "inputs": attempt.inputs}
        self.blobs[f"specs/{attempt.attempt_id}"] = json.dumps(spec).encode()
        return _json(
            {
                "attempt": attempt.attempt_id,
                "command": attempt.command,
                "frames": "1-2",
                "output_path": attempt.output_path,
                "spec_url": self._sign("GET", f"specs/{attempt.attempt_id}"),
                "memory_mib": attempt.memory_mib,
                "heartbeat_s": attempt.heartbeat_s,
            }
        )

    def _on_inputs(self, attempt: Attempt, body: dict[str, Any]) -> Answer:
        md5s = body["md5s"]
        if not 1 <= len(md5s) <= 500:
            return _error(422, "InvalidRequest", "md5s")
        urls = {m: self._sign("GET", f"blobs/{m}") for m in md5s if f"blobs/{m}" in self.blobs}
        return _json({"urls": urls})

    def _on_heartbeat(self, attempt: Attempt, body: dict[str, Any]) -> Answer:
        if body["phase"] not in ("inputs", "rendering", "outputs"):
            return _error(422, "InvalidRequest", "phase")
        assert isinstance(body["memory_peak_mib"], int)
        attempt.phases.append(body["phase"])
        return _json(
            {
                "action": attempt.action,
                "reason": "somebody said so" if attempt.action == "stop" else "",
                "heartbeat_s": attempt.heartbeat_s,
                "is_watched": attempt.is_watched,
            }
        )

    def _on_logs(self, attempt: Attempt, body: dict[str, Any]) -> Answer:
        if not 1 <= len(body["lines"]) <= 500:
            return _error(422, "InvalidRequest", "lines")
        attempt.shown.update(enumerate(body["lines"], body["first_line"]))
        return _json({})

    def _on_outputs(self, attempt: Attempt, body: dict[str, Any]) -> Answer:
        if len(body["files"]) > 500:
            return _error(422, "InvalidRequest", "files")
        urls = {}
        for file in body["files"]:
            path, md5, size = file["relative_path"], file["md5"], file["size"]
            attempt.announced[path] = (md5, size)
            urls[path] = self._sign("PUT", f"outputs/{attempt.attempt_id}/{path}", md5)
        return _json({"urls": urls, "log_url": self._sign("PUT", f"logs/{attempt.attempt_id}")})

    def _on_finish(self, attempt: Attempt, body: dict[str, Any]) -> Answer:
        if body["outcome"] not in OUTCOMES:
            return _error(422, "InvalidRequest", "outcome")
        if attempt.finish is None:
            attempt.finish = {**body, "at": time.monotonic()}
        return _json({"status": "success" if body["outcome"] == "success" else "failed"})

    def _sign(self, method: str, name: str, md5: str = "") -> str:
        self._signatures += 1
        query = f"method={method}&md5={quote(md5, safe='')}&signature={self._signatures}"
        return f"{self.url}/storage/{quote(name)}?{query}"

    def _store(self, request: Request, name: str) -> Answer:
        if int(request.query["signature"]) <= self._expired_before:
            return Answer(400, b"<Error><Code>ExpiredToken</Code></Error>")
        if request.query["method"] != request.method or "authorization" in request.headers:
            return Answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        if request.method == "GET":
            self.downloads[name] += 1
            damaged = self._damaged.get(name)
            found = damaged.pop(0) if damaged else self.blobs.get(name)
            if found is None:
                return Answer(404)
            return Answer(200, found, hold=self._released if name == self._held else None)
        wanted = request.query.get("md5", "")
        if request.headers.get("content-md5", "") != wanted:
            return Answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        if wanted and md5_of(request.body) != wanted:
            return Answer(400, b"<Error><Code>BadDigest</Code></Error>")
        self.blobs[name] = request.body
        return Answer(200)


def _json(body: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(body).encode(), (("Content-Type", "application/json"),))


def _error(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return Answer(status, body, (("Content-Type", "application/json"),))
