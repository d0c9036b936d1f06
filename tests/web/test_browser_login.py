"""The real client signs in through a real browser, on the real functions; and nothing secret is left in any log."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import jwt
import pytest
import requests
from playwright.sync_api import Page, expect

from demo.studio import Studio, baton, create_studio
from emulators.up.client import Stack, stack
from tests.clients.install import install
from tests.web.conftest import free_port
from tests.web.test_pages import sign_in

VERSION = "9.2.0"
COMPONENTS = ("firestore", "auth", "submit", "gateway")
# What the client itself allows from the opening of the browser to the token, typing included.
CLIENT_WAITS_S = 30
ENDS_WITHIN_S = CLIENT_WAITS_S + 60
# Signs in, as `use_api_key` says, and tells whom the farm takes it for.
SCRIPT = """
import json, sys
from ciocore import api_client
token = api_client.read_conductor_credentials(use_api_key=sys.argv[1] == "key")
print(json.dumps({
    "account": token and api_client.account_id_from_jwt(token),
    "name": token and api_client.account_name_from_jwt(token),
    "token": token,
}))
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    """What a sign-in needs of the stack."""
    with stack(only=COMPONENTS) as running:
        yield running


@pytest.fixture(scope="module")
def farm_env(running: Stack) -> dict[str, str]:
    """The environment of the administrator's command."""
    return dict(os.environ) | running.env


@pytest.fixture(scope="module")
def studio(farm_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """A studio with an owner who can sign in, and an API key."""
    folder = tmp_path_factory.mktemp("studio")
    return create_studio(folder, farm_env, account_id="otterhaus")


class Client:
    """The unmodified client on an artist's machine. Its browser is a file: what it would open is written there."""

    def __init__(self, home: Path, env: dict[str, str]) -> None:
        self._opened = home / "opened"
        browser = home / "browser"
        written = f"{self._opened}.new"
        browser.write_text(
            f'#!/bin/sh\nprintf %s "$1" > {written} && mv {written} {self._opened}\n'
        )
        browser.chmod(0o755)
        self._python = install(VERSION) / "bin" / "python"
        self.port = free_port()
        self._env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "BROWSER": f"{browser} %s",
            "CIO_DISABLE_VERSION_CHECK": "1",
            "CONDUCTOR_AUTH_PORT": str(self.port),
            "CONDUCTOR_URL": env["CONDUCTOR_URL"],
            "CONDUCTOR_API_URL": env["CONDUCTOR_API_URL"],
        }

    def start(self, way: str, **more: str) -> "subprocess.Popen[str]":
        """Begin to sign in."""
        command = [str(self._python), "-c", SCRIPT, way]
        return subprocess.Popen(command, env=self._env | more, stdout=subprocess.PIPE, text=True)

    def page_to_open(self, process: "subprocess.Popen[str]") -> str:
        """Return what the client opens a browser at, as soon as it does."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not self._opened.exists():
            assert process.poll() is None, "the client ended without opening a browser"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self._opened.read_text()


def told(process: "subprocess.Popen[str]") -> dict[str, str]:
    """Return what the client says at its end."""
    said, _ = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode == 0
    answer: dict[str, str] = json.loads(said.splitlines()[-1])
    return answer


@pytest.fixture
def new_client(tmp_path: Path, running: Stack) -> Callable[[], Client]:
    """Makes artists' machines."""

    def make() -> Client:
        home = tmp_path / f"home-{free_port()}"
        home.mkdir()
        return Client(home, running.env)

    return make


def test_a_client_signs_in_through_the_browser_and_again_without_typing(
    page: Page, new_client: Callable[[], Client], studio: Studio
) -> None:
    first = new_client()
    waiting = first.start("browser")
    asked = first.page_to_open(waiting)
    assert f"redirect_uri=http://localhost:{first.port}/index.html&scope=user" in asked
    page.goto(asked)
    sign_in(page, studio.email, studio.password)
    expect(page.get_by_text("Authenticated successfully")).to_be_visible()
    answer = told(waiting)
    assert (answer["account"], answer["name"]) == (studio.account_id, "Otterhaus")

    second = new_client()
    waiting = second.start("browser")
    page.goto(second.page_to_open(waiting))
    page.get_by_role("button", name=f"Continue as {studio.email}").click()
    expect(page.get_by_text("Authenticated successfully")).to_be_visible()
    assert told(waiting)["account"] == studio.account_id


def test_the_clients_token_is_kept_for_its_audience_and_not_fetched_again(
    new_client: Callable[[], Client], running: Stack, studio: Studio
) -> None:
    client = new_client()
    answers = [told(client.start("key", CONDUCTOR_API_KEY=studio.api_key)) for _ in range(2)]
    assert answers[0]["token"] == answers[1]["token"]
    claims = jwt.decode(answers[0]["token"], options={"verify_signature": False})
    assert f"http://{claims['aud']}" == running.env["CONDUCTOR_API_URL"]
    assert answers[0]["name"] == "Otterhaus"


def test_no_secret_is_left_in_any_log(
    page: Page, new_client: Callable[[], Client], running: Stack, studio: Studio
) -> None:
    key = json.loads(studio.api_key)
    base = running.url("gateway")
    secrets = {"key": key["private_key"], "password": studio.password}
    client = new_client()
    waiting = client.start("browser")
    page.goto(client.page_to_open(waiting))
    sign_in(page, studio.email, studio.password)
    expect(page.get_by_text("Authenticated successfully")).to_be_visible()
    secrets["token of the browser"] = told(waiting)["token"]
    by_key = client.start("key", CONDUCTOR_API_KEY=studio.api_key)
    secrets["token of the key"] = told(by_key)["token"]
    asks = [
        {"grant_type": "client_credentials", "client_id": "nobody.k1"},
        {"grant_type": "client_credentials", "client_id": "a/b"},
        {"grant_type": "password", "client_id": key["client_id"]},
        {"client_id": key["client_id"]},
    ]
    for query in asks:
        requests.get(
            f"{base}/api/oauth_jwt",
            params=query | {"client_secret": key["private_key"]},
            timeout=30,
        )
    for path in ("/api/oauth_jwt/", "//api/oauth_jwt", "/jobs/x/y", "/nowhere"):
        requests.get(f"{base}{path}?client_secret={quote(key['private_key'])}", timeout=30)
    requests.post(f"{base}/api/oauth_jwt?client_secret={quote(key['private_key'])}", timeout=30)
    for body in ("{", json.dumps({"id_token": secrets["token of the key"], "redirect_uri": "x"})):
        requests.post(f"{base}/api/client_token", data=body, timeout=30)
    bad = {"Authorization": f"Bearer {secrets['token of the key']}x"}
    requests.get(f"{base}/api/v1/projects/", headers=bad, timeout=30)
    logs = {path: path.read_text(errors="replace") for path in log_files(running)}
    assert any("refused" in text for text in logs.values())
    for log, text in logs.items():
        for name, secret in secrets.items():
            for form in (secret, quote(secret), quote(secret, safe="")):
                assert form not in text, f"the {name} is in {log.name}"


def log_files(running: Stack) -> list[Path]:
    """Return the logs of all components, but for the emulator of the sign-in service, which is not ours."""
    found = [path for path in running.state_path.rglob("*.log") if path.is_file()]
    names = {path.stem for path in found}
    assert names >= {"submit", "gateway"}, names
    return [path for path in found if not re.search(r"auth|firebase", path.name)]


def test_a_signed_in_browser_hands_out_no_token_to_another_address(
    page: Page, running: Stack, studio: Studio
) -> None:
    base = running.url("gateway")
    page.goto(base)
    sign_in(page, studio.email, studio.password)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    for address in ("http://evil.example:8085/index.html", "http://localhost:80\\@evil.example/"):
        page.goto(f"{base}/api/oauth_jwt?redirect_uri={quote(address)}&scope=user")
        expect(page.get_by_role("alert")).to_contain_text("Start again from the client.")
        expect(page.get_by_role("button")).to_have_count(0)


def test_somebody_who_was_removed_since_they_signed_in_is_told_so(
    page: Page, running: Stack, studio: Studio, farm_env: dict[str, str], tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse")
    email = "kai@otterhaus.example"
    words = ("--password-file", str(password))
    baton("user", "create", studio.account_id, email, *words, env=farm_env)
    base = running.url("gateway")
    page.goto(base)
    sign_in(page, email, "correct horse")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    address = f"http://localhost:{free_port()}/index.html"
    page.goto(f"{base}/api/oauth_jwt?redirect_uri={address}&scope=user")
    baton("user", "remove", studio.account_id, email, "--yes", env=farm_env)
    page.get_by_role("button", name=f"Continue as {email}").click()
    expect(page.get_by_role("alert")).to_contain_text("session has ended")
    assert page.url.startswith(base)
