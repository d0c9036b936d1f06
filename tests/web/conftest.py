"""The parts behind the dashboard's tests: real emulators, the built pages on a server that plays Hosting, a browser."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests
from google.cloud import firestore
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.web.farm_on_show import Farm
from tests.web.hosting import Hosting, Site

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
FIRESTORE_JAR = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
FIRESTORE_MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
START_WITHIN_S = 90
STOP_WITHIN_S = 20
SEEN_WITHIN_MS = 30_000


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def need(path: str | None, line: str) -> str:
    """Return the path of a tool; where it is missing the test fails with the line that installs it."""
    if path is None or not Path(path).exists():
        pytest.fail(f"not installed; run: {line}", pytrace=False)
    return path


def running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """Run a server until the test session ends. It is ready when it answers on its port."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_WITHIN_S
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} did not start:\n{log.read_text()}", pytrace=False)
            time.sleep(0.05)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(port: int) -> bool:
    """Tell whether a server on this machine answers HTTP."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=5).status_code > 0
    except requests.RequestException:
        return False


@pytest.fixture(scope="session")
def firestore_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Firestore's emulator under the project's rules: its host and port."""
    install = "apt-get install google-cloud-cli-firestore-emulator"
    gcloud = need(shutil.which("gcloud"), install)
    sdk = Path(gcloud).resolve().parents[1]
    jar = need(str(sdk / FIRESTORE_JAR), install)
    java = need(shutil.which("java"), "apt-get install openjdk-17-jre-headless")
    port = free_port()
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-Duser.language=en", "-cp", jar, FIRESTORE_MAIN]
    listen = ["--host=127.0.0.1", f"--port={port}", f"--rules={ROOT / 'firestore.rules'}"]
    for _ in running([java, *options, *listen], port, tmp_path_factory.mktemp("firestore")):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def project_id() -> str:
    """The cloud project of this test run, unique because firebase-tools keeps a file by its name."""
    return f"demo-baton-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def farm(firestore_host: str, project_id: str) -> Farm:
    """What the functions would write."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
        return Farm(client=firestore.Client(project=project_id))


@pytest.fixture(scope="session")
def auth_host(tmp_path_factory: pytest.TempPathFactory, project_id: str) -> Iterator[str]:
    """Firebase Auth's emulator: its host and port."""
    firebase = need(str(ROOT / "node_modules/.bin/firebase"), "npm ci")
    folder = tmp_path_factory.mktemp("auth")
    ports = {name: free_port() for name in ("auth", "hub", "logging")}
    emulators: dict[str, Any] = {
        name: {"host": "127.0.0.1", "port": port} for name, port in ports.items()
    }
    emulators["ui"] = {"enabled": False}
    (folder / "firebase.json").write_text(json.dumps({"emulators": emulators}))
    command = [firebase, "emulators:start", "--only", "auth", "--project", project_id]
    for _ in running(command, ports["auth"], folder):
        yield f"127.0.0.1:{ports['auth']}"


@pytest.fixture
def add_user(auth_host: str, project_id: str) -> Callable[..., str]:
    """Create a user with a password and claims, as an administrator does. Returns: the password."""
    url = f"http://{auth_host}/identitytoolkit.googleapis.com/v1/projects/{project_id}/accounts"
    administrator = {"Authorization": "Bearer owner"}

    def add(email: str, **claims: Any) -> str:
        password = uuid.uuid4().hex
        user = {"email": email, "password": password}
        created = requests.post(url, json=user, headers=administrator, timeout=20)
        created.raise_for_status()
        updated = requests.post(
            f"{url}:update",
            json={"localId": created.json()["localId"], "customAttributes": json.dumps(claims)},
            headers=administrator,
            timeout=20,
        )
        updated.raise_for_status()
        return password

    return add


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages, from the sources as they are now."""
    vite = need(str(WEB / "node_modules/.bin/vite"), "npm ci --prefix web")
    folder = tmp_path_factory.mktemp("dist")
    command = [vite, "build", "--outDir", str(folder), "--emptyOutDir", "--logLevel", "warn"]
    subprocess.run(command, cwd=WEB, check=True)
    return folder


@pytest.fixture
def site(dist: Path, auth_host: str, firestore_host: str, project_id: str) -> Iterator[Site]:
    """The dashboard, served for one test."""
    emulators = {"auth": auth_host, "firestore": firestore_host}
    init = {"projectId": project_id, "apiKey": "local", "emulators": emulators}
    memory = {"init": init, "token_requests": [], "token_replies": []}
    handler = type("HostingOfOneTest", (Hosting,), memory)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(dist))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Site(handler, server.server_port)
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    path = need(shutil.which("chromium"), "apt-get install --no-install-recommends chromium")
    expect.set_options(timeout=SEEN_WITHIN_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; an error in its scripts, or anything its content policy refuses, fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(SEEN_WITHIN_MS)
    problems: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        # Without a network Firestore's SDK asks an image of Google's whether it is back; that may stay refused.
        if "Content Security Policy" in message.text and "cleardot.gif" not in message.text:
            problems.append(message.text)

    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", listen)
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def account_id() -> str:
    """An account that no other test uses."""
    return f"studio-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session", autouse=True)
def scratch() -> Iterator[None]:
    """Keep what the emulators and the browser drop out of the project's folder."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as environment:
        environment.setenv("TMPDIR", folder)
        yield
