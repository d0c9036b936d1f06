"""Sign in, with an API key or in a browser, and read what the plugins offer."""

import json
import secrets
from pathlib import Path

from tests.clients.artist import DRIVERS, Artist
from tests.clients.matrix import FLOWS
from tests.clients.studios import VARIABLE

HOSTS = ("maya-io", "nuke", "katana", "clarisse", "houdini", "blender")


@FLOWS.flow()
def connect(artist: Artist) -> None:
    """What "Connect" shows: projects, machines, software; the account's own name; and one sign-in for all of it."""
    told = artist.drive("connect").told()
    assert told["is_valid"]
    assert told["projects"] == ["relay"]
    assert "cpu-2-8" in told["instance_types"]
    assert len(set(told["instance_types"])) == len(told["instance_types"]) > 1
    assert len(set(told["descriptions"])) == len(told["descriptions"])
    for product in HOSTS:
        assert any(path.startswith(f"{product} ") for path in told["packages"]), product
    assert any("/" in path for path in told["packages"])  # a plugin, under its host
    assert told["account_id"] == artist.farm.account_id
    assert told["account_name"] == "S"
    if artist.is_at_least("8.0"):
        [variable] = told["environment"]
        assert (variable["name"], variable["value"]) == VARIABLE
    assert len(artist.tap.seen("GET", "/api/oauth_jwt")) == 1, artist.tap.story()


@FLOWS.flow(since="8.0")
def packages(artist: Artist) -> None:
    """`conductor packages` lists every host with its plugins."""
    listed = artist.conductor("packages")
    assert listed.code == 0, listed.said
    for product in HOSTS:
        assert product in listed.said


@FLOWS.flow()
def sign_in_by_browser(artist: Artist) -> None:
    """Without an API key the client opens a browser: once, for everything that it asks afterwards.

    The client listens on localhost:8085. Each row has a localhost of its own, so that all may do so at once.
    """
    farm, folder = artist.farm, artist.folder
    artist.api_key = None
    opened, login, hosts = folder / "opened", folder / "login.json", folder / "hosts"
    identity = f"http://{farm.env['FIREBASE_AUTH_EMULATOR_HOST']}/identitytoolkit.googleapis.com"
    person = {
        "email": f"owner@{farm.account_id}.example",
        "password": "a-long-enough-password",
        "sign_in_url": f"{identity}/v1/accounts:signInWithPassword?key=any",
        "opened": str(opened),
    }
    login.write_text(json.dumps(person))
    hosts.write_text(f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}.7 localhost\n")
    command = artist.command("connect")
    browser = f"{command[0]} {DRIVERS / 'browser.py'} {login} %s &"
    artist.more_env = {"BROWSER": browser}
    own_localhost = ["bwrap", "--dev-bind", "/", "/", "--bind", str(hosts), "/etc/hosts"]
    told = artist.run([*own_localhost, "--", *command]).told()
    assert told["is_valid"] and told["projects"] == ["relay"]
    assert told["account_id"] == farm.account_id
    [url] = opened.read_text().splitlines()
    assert url.startswith(f"{artist.tap.url}/api/oauth_jwt?redirect_uri=http://localhost:8085/")
    kept = Path(artist.env["HOME"], ".config", "conductor", "credentials")
    assert set(json.loads(kept.read_text())) >= {"access_token", "expiration"}
