"""Sign-in: by API key, and in the browser."""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import requests

from shared import wiring
from shared.errors import Unauthenticated
from shared.models.account import ApiKey, Principal, Project, Role, User
from shared.services import sign_in
from shared.services.administration import NewKey, create_key, create_user, revoke_key
from shared.services.sign_in import ApiKeys, new_secret, secret_hash
from shared.services.standing import KEPT, Standing
from shared.tally import tally
from shared.tokens import with_next_key, with_next_key_signing
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
        ("dashboard.farm.example:8443, proxy.example", "api.farm.example:8443"),
    ],
)
def test_the_audience_is_the_host_as_the_client_names_its_api(
    studio: Studio, host: str, audience: str
) -> None:
    granted = exchange(studio, a_key(studio), host)
    assert isinstance(granted, dict)
    claims = claims_of(granted["access_token"])
    assert (claims["aud"], claims["account"]) == (audience, studio.account_id)


def test_without_a_proxy_the_audience_is_the_host_itself(studio: Studio) -> None:
    key = a_key(studio)
    query = {"grant_type": "client_credentials", "client_id": key.client_id}
    reply: Any = studio.web.get(
        "/api/oauth_jwt",
        query_string=query | {"client_secret": key.private_key},
        headers={"Host": "dashboard.farm.example:8443"},
    )
    assert claims_of(reply.json["access_token"])["aud"] == "api.farm.example:8443"


def test_no_cache_keeps_a_token(studio: Studio, id_token: str) -> None:
    key = a_key(studio)
    query = {"grant_type": "client_credentials", "client_id": key.client_id}
    by_key = studio.web.get(
        "/api/oauth_jwt", query_string=query | {"client_secret": key.private_key}
    )
    asked = json.dumps({"id_token": id_token, "redirect_uri": REDIRECT})
    in_browser = studio.web.post("/api/client_token", data=asked)
    for reply in (by_key, in_browser):
        assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "no-store")


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


def test_the_secret_is_in_no_log_and_no_refusal(
    studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    key = a_key(studio)
    exchange(studio, key)
    secret = key.private_key.splitlines()[-1]
    for changed in ({"client_id": "nobody.k1"}, {"client_secret": f"wrong {secret}"}):
        query = {"grant_type": "client_credentials", "client_id": key.client_id}
        query |= {"client_secret": key.private_key} | changed
        reply = studio.web.get("/api/oauth_jwt", query_string=query)
        assert secret not in reply.text
    assert secret not in caplog.text


def test_of_a_secret_only_a_slow_hash_is_stored(studio: Studio) -> None:
    key = a_key(studio)
    stored = wiring.firestore_client().document(
        f"accounts/{studio.account_id}/api_keys/{key.client_id}"
    )
    found = stored.get().to_dict() or {}
    # OWASP's least cost of argon2id: 19 MiB, two rounds, one thread.
    assert str(found["secret_hash"]).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert key.private_key not in str(found)
    assert key.private_key.splitlines()[-1] not in str(found)


def test_a_user_has_several_keys_and_the_end_of_one_is_not_that_of_another(studio: Studio) -> None:
    one, other = a_key(studio, "k1"), a_key(studio, "k2")
    revoke_key(one.client_id, wiring.now(), wiring.account_store())
    assert exchange(studio, one) == 401
    assert isinstance(exchange(studio, other), dict)


def principal_of(key: NewKey, studio: Studio, role: Role = Role.OWNER) -> Principal:
    return Principal(
        account_id=studio.account_id, user_id="ines", role=role, client_id=key.client_id
    )


class Clock:
    """A moment that a test moves on."""

    def __init__(self) -> None:
        self.at = wiring.now()

    def __call__(self) -> datetime:
        return self.at


def revoke(studio: Studio, key: NewKey) -> None:
    revoke_key(key.client_id, wiring.now(), wiring.account_store())


def disable(studio: Studio, _: NewKey) -> None:
    accounts = wiring.account_store()
    user = accounts.user(studio.account_id, "ines")
    accounts.save_user(studio.account_id, replace(user, is_active=False))


def remove(studio: Studio, _: NewKey) -> None:
    wiring.account_store().delete_user(studio.account_id, "ines")


def delete_key(studio: Studio, key: NewKey) -> None:
    path = f"accounts/{studio.account_id}/api_keys/{key.client_id}"
    wiring.firestore_client().document(path).delete()


@pytest.mark.parametrize("end", [revoke, disable, remove, delete_key])
def test_the_end_of_a_key_or_a_user_ends_the_tokens_within_seconds(
    studio: Studio, end: Callable[[Studio, NewKey], None]
) -> None:
    key, clock = a_key(studio), Clock()
    standing = Standing(wiring.account_store(), clock)
    assert standing.of(principal_of(key, studio)).role is Role.OWNER
    end(studio, key)
    clock.at += KEPT
    with pytest.raises(Unauthenticated):
        standing.of(principal_of(key, studio))
    assert timedelta(minutes=1) > KEPT


def test_a_call_whose_key_was_revoked_is_refused_within_a_minute(studio: Studio) -> None:
    key = a_key(studio)
    granted = exchange(studio, key)
    assert isinstance(granted, dict)
    studio.headers = {"Authorization": f"Bearer {granted['access_token']}"}
    assert studio.get("/api/v1/projects/").status_code == 200
    revoke(studio, key)
    deadline = time.monotonic() + 60
    while (status := studio.get("/api/v1/projects/").status_code) == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert status == 401


def test_a_call_reads_its_user_and_key_once_in_a_while_only(studio: Studio) -> None:
    key, clock = a_key(studio), Clock()
    standing = Standing(wiring.account_store(), clock)
    standing.of(principal_of(key, studio))
    tally.start()
    for _ in range(100):
        standing.of(principal_of(key, studio))
    assert (tally.read_count, tally.write_count) == (0, 0)
    clock.at += KEPT
    standing.of(principal_of(key, studio))
    assert (tally.read_count, tally.write_count) == (2, 0)


def test_a_token_of_an_owner_does_no_more_than_the_user_they_have_become(studio: Studio) -> None:
    accounts = wiring.account_store()
    accounts.save_project(studio.account_id, Project(name="seal"))
    limited = User(user_id="ines", email="i@x.example", role=Role.USER, projects=("seal",))
    accounts.save_user(studio.account_id, limited)
    assert [each["name"] for each in studio.get("/api/v1/projects/").json["data"]] == ["seal"]


def test_a_token_of_a_user_does_no_more_when_they_have_become_an_owner(studio: Studio) -> None:
    key = a_key(studio)
    standing = Standing(wiring.account_store(), wiring.now)
    assert standing.of(principal_of(key, studio, Role.USER)).role is Role.USER


def test_new_signing_keys_sign_nobody_out(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = wiring.setting("BATON_SIGNING_KEYS")
    prepared = with_next_key(ring, secret=new_secret(), now=wiring.now())
    promoted = with_next_key_signing(prepared)
    bearers = []
    try:
        for each in (ring, prepared, promoted):
            monkeypatch.setenv("BATON_SIGNING_KEYS", each)
            wiring.tokens.cache_clear()
            granted = exchange(studio, a_key(studio))
            assert isinstance(granted, dict)
            bearers.append(granted["access_token"])
            for bearer in bearers:
                studio.headers = {"Authorization": f"Bearer {bearer}"}
                assert studio.get("/api/v1/projects/").status_code == 200
    finally:
        wiring.tokens.cache_clear()
    signed_by = [jwt.get_unverified_header(str(each))["kid"] for each in bearers]
    assert signed_by[0] == signed_by[1] != signed_by[2]


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
    keys = ApiKeys(wiring.account_store(), wiring.standing())
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


def test_the_last_use_of_a_key_is_noted_every_few_minutes_also_by_its_tokens(
    studio: Studio,
) -> None:
    key, clock = a_key(studio), Clock()
    start = clock.at
    standing = Standing(wiring.account_store(), clock)
    for seconds, noted in ((0, 0), (30, 0), (280, 0), (301, 301), (400, 301)):
        clock.at = start + timedelta(seconds=seconds)
        standing.of(principal_of(key, studio))
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
        "http://user:secret@localhost:8085/index.html",
        "http://evil.example@localhost:8085/index.html",
        "http://localhost:8085\\\\@evil.example/index.html",
        "http:\\\\localhost:8085\\index.html",
        "http://localhost\\.evil.example:8085/index.html",
        "http://localhost:8085/index.html?next=http://evil.example",
        "http://localhost:8085/index.html/../../x",
        "http://localhost:8085/%69ndex.html",
        "http://localhost%2eevil.example:8085/index.html",
        "http://localhost%00.evil.example:8085/index.html",
        "http://localhost:8085/index.html\n",
        " http://localhost:8085/index.html",
        "http://localhost:8085/index.html\r\nLocation: http://evil.example",
        "http://localhost:0/index.html",
        "http://localhost:-1/index.html",
        "http://localhost:８０85/index.html",
        "http://[::1]:8085/index.html",
        "http://0.0.0.0:8085/index.html",
        "http://127.1:8085/index.html",
        "http://2130706433:8085/index.html",
        "http://localhost.:8085/index.html",
        "HTTP://localhost:8085/index.html",
        "//localhost:8085/index.html",
        "ftp://localhost:8085/index.html",
        "data:text/html,http://localhost:8085/index.html",
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


def test_somebody_who_was_removed_gets_no_token(studio: Studio, id_token: str) -> None:
    user_id = str(claims_of(id_token)["user_id"])
    wiring.account_store().delete_user(studio.account_id, user_id)
    assert redirected(studio, id_token)[0] == 401


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
