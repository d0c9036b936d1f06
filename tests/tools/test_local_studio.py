"""What `make up` leaves on a fresh stack: a studio that a client can use with what `make env` prints."""

import json
from pathlib import Path

import requests

from demo.local import open_studio
from emulators.up.client import stack

CALL_S = 30


def test_the_key_of_a_fresh_stack_connects_a_client_and_stays_the_same(tmp_path: Path) -> None:
    with stack(only=["firestore", "auth", "submit", "gateway"]) as running:
        env = running.env | {"BATON_SOFTWARE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
        open_studio(env)
        said = running.env["CONDUCTOR_API_KEY"]
        key, url = json.loads(said), running.env["CONDUCTOR_URL"]
        query = {"grant_type": "client_credentials", "scope": "owner admin user"}
        query |= {"client_id": key["client_id"], "client_secret": key["private_key"]}
        answer = requests.get(f"{url}/api/oauth_jwt", params=query, timeout=CALL_S)
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        found = {
            path: requests.get(f"{url}{path}", headers=bearer, timeout=CALL_S).json()["data"]
            for path in ("/api/v1/projects/", "/api/v1/instance-types", "/api/v1/ee/packages")
        }
        assert [each["name"] for each in found["/api/v1/projects/"]] == ["relay"]
        assert all(found.values()), found
        assert (running.state_path / "api_key.json").stat().st_mode & 0o777 == 0o600
        open_studio(env)
        assert running.env["CONDUCTOR_API_KEY"] == said
