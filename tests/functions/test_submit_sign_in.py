"""Sign-in: by API key, and in the browser."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests

from shared import wiring
from shared.models.account import ApiKey, Role
from shared.services import sign_in
from shared.services.administration import NewKey, create_key, create_user, revoke_key
from shared.services.sign_in import ApiKeys, new_secret, secret_hash
from tests.functions.conftest import Studio

REDIRECT = "http://localhost:8085/index.html"


def a_key(studio: Studio, key_id: str = "k1") -> NewKey:
    return create_key(
        studio.account_id,
        user_id="ines",
        key_id=key_id,
        secret="first line\n" + new_secret(),
        now=wiring.now(),
        accounts=wiring.account_store(),
    )


def exchange(
    studio: Studio, key: NewKey, host: str = "127.0.0.1:8080", **changed: str
) -> dict[str, object] | int:
    query = {
        "grant_type": "client_credentials",
        "scope": "owner admin user",
        "client_id": key.client_id,
        "client_secret": key.private_key,
    }
    reply = studio.web.get(
        "/api/oauth_jwt", query_string=query | changed, headers={"X-Forwarded-Host": host}
    )
    body: Any = reply.json
    return dict(body) if reply.status_code == 200 else reply.status_code


def claims_of(token: object) -> dict[str, object]:
    return dict(jwt.decode(str(token), options={"verify_signature": False}))


def test_an_api_key_becomes_a_token_that_opens_the_account(studio: Studio) -> None:
    granted = exchange(studio, a_key(studio))
    assert isinstance(granted, dict)
    assert granted["expires_in"] == 24 * 3600
    studio.headers = {"Authorization": f"Bearer {granted['access_token']}"}
    assert studio.get(f"/api/v1/accounts/{studio.account_id}").status_code == 200


@pytest.mark.parametrize(
    ("host", "audience"),
    [
        ("dashboard.farm.example", "api.farm.example"),
        ("farm.example:8443", "farm.example:8443"),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
    ],
)
def test_the_audience_is_the_host_as_the_client_names_its_api(
    studio: Studio, host: str, audience: str
) -> None:
    granted = exchange(studio, a_key(studio), host)
    assert isinstance(granted, dict)
    assert claims_of(granted["access_token"])["aud"] == audience


@pytest.mark.parametrize(
    "changed",
    [
        {"client_secret": "wrong"},
        {"client_secret": ""},
        {"client_id": ""},
        {"client_id": "nobody.k1"},
        {"client_id": "a/b/c.k1"},
    ],
)
def test_a_wrong_key_is_refused(studio: Studio, changed: dict[str, str]) -> None:
    assert exchange(studio, a_key(studio), **changed) == 401


def test_another_grant_is_refused(studio: Studio) -> None:
    assert exchange(studio, a_key(studio), grant_type="password") == 422


def test_the_secret_is_in_no_log(studio: Studio, caplog: pytest.LogCaptureFixture) -> None:
    key = a_key(studio)
    exchange(studio, key)
    exchange(studio, key, client_id="nobody.k1")
    assert key.private_key not in caplog.text


def test_a_revoked_key_is_refused(studio: Studio) -> None:
    key = a_key(studio)
    revoke_key(key.client_id, wiring.now(), wiring.account_store())
    assert exchange(studio, key) == 401


def test_a_hash_is_worked_out_once_for_many_clients_at_once(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = a_key(studio)
    verified: list[str] = []
    check = sign_in._check_secret

    def counted(stored: ApiKey, secret: str) -> None:
        verified.append(secret)
        check(stored, secret)

    monkeypatch.setattr(sign_in, "_check_secret", counted)
    keys = ApiKeys(wiring.account_store(), wiring.now)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: keys.principal(key.client_id, key.private_key), range(64)))
    assert {each.account_id for each in found} == {studio.account_id}
    assert len(verified) == 1


def test_a_key_that_is_revoked_while_it_is_remembered_is_refused_at_once(studio: Studio) -> None:
    key = a_key(studio)
    assert isinstance(exchange(studio, key), dict)
    revoke_key(key.client_id, wiring.now(), wiring.account_store())
    assert exchange(studio, key) == 401


def test_a_remembered_secret_that_was_replaced_is_refused_at_once(studio: Studio) -> None:
    old = a_key(studio)
    assert isinstance(exchange(studio, old), dict)
    accounts = wiring.account_store()
    stored = accounts.api_key(old.client_id)
    accounts.save_api_key(replace(stored, secret_hash=secret_hash("another")))
    assert exchange(studio, old) == 401


def test_the_last_use_of_a_key_is_noted_once_a_minute(studio: Studio) -> None:
    key, start = a_key(studio), wiring.now()
    now = start
    keys = ApiKeys(wiring.account_store(), lambda: now)
    for seconds, noted in ((0, 0), (30, 0), (61, 61)):
        now = start + timedelta(seconds=seconds)
        keys.principal(key.client_id, key.private_key)
        used_at = wiring.account_store().api_key(key.client_id).used_at
        assert used_at == start + timedelta(seconds=noted)


def id_token_of(cloud: Mapping[str, str], email: str, password: str) -> str:
    host = cloud["FIREBASE_AUTH_EMULATOR_HOST"]
    url = f"http://{host}/identitytoolkit.googleapis.com/v1/accounts:signInWithPassword?key=any"
    body = {"email": email, "password": password, "returnSecureToken": True}
    return str(requests.post(url, json=body, timeout=30).json()["idToken"])


@pytest.fixture
def id_token(studio: Studio, cloud: Mapping[str, str]) -> str:
    """What the browser holds after somebody of the studio has signed in."""
    email = f"noa@{studio.account_id}.example"
    create_user(
        studio.account_id,
        email=email,
        role=Role.ADMINISTRATOR,
        projects=(),
        password="correct horse",
        accounts=wiring.account_store(),
        identity=wiring.identity(),
    )
    return id_token_of(cloud, email, "correct horse")


def redirected(studio: Studio, id_token: str, redirect_uri: str = REDIRECT) -> tuple[int, str]:
    asked = json.dumps({"id_token": id_token, "redirect_uri": redirect_uri})
    reply = studio.web.post("/api/client_token", data=asked)
    body: Any = reply.json
    return reply.status_code, body.get("redirect_to", "")


def test_a_sign_in_in_the_browser_ends_at_the_waiting_client(studio: Studio, id_token: str) -> None:
    status, target = redirected(studio, id_token)
    assert status == 200
    assert target.startswith(f"{REDIRECT}?")
    query = parse_qs(urlsplit(target).query)
    assert set(query) == {"access_token", "expires_in", "scope"}
    principal = wiring.tokens().read_client(query["access_token"][0])
    assert (principal.account_id, principal.role) == (studio.account_id, Role.ADMINISTRATOR)


@pytest.mark.parametrize(
    "target",
    [
        "https://localhost:8085/index.html",
        "http://localhost/index.html",
        "http://localhost:8085/other",
        "http://evil.example:8085/index.html",
        "http://localhost:8085@evil.example/index.html",
        "http://localhost:8085/index.html#x",
        "http://localhost:99999/index.html",
        "http://127.0.0.1.evil.example:80/index.html",
        "javascript:alert(1)",
    ],
)
def test_a_token_is_handed_to_nobody_but_this_machine(
    studio: Studio, id_token: str, target: str
) -> None:
    assert redirected(studio, id_token, target)[0] == 422


def test_a_client_on_the_loopback_address_is_served_too(studio: Studio, id_token: str) -> None:
    assert redirected(studio, id_token, "http://127.0.0.1:8085/index.html")[0] == 200


@pytest.mark.parametrize("id_token", ["nonsense", "a.b.c"])
def test_a_bad_sign_in_gives_no_token(studio: Studio, id_token: str) -> None:
    assert redirected(studio, id_token)[0] == 401


def test_somebody_without_an_account_gets_no_token(
    studio: Studio, cloud: Mapping[str, str]
) -> None:
    host = cloud["FIREBASE_AUTH_EMULATOR_HOST"]
    url = f"http://{host}/identitytoolkit.googleapis.com/v1/accounts:signUp?key=any"
    body = {
        "email": f"x@{studio.account_id}.example",
        "password": "stranger",
        "returnSecureToken": True,
    }
    stranger = requests.post(url, json=body, timeout=30).json()["idToken"]
    assert redirected(studio, stranger)[0] == 401


def test_the_dashboards_own_token_opens_the_account_too(studio: Studio, id_token: str) -> None:
    studio.headers = {"Authorization": f"Bearer {id_token}"}
    assert studio.get("/api/v1/projects/").status_code == 200


def test_without_a_key_the_sign_in_page_is_served_and_stored_nowhere(studio: Studio) -> None:
    reply = studio.web.get(
        f"/api/oauth_jwt?redirect_uri={REDIRECT}&scope=user&response_type=client_token"
    )
    assert (reply.status_code, reply.mimetype) == (200, "text/html")
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Frame-Options"] == "DENY"
