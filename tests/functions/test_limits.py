"""Limits: who calls too often is told so, and nobody else feels it; no call of ours waits for ever."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from shared import wiring
from shared.errors import TooManyRequests, Unauthenticated
from shared.http import BODY_LIMIT_BYTES, MIB
from shared.models.account import Account, Principal, Role
from shared.services.administration import create_key
from shared.services.limits import (
    BURST_S,
    FAILURES_PER_CALLER,
    FAILURES_PER_KEY,
    Buckets,
    CallLimits,
    SignInLimits,
)
from tests.functions.conftest import ROOT, Studio, submission
from tests.md5 import md5_of

INES = Principal(account_id="acme", user_id="ines", role=Role.USER)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def nobody_has_called_yet(cloud: object) -> Iterator[None]:
    """Each test begins, and leaves, with full buckets."""
    for limits in (wiring.call_limits, wiring.sign_in_limits):
        limits.cache_clear()
    yield
    for limits in (wiring.call_limits, wiring.sign_in_limits):
        limits.cache_clear()


def slow_down(studio: Studio, requests_per_s: int) -> None:
    accounts = wiring.account_store()
    account = accounts.account(studio.account_id)
    accounts.save_account(replace(account, requests_per_s=requests_per_s))


def until_refused(call: Callable[[], Any], most: int = 100) -> Any:
    """Call until it is refused for its rate; returns the refusal."""
    for _ in range(most):
        reply = call()
        if reply.status_code == 429:
            return reply
    raise AssertionError(f"{most} calls have passed")


def test_who_calls_too_often_is_told_and_another_of_the_account_is_not(studio: Studio) -> None:
    slow_down(studio, 1)
    reply = until_refused(lambda: studio.get("/api/v1/projects/"))
    assert reply.json["error"]["code"] == "TooManyRequests"
    assert "more than 1 calls a second" in reply.json["error"]["message"]
    assert int(reply.headers["Retry-After"]) == 1
    assert studio.post("/jobs/", submission()).status_code == 429
    assert studio.stored() == ([], [])
    user = wiring.account_store().user(studio.account_id, "ines")
    wiring.account_store().save_user(studio.account_id, replace(user, user_id="kai"))
    studio.user_id = "kai"
    studio.sign_in()
    assert studio.get("/api/v1/projects/").status_code == 200


def test_sixty_four_clients_that_ask_for_urls_at_once_are_all_served(studio: Studio) -> None:
    def ask(number: int) -> list[int]:
        web = studio.web.application.test_client()
        replies = []
        for each in range(4):
            content = f"{number} {each}".encode()
            file = {"path": f"/tex/{number}.{each}", "hash": md5_of(content), "size": len(content)}
            asked = {"upload_files": [file], "project": None}
            replies.append(
                web.post(
                    "/api/v2/files/get_upload_urls", headers=studio.headers, data=json.dumps(asked)
                )
            )
        job = submission(job_title=f"take {number}")
        replies.append(web.post("/jobs/", headers=studio.headers, data=json.dumps(job)))
        return [reply.status_code for reply in replies]

    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(ask, range(64)))
    assert found == [[200, 200, 200, 200, 201]] * 64


def test_an_account_may_burst_and_then_goes_on_at_its_rate(clock: Clock) -> None:
    def account_of(account_id: str) -> Account:
        return Account(account_id=account_id, name="Acme", requests_per_s=2)

    limits = CallLimits(account_of, clock)
    for _ in range(int(2 * BURST_S)):
        limits.take(INES)
    with pytest.raises(TooManyRequests) as refused:
        limits.take(INES)
    assert refused.value.retry_after_s == pytest.approx(0.5)
    limits.take(replace(INES, client_id="acme.key"))
    limits.take(replace(INES, account_id="otter"))
    clock.now_s += 0.5
    limits.take(INES)


def test_the_quietest_are_forgotten_when_there_are_too_many(clock: Clock) -> None:
    buckets = Buckets(clock)
    for number in range(25_000):
        clock.now_s += 0.001
        buckets.note(number, FAILURES_PER_CALLER)
        buckets.check("somebody else", FAILURES_PER_KEY, "")
    assert len(buckets) <= 10_001


def fail(limits: SignInLimits, client_id: str, address: str) -> None:
    with pytest.raises(Unauthenticated), limits.attempt(client_id, address):
        raise Unauthenticated("wrong secret")


def test_sign_ins_that_fail_are_refused_after_a_few_and_pass_again_later(clock: Clock) -> None:
    limits = SignInLimits(clock)
    for _ in range(int(FAILURES_PER_CALLER.burst)):
        fail(limits, "acme.key", "10.0.0.1")
    with pytest.raises(TooManyRequests), limits.attempt("acme.key", "10.0.0.1"):
        pass
    for client_id, address in (("acme.other", "10.0.0.1"), ("acme.key", "10.0.0.2")):
        with limits.attempt(client_id, address):
            pass
    clock.now_s += 1 / FAILURES_PER_CALLER.per_s
    with limits.attempt("acme.key", "10.0.0.1"):
        pass


def test_one_machine_with_an_old_key_does_not_keep_its_studio_out(clock: Clock) -> None:
    limits = SignInLimits(clock)
    for _ in range(3600):  # an hour of a call each second
        clock.now_s += 1
        try:
            fail(limits, "acme.old", "10.0.0.1")
        except TooManyRequests:
            continue
    with limits.attempt("acme.new", "10.0.0.1"):
        pass


def test_guessing_from_many_addresses_ends_at_the_key(clock: Clock) -> None:
    limits = SignInLimits(clock)
    for number in range(int(FAILURES_PER_KEY.burst)):
        fail(limits, "acme.key", f"10.0.0.{number}")
    with pytest.raises(TooManyRequests), limits.attempt("acme.key", "10.0.1.1"):
        pass


def test_guessing_at_sign_in_is_answered_429_and_a_good_key_elsewhere_is_not(
    studio: Studio,
) -> None:
    key = create_key(
        studio.account_id,
        user_id="ines",
        key_id="k1",
        secret="s" * 40,
        now=wiring.now(),
        accounts=wiring.account_store(),
    )

    def sign_in(secret: str, address: str) -> Any:
        query = {
            "grant_type": "client_credentials",
            "client_id": key.client_id,
            "client_secret": secret,
        }
        seen = {"X-Forwarded-For": f"1.2.3.4, {address}"}
        return studio.web.get("/api/oauth_jwt", query_string=query, headers=seen)

    assert sign_in("wrong", "10.0.0.1").status_code == 401
    refused = until_refused(lambda: sign_in("wrong", "10.0.0.1"))
    assert int(refused.headers["Retry-After"]) >= 1
    assert sign_in(key.private_key, "10.0.0.1").status_code == 429
    assert sign_in(key.private_key, "10.0.0.2").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "limit_bytes"),
    [
        ("POST", "/jobs/", BODY_LIMIT_BYTES),
        ("PUT", "/jobs_multi", MIB),
        ("PUT", "/tasks_multi", MIB),
        ("POST", "/jobs/00001/downloads", 4 * MIB),
        ("POST", "/downloads/status", 4 * MIB),
        ("POST", "/api/v2/files/get_upload_urls", 4 * MIB),
        ("POST", "/api/v2/files/multipart/complete", 4 * MIB),
        ("PUT", "/uploads/client/next", MIB),
        ("POST", "/uploads/00001/update", MIB),
        ("POST", "/uploads/00001/finish", BODY_LIMIT_BYTES),
        ("POST", "/uploads/00001/fail", 4 * MIB),
        ("POST", "/api/client_token", MIB),
    ],
)
def test_a_body_that_is_too_large_is_refused_whatever_is_in_it(
    studio: Studio, method: str, path: str, limit_bytes: int
) -> None:
    body = b"{" + b" " * limit_bytes
    reply = studio.web.open(path, method=method, headers=studio.headers, data=body)
    assert (reply.status_code, '"TooLarge"' in reply.text) == (413, True)


def test_no_call_to_the_database_waits_for_ever() -> None:
    """By itself the client library tries for minutes; a request has one."""
    slow = re.compile(r"\.(stream|delete)\(\s*\)")
    found = [
        path.name
        for path in sorted((ROOT / "shared" / "stores").glob("*.py"))
        if slow.search(path.read_text())
    ]
    assert found == []


def test_nothing_is_ever_redirected(studio: Studio) -> None:
    for path in (
        "/jobs",
        "/api/v1/projects",
        "//api/v1/projects/",
        "/api//v1/projects/",
        "/jobs//",
    ):
        for method in ("GET", "POST", "PUT"):
            reply = studio.web.open(path, method=method, headers=studio.headers)
            assert reply.status_code < 300 or reply.status_code >= 400
            assert "Location" not in reply.headers
