"""Users, roles, projects and who may use them, keys."""

import json
import stat
from pathlib import Path

import firebase_admin
import pytest
from firebase_admin import auth as firebase_auth

from shared import wiring
from shared.errors import Unauthenticated
from shared.models.account import Principal, Role
from shared.services.sign_in import ApiKeys
from shared.services.standing import Standing
from tests.tools.commands import password_file, refused, run, told
from tests.tools.conftest import Studio


def signs_in(key: dict[str, str]) -> Principal:
    """Sign in with an API key, as nobody who remembers anything."""
    accounts = wiring.account_store()
    verifier = ApiKeys(accounts, Standing(accounts, wiring.now))
    return verifier.principal(key["client_id"], key["private_key"])


def claims_of(user_id: str) -> dict[str, object]:
    wiring.identity()
    app = f"baton-{wiring.setting('GOOGLE_CLOUD_PROJECT')}"
    found = firebase_auth.get_user(user_id, app=firebase_admin.get_app(app))
    return dict(found.custom_claims) | {"disabled": found.disabled}


def test_users_are_listed_with_what_they_may_do(studio: Studio) -> None:
    studio.person("kai", "user", "otter")
    listed = {each["email"]: each for each in told("user", "list", studio.account_id)["users"]}
    assert listed[studio.email("ines")]["role"] == "owner"
    assert listed[studio.email("ines")]["is_limited"] is False
    kai = listed[studio.email("kai")]
    assert (kai["is_limited"], kai["projects"], kai["is_active"]) == (True, ["otter"], True)
    assert told("user", "show", studio.account_id, studio.email("kai")) == kai
    assert told("user", "show", studio.account_id, kai["user_id"]) == kai


def test_a_new_role_holds_for_the_sign_in_and_for_the_keys(studio: Studio) -> None:
    kai = studio.person("kai")
    key = told("key", "create", studio.account_id, kai)
    assert signs_in(key).role is Role.USER
    told("user", "role", "set", studio.account_id, studio.email("kai"), "admin")
    assert signs_in(key).role is Role.ADMINISTRATOR
    assert claims_of(kai)["role"] == "admin"


def test_an_account_keeps_an_owner(studio: Studio) -> None:
    owner = studio.email("ines")
    for words in (
        ("user", "role", "set", studio.account_id, owner, "user"),
        ("user", "disable", studio.account_id, owner, "--yes"),
        ("user", "remove", studio.account_id, owner, "--yes"),
    ):
        assert "only owner" in refused(*words)
    studio.person("kai", "owner")
    told("user", "remove", studio.account_id, owner, "--yes")
    assert "only owner" in refused(
        "user", "disable", studio.account_id, studio.email("kai"), "--yes"
    )


def test_who_is_disabled_is_out_until_enabled(studio: Studio) -> None:
    kai = studio.person("kai")
    key = told("key", "create", studio.account_id, kai)
    told("user", "disable", studio.account_id, kai, "--yes")
    with pytest.raises(Unauthenticated):
        signs_in(key)
    assert claims_of(kai)["disabled"] is True
    assert "disabled" in refused("key", "create", studio.account_id, kai)
    studio.person("kai", "admin")  # told once more what they may do, they stay out
    assert told("user", "show", studio.account_id, kai)["is_active"] is False
    told("user", "enable", studio.account_id, kai)
    assert signs_in(key).role is Role.ADMINISTRATOR


def test_who_is_removed_is_gone_with_all_keys(studio: Studio) -> None:
    kai = studio.person("kai")
    key = told("key", "create", studio.account_id, kai)
    assert told("user", "remove", studio.account_id, kai, "--yes")["removed"] == kai
    with pytest.raises(Unauthenticated):
        signs_in(key)
    (listed,) = told("key", "list", studio.account_id)["keys"]
    assert listed["revoked_at"] is not None
    assert f"has no user {kai}" in refused("user", "show", studio.account_id, kai)


def test_projects_are_archived_and_activated(studio: Studio) -> None:
    told("project", "archive", studio.account_id, "otter", "--yes")
    assert told("project", "list", studio.account_id)["projects"] == [
        {"project": "otter", "is_active": False}
    ]
    told("project", "activate", studio.account_id, "otter")
    assert told("project", "list", studio.account_id)["projects"][0]["is_active"] is True
    assert "has no project reef" in refused("project", "activate", studio.account_id, "reef")


def test_members_of_a_project_come_and_go(studio: Studio) -> None:
    told("project", "create", studio.account_id, "reef")
    kai = studio.person("kai", "user", "otter")

    def members() -> set[str]:
        found = told("project", "members", "list", studio.account_id, "reef")["members"]
        return {each["email"].split("@")[0] for each in found}

    assert members() == {"ines"}
    told("project", "members", "add", studio.account_id, "reef", kai)
    assert members() == {"ines", "kai"}
    assert claims_of(kai)["projects"] == ["otter", "reef"]
    told("project", "members", "remove", studio.account_id, "otter", kai)
    assert "only project" in refused("project", "members", "remove", studio.account_id, "reef", kai)
    assert members() == {"ines", "kai"}
    assert "every project" in refused(
        "project", "members", "remove", studio.account_id, "reef", studio.owner
    )


def test_a_user_is_limited_to_projects_and_let_go(studio: Studio) -> None:
    kai = studio.person("kai")
    words = ("user", "projects", "set", studio.account_id, kai)
    assert told(*words, "otter")["projects"] == ["otter"]
    assert claims_of(kai)["projects"] == ["otter"]
    assert "has no project reef" in refused(*words, "reef")
    assert told(*words, "--all")["is_limited"] is False
    assert "projects" not in claims_of(kai)


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [("kai", "correct horse", "email"), ("kai@x.example", "short", "password")],
)
def test_a_user_that_could_not_sign_in_is_refused_by_the_field(
    studio: Studio, email: str, password: str, field: str
) -> None:
    secret = password_file(studio.folder, password)
    words = ("user", "create", studio.account_id, email, "--password-file", secret)
    assert refused(*words).startswith(f"Error: {field}: ")


def test_a_password_is_asked_for_and_shown_nowhere(studio: Studio) -> None:
    result = run(
        "user", "create", studio.account_id, studio.email("kai"), "--json",
        says="correct horse\ncorrect horse\n",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "horse" not in result.output
    assert json.loads(result.stdout)["role"] == "user"


def test_keys_are_listed_with_their_last_use_and_never_with_their_secret(studio: Studio) -> None:
    key = told("key", "create", studio.account_id, studio.owner, "--name", "farm-room")
    (listed,) = told("key", "list", studio.account_id)["keys"]
    assert (listed["name"], listed["used_at"], listed["email"]) == (
        "farm-room",
        None,
        studio.email("ines"),
    )
    signs_in(key)
    result = run("key", "list", studio.account_id, "--json")
    assert json.loads(result.stdout)["keys"][0]["used_at"] is not None
    assert key["private_key"] not in result.output
    assert "secret_hash" not in result.output


def test_a_rotated_key_is_replaced_at_once_or_left_for_a_while(
    studio: Studio, tmp_path: Path
) -> None:
    first = told("key", "create", studio.account_id, studio.owner)
    second = told("key", "rotate", first["client_id"], "--keep-old", "--yes")
    assert signs_in(first).user_id == signs_in(second).user_id == studio.owner
    path = tmp_path / "key.json"
    third = told("key", "rotate", second["client_id"], "--output", path, "--yes")
    assert "private_key" not in third
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert signs_in(json.loads(path.read_text())).user_id == studio.owner
    with pytest.raises(Unauthenticated):
        signs_in(second)


def test_a_key_that_can_be_written_nowhere_is_not_made(studio: Studio, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "key.json"
    assert "--output" in refused("key", "create", studio.account_id, studio.owner, "--output", path)
    assert told("key", "list", studio.account_id)["keys"] == []


def test_a_key_that_cannot_be_made_leaves_the_old_file_alone(
    studio: Studio, tmp_path: Path
) -> None:
    path = tmp_path / "key.json"
    path.write_text("the old one")
    refused("key", "create", studio.account_id, "nobody", "--output", path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.glob(".key*")) == []


@pytest.mark.parametrize("words", [("revoke",), ("rotate",)])
def test_a_key_that_does_not_exist_is_told_in_a_sentence(
    studio: Studio, words: tuple[str, ...]
) -> None:
    assert refused("key", *words, "acme.none", "--yes") == "Error: there is no key acme.none\n"


@pytest.mark.parametrize(
    "words",
    [
        ("user", "disable", "{account}", "{kai}"),
        ("user", "remove", "{account}", "{kai}"),
        ("project", "archive", "{account}", "otter"),
        ("key", "revoke", "{key}"),
        ("key", "rotate", "{key}"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_what_destroys_asks_first(studio: Studio, words: tuple[str, ...]) -> None:
    kai = studio.person("kai")
    key = told("key", "create", studio.account_id, kai)["client_id"]
    named = [each.format(account=studio.account_id, kai=kai, key=key) for each in words]
    before = studio.farm.documents()
    for said in ("n\n", ""):  # no, and nobody there to answer
        assert run(*named, says=said).exit_code == 1
    assert studio.farm.documents() == before
    assert run(*named, says="y\n").exit_code == 0
    assert studio.farm.documents() != before


def test_signing_keys_change_in_two_steps_and_are_never_printed(tmp_path: Path) -> None:
    ring, first, second = (tmp_path / name for name in ("ring", "first", "second"))
    ring.write_text(f"old:{'s' * 48}\n")
    added = told("signing-keys", "add", ring, "--output", first)
    assert added["signing_key_id"] == "old"
    switched = told("signing-keys", "switch", first, "--output", second)
    assert switched["signing_key_id"] == added["verifying_key_ids"][0]
    assert switched["verifying_key_ids"] == ["old"]
    assert "s" * 48 not in json.dumps([added, switched])
    assert stat.S_IMODE(second.stat().st_mode) == 0o600
    assert "ring" in refused("signing-keys", "switch", second, "--output", first)


def test_a_ring_that_is_none_is_refused_without_being_shown(tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    ring.write_text("a-secret-without-an-id")
    said = refused("signing-keys", "add", ring, "--output", tmp_path / "out")
    assert "a-secret" not in said
    assert not (tmp_path / "out").exists()
