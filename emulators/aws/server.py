"""One HTTP server for all of Amazon's services that Baton calls: faults first, then our layer, then moto."""

import io
import json
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from emulators.aws.answers import Answer, Refused, error_answer, json_answer
from emulators.aws.faults import Faults
from emulators.aws.groups import Groups, Pace
from emulators.aws.jobs import Jobs

SERVICES = ("autoscaling", "batch", "ec2", "iam")

_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")


class _Quiet(WSGIRequestHandler):
    """Prints no line for each request."""

    def log(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


class Aws:
    """The application. One call at a time: moto's state knows no threads."""

    def __init__(self, pace: Pace) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.RLock()
        self._faults = Faults()
        self._groups = Groups(pace, self._faults)
        self._jobs = Jobs()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            for service in SERVICES:
                get_backend(service).reset()  # type: ignore[call-overload]
            self._faults.clear()
            self._groups.reset()
            self._jobs.reset()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        with self._lock:
            self._groups.advance()
            answer = self._answer(environ, body)
            if answer is None:
                environ["wsgi.input"] = io.BytesIO(body)
                return self._moto(environ, start)  # type: ignore[no-any-return]
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        length = ("Content-Length", str(len(answer.body)))
        start(status, [("Content-Type", answer.content_type), length])
        return [answer.body]

    def _answer(self, environ: dict[str, Any], body: bytes) -> Answer | None:
        """Answer a call, or leave it to moto."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        if scope is None:
            return self._control(method, path, body)
        region, service = scope.groups()
        parameters = {} if service == "batch" else dict(parse_qsl(body.decode(), True))
        action = parameters.get("Action", path.rpartition("/")[2])
        if fault := self._faults.call(service, action):
            return error_answer(service, *fault, f"a fault on order: {fault[1]}")
        try:
            if service == "autoscaling":
                return self._groups.answer(region, parameters)
            if service == "batch":
                return self._jobs.answer(region, method, path, json.loads(body or b"{}"))
        except Refused as exc:
            return error_answer(service, exc.status, exc.code, str(exc))
        return None

    def _control(self, method: str, path: str, body: bytes) -> Answer:
        """Carry out what tests and the local stack order; these calls are Amazon's in no way."""
        try:
            order = json.loads(body or b"{}")
            if (method, path) == ("POST", "/faults"):
                if order.get("kind") == "interrupt":
                    self._groups.interrupt(str(order.get("instance")))
                else:
                    self._faults.order(order)
            elif (method, path) == ("DELETE", "/faults"):
                self._faults.clear()
            elif (method, path) == ("GET", "/machines"):
                return json_answer(self._groups.machines())
            elif method == "POST" and path.startswith("/hosts/"):
                return json_answer(self._jobs.control(path.removeprefix("/hosts/"), order))
            else:
                return json_answer({"error": f"no {method} {path}, or no signature"}, 404)
        except (ValueError, KeyError) as exc:
            return json_answer({"error": str(exc)}, 400)
        return json_answer({})


@contextmanager
def serve(application: Aws, port: int = 0) -> Iterator[str]:
    """Serve on a port, 0 for a free one; yields the URL."""
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
