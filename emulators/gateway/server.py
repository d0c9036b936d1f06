"""Answer each request as Firebase Hosting would: a reserved path, a file, a rewrite, or 404. Never a redirect."""

import logging
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from emulators.gateway.hosting import Hosting, decoded_path
from emulators.gateway.proxy import Proxy, error

logger = logging.getLogger("emulators.gateway")

# The client's secret travels in the query of one GET: 16 KiB of request line, and as much for a header.
MAX_LINE_BYTES = 16 * 1024
INIT_PATH = "/__/firebase/init.json"


def firebase_config(env: Mapping[str, str]) -> dict[str, object]:
    """Return what the dashboard's Firebase SDK is started with, as /__/firebase/init.json of real Hosting.

    `emulators` is there on a local stack only: host:port of Auth and of Firestore.
    """
    project = env.get("GOOGLE_CLOUD_PROJECT", "")
    emulators = {
        name: env[variable]
        for name, variable in (
            ("auth", "FIREBASE_AUTH_EMULATOR_HOST"),
            ("firestore", "FIRESTORE_EMULATOR_HOST"),
        )
        if variable in env
    }
    return {
        "projectId": project,
        "apiKey": "local",
        "authDomain": f"{project}.firebaseapp.com",
        **({"emulators": emulators} if emulators else {}),
    }


class Gateway:
    """One site: its files, its functions and its Firebase configuration."""

    def __init__(self, hosting: Hosting, proxy: Proxy, config: Mapping[str, object]) -> None:
        self._hosting = hosting
        self._proxy = proxy
        self._config = dict(config)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except (ConnectionResetError, web.HTTPException):
            raise
        except Exception:
            # the last resort of a server: the caller gets an answer, the log the cause
            logger.exception("%s %s", request.method, request.raw_path.partition("?")[0])
            return error(500, "Internal", "The gateway failed; its log says why.")

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = decoded_path(request.raw_path)
        if not path.startswith("/"):
            return error(400, "InvalidRequest", "The request target must be a path.")
        if path == INIT_PATH:
            return web.json_response(self._config, headers={"Cache-Control": "no-store"})
        if request.method in ("GET", "HEAD") and (file := self._hosting.file_at(path)):
            return self._file(path, file)
        rewrite = self._hosting.rewrite_of(path)
        if rewrite is None:
            return error(404, "NotFound", f"There is nothing at {path}.")
        if rewrite.service is not None:
            return await self._proxy.forward(request, rewrite.service)
        return self._page(request, rewrite.destination or "/")

    def _page(self, request: web.BaseRequest, destination: str) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return error(405, "MethodNotAllowed", f"{request.method} is not possible on a page.")
        file = self._hosting.file_at(destination)
        if file is None:
            return error(404, "NotFound", f"The dashboard is not built: {destination} is missing.")
        return self._file(destination, file)

    def _file(self, path: str, file: Path) -> web.FileResponse:
        named = path + "index.html" if path.endswith("/") else path
        return web.FileResponse(file, headers=self._hosting.headers_of(named))


def make_server(gateway: Gateway) -> web.Server:
    """Return the HTTP server. aiohttp's own log is off: it would print broken request lines, secrets included."""
    quiet = logging.getLogger("emulators.gateway.http")
    quiet.disabled = True
    return web.Server(
        gateway.handle,
        access_log=None,
        logger=quiet,
        tcp_keepalive=True,
        keepalive_timeout=75.0,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_LINE_BYTES,
    )
