"""S3 for tests: moto, behind a gate that is as strict as Amazon's where moto is lenient.

A URL is good for what was signed and nothing else, a Content-MD5 must be that of the body, a body's length must be
announced, and a signed URL must not come with another authorization.
"""

import hashlib
import hmac
import io
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.md5 import md5_of

ACCESS_KEY, SECRET_KEY, REGION = "AKIATEST", "a-secret-for-tests", "us-east-1"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class _Quiet(WSGIRequestHandler):
    """Prints no line for each request."""

    def log(self, *_: Any, **__: Any) -> None:
        """Say nothing."""


class Gate:
    """Lets through to moto what S3 would take."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._faults: list[int] = []

    def fail_next(self, calls: int, status: int) -> None:
        """Answer the next calls with this status."""
        with self._lock:
            self._faults = [status] * calls

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        with self._lock:
            fault = self._faults.pop() if self._faults else None
        refusal = (fault, "Fault") if fault else self._refusal(environ)
        if refusal is None:
            return self._moto(environ, start)  # type: ignore[no-any-return]
        status, code = refusal
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        length = ("Content-Length", str(len(body)))
        start(f"{status} {code}", [("Content-Type", "application/xml"), length])
        return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _refusal(self, environ: dict[str, Any]) -> tuple[int, str] | None:
        query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
        has_header = "HTTP_AUTHORIZATION" in environ
        if "X-Amz-Signature" in query:
            if has_header:
                return 400, "InvalidArgument"
            if not hmac.compare_digest(_signature(environ, query), query["X-Amz-Signature"]):
                return 403, "SignatureDoesNotMatch"
        elif not has_header:
            return 403, "AccessDenied"
        if environ["REQUEST_METHOD"] == "PUT" and "CONTENT_LENGTH" not in environ:
            return 411, "MissingContentLength"
        if wanted := environ.get("HTTP_CONTENT_MD5"):
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            if md5_of(body) != wanted:
                return 400, "BadDigest"
        return None


def _signature(environ: dict[str, Any], query: dict[str, str]) -> str:
    """Return what AWS Signature Version 4 makes of a request whose URL is signed."""
    signed = query["X-Amz-SignedHeaders"].split(";")
    headers = "".join(f"{name}:{_header(environ, name)}\n" for name in signed)
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in query.items()
        if name != "X-Amz-Signature"
    )
    request = "\n".join(
        (
            environ["REQUEST_METHOD"],
            urlsplit(environ["REQUEST_URI"]).path,
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(signed),
            "UNSIGNED-PAYLOAD",
        )
    )
    scope = query["X-Amz-Credential"].partition("/")[2]
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, digest))
    key = f"AWS4{SECRET_KEY}".encode()
    for each in scope.split("/"):
        key = hmac.digest(key, each.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _header(environ: dict[str, Any], name: str) -> str:
    plain = name.upper().replace("-", "_")
    return str(environ.get(f"HTTP_{plain}", environ.get(plain, "")))


@contextmanager
def s3_server() -> Iterator[tuple[str, Gate]]:
    """Serve S3 on a free port; yields its URL and the gate."""
    gate = Gate()
    server = make_server("127.0.0.1", 0, gate, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", gate
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
