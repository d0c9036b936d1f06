"""Tokens: whom they speak for, and what they can never be used as."""

from datetime import UTC, datetime, timedelta

import jwt
import pytest

from shared.errors import Unauthenticated
from shared.models.account import Principal, Role
from shared.models.job import AttemptRef
from shared.tokens import Tokens

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


@pytest.mark.parametrize("text", ["", "new", "new:short", f":{NEW}"])
def test_a_ring_without_a_good_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="signing key"):
        Tokens.parse(text)
