"""Tokens: whom they speak for, and what they can never be used as."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import jwt
import pytest

from shared.errors import Unauthenticated
from shared.models.account import Principal, Role
from shared.models.job import AttemptRef
from shared.tokens import ATTEMPT_LIFETIME, Tokens, with_next_key, with_next_key_signing

OLD, NEW = "o" * 32, "n" * 32
INES = Principal(account_id="acme", user_id="ines", role=Role.USER)
ATTEMPT = AttemptRef("acme", "00012", "017", 2)
HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


def ring() -> Tokens:
    return Tokens.parse(f"new:{NEW}, old:{OLD}")


def test_a_client_token_names_account_user_and_role() -> None:
    token = ring().issue_client(INES, "api.farm.example", now(), HOUR)
    assert ring().read_client(token) == INES


def test_the_claims_are_what_the_clients_read() -> None:
    token = ring().issue_client(INES, "api.farm.example:8080", now(), HOUR)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["account"]) == ("api.farm.example:8080", "acme")
    assert len(token.split(".")) == 3


def test_a_token_remembers_the_api_key_that_it_was_given_for() -> None:
    by_key = replace(INES, client_id="acme.k1")
    token = ring().issue_client(by_key, "api.farm.example", now(), HOUR)
    assert ring().read_client(token) == by_key


def test_an_attempt_token_names_its_attempt() -> None:
    assert ring().read_attempt(ring().issue_attempt(ATTEMPT, now())) == ATTEMPT


def test_neither_token_can_be_used_as_the_other() -> None:
    with pytest.raises(Unauthenticated):
        ring().read_client(ring().issue_attempt(ATTEMPT, now()))
    with pytest.raises(Unauthenticated):
        ring().read_attempt(ring().issue_client(INES, "api.farm.example", now(), HOUR))


def test_a_token_signed_by_an_older_key_of_the_ring_is_still_good() -> None:
    token = Tokens.parse(f"old:{OLD}").issue_client(INES, "a", now(), HOUR)
    assert ring().read_client(token) == INES
    assert ring().has_signed(token)


def test_a_token_of_a_key_that_left_the_ring_is_refused() -> None:
    token = Tokens.parse(f"gone:{OLD}").issue_client(INES, "a", now(), HOUR)
    assert not ring().has_signed(token)
    with pytest.raises(Unauthenticated, match="not valid"):
        ring().read_client(token)


def test_an_expired_token_is_refused() -> None:
    long_ago = now() - timedelta(days=20)
    with pytest.raises(Unauthenticated, match="expired"):
        ring().read_client(ring().issue_client(INES, "a", long_ago, HOUR))
    with pytest.raises(Unauthenticated, match="expired"):
        ring().read_attempt(ring().issue_attempt(ATTEMPT, long_ago))


@pytest.mark.parametrize("token", ["", "abc", "a.b.c", "a.b", "....", "é.b.c"])
def test_what_is_no_token_is_refused(token: str) -> None:
    assert not ring().has_signed(token)
    with pytest.raises(Unauthenticated):
        ring().read_client(token)


def test_a_token_that_was_changed_or_not_signed_is_refused() -> None:
    claims = {"aud": "a", "account": "acme", "user": "x", "role": "owner", "exp": 4_000_000_000}
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": "new"})
    forged = jwt.encode(claims, "f" * 32, algorithm="HS256", headers={"kid": "new"})
    for token in (unsigned, forged):
        with pytest.raises(Unauthenticated):
            ring().read_client(token)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["a"], "account": "acme", "user": "x", "role": "owner"},
        {"aud": "a", "user": "x", "role": "owner"},
        {"aud": "a", "account": "acme", "user": "x", "role": "king"},
        {"account": "acme", "user": "x", "role": "owner"},
    ],
)
def test_a_token_that_lacks_a_claim_is_refused(claims: dict[str, object]) -> None:
    token = jwt.encode(claims | {"exp": 4_000_000_000}, NEW, "HS256", headers={"kid": "new"})
    with pytest.raises(Unauthenticated):
        ring().read_client(token)


@pytest.mark.parametrize("text", ["", "new", "new:short", f":{NEW}", f"a:{NEW},a:{OLD}"])
def test_a_ring_without_a_good_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="signing key"):
        Tokens.parse(text)


def test_a_ring_written_wrongly_is_refused_without_telling_a_secret() -> None:
    for text in (NEW, f"old:{OLD},{NEW}", "old:shortsecret"):
        with pytest.raises(ValueError, match="signing key") as refused:
            Tokens.parse(text)
        for secret in (NEW, OLD, "shortsecret"):
            assert secret not in str(refused.value)


def rotate(old_ring: str, at: datetime, secret: str) -> tuple[str, str]:
    """Return the two rings that follow a ring: with the next key, and with the next key signing."""
    prepared = with_next_key(old_ring, secret=secret, now=at)
    return prepared, with_next_key_signing(prepared)


def test_new_signing_keys_sign_nobody_out_whichever_ring_a_function_still_has() -> None:
    rings = [f"old:{OLD}", *rotate(f"old:{OLD}", now(), NEW)]
    for before, after in pairwise(rings):
        for signs, verifies in ((before, after), (after, before)):
            client = Tokens.parse(signs).issue_client(INES, "a", now(), HOUR)
            attempt = Tokens.parse(signs).issue_attempt(ATTEMPT, now())
            assert Tokens.parse(verifies).has_signed(client)
            assert Tokens.parse(verifies).read_client(client) == INES
            assert Tokens.parse(verifies).read_attempt(attempt) == ATTEMPT


def test_the_next_key_signs_only_once_every_function_knows_it() -> None:
    prepared, promoted = rotate(f"old:{OLD}", now(), NEW)
    signed_by = [
        jwt.get_unverified_header(Tokens.parse(each).issue_attempt(ATTEMPT, now()))["kid"]
        for each in (prepared, promoted)
    ]
    assert signed_by[0] == "old"
    assert signed_by[1] != "old"
    with pytest.raises(ValueError, match="signs already"):
        with_next_key_signing(promoted)


def test_a_key_leaves_the_ring_only_when_none_of_its_tokens_can_be_good() -> None:
    start = now() - timedelta(days=100)
    _, ring_text = rotate(f"old:{OLD}", start, NEW)
    soon = with_next_key(ring_text, secret="s" * 32, now=start + ATTEMPT_LIFETIME)
    late = with_next_key(ring_text, secret="l" * 32, now=start + 3 * ATTEMPT_LIFETIME)
    assert f"old:{OLD}" in soon.split(",")
    assert OLD not in late
    assert NEW in late
