"""The administrator's command line, used as an administrator would."""

import json
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from shared import wiring
from shared.errors import Conflict
from shared.models.account import ApiKey, Role
from shared.services.administration import create_account, give_role, revoke_key
from shared.stores.accounts import FirestoreAccountStore
from tests.functions.conftest import ROOT, Studio
from tools.baton import baton

ORCHESTRATOR: dict[str, Any] = {
    "orchestrator_id": "nomad-1",
    "scheduler": "nomad",
    "scheduler_address": "http://127.0.0.1:4646",
    "fleet": "gce",
    "project": "farm",
    "region": "us-central1",
    "zones": {"us-central1-a": True, "us-central1-b": False},
    "boot_s": 30,
    "is_enabled": False,  # the other tests' jobs shall not be placed there
}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(baton, [str(each) for each in arguments])


def told(*arguments: str | Path) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.output))


def test_an_administrator_sets_up_a_studio_whose_key_opens_it(
    cloud: Mapping[str, str], studio: Studio, tmp_path: Path
) -> None:
    account_id = f"{studio.account_id}-new"
    (tmp_path / "password").write_text("correct horse\n")
    told("account", "create", account_id, "--name", "Reef", "--variable", "LIC=a=b")
    told("project", "create", account_id, "reef s01")
    user = told(
        "user", "create", account_id, f"kai@{account_id}.example", "--role", "owner",
        "--password-file", tmp_path / "password",
    )  # fmt: skip
    told("key", "create", account_id, user["user_id"], "--output", tmp_path / "key.json")
    assert stat.S_IMODE((tmp_path / "key.json").stat().st_mode) == 0o600
    key = json.loads((tmp_path / "key.json").read_text())
    query = {
        "grant_type": "client_credentials",
        "client_id": key["client_id"],
        "client_secret": key["private_key"],
    }
    granted: Any = studio.web.get("/api/oauth_jwt", query_string=query).json
    studio.headers = {"Authorization": f"Bearer {granted['access_token']}"}
    assert studio.get("/api/v1/projects/").json["data"][0]["name"] == "reef s01"
    assert studio.get("/api/v1/integrations/env-vars-configs").json["data"] == [
        {
            "account_id": account_id,
            "env": [{"name": "LIC", "value": "a=b", "merge_policy": "exclusive"}],
        }
    ]


def test_the_secret_of_a_key_is_stored_nowhere(studio: Studio) -> None:
    key = told("key", "create", studio.account_id, "ines")
    stored = wiring.account_store().api_key(key["client_id"])
    assert key["private_key"] not in repr(stored)
    assert stored.role is Role.OWNER


def test_a_key_is_for_an_existing_user_only(studio: Studio) -> None:
    result = run("key", "create", studio.account_id, "nobody")
    assert result.exit_code != 0
    assert "nobody" in result.output


def test_an_account_is_created_once(studio: Studio) -> None:
    result = run("account", "create", studio.account_id, "--name", "Other")
    assert (result.exit_code, "exists already" in result.output) == (1, True)
    assert wiring.account_store().account(studio.account_id).name == "Otterhaus"


def test_of_several_who_create_an_account_at_once_one_does(studio: Studio) -> None:
    account_id = f"{studio.account_id}-new"
    together = Barrier(8)

    def create(name: str) -> str:
        together.wait()
        try:
            return create_account(
                account_id,
                name=name,
                max_instances=10,
                environment={},
                accounts=wiring.account_store(),
            ).name
        except Conflict:
            return ""

    with ThreadPoolExecutor(8) as pool:
        (created,) = [name for name in pool.map(create, "ABCDEFGH") if name]
    assert wiring.account_store().account(account_id).name == created


class RevokedMeanwhile(FirestoreAccountStore):
    """Accounts of which somebody revokes every key as soon as it is listed."""

    def api_keys(self, account_id: str) -> list[ApiKey]:
        found = super().api_keys(account_id)
        for key in found:
            revoke_key(key.client_id, wiring.now(), self)
        return found


def test_a_key_that_is_revoked_while_its_user_gets_another_role_stays_revoked(
    studio: Studio,
) -> None:
    key = told("key", "create", studio.account_id, "ines")
    accounts = RevokedMeanwhile(wiring.firestore_client())
    user = accounts.user(studio.account_id, "ines")
    give_role(studio.account_id, replace(user, role=Role.USER), accounts)
    stored = accounts.api_key(key["client_id"])
    assert stored.role is Role.USER
    assert stored.revoked_at is not None


@pytest.mark.parametrize("account_id", ["A", "a/b", "-a", "a.b.c", "x" * 41, "a b c"])
def test_an_account_id_that_would_not_fit_everywhere_is_refused(
    cloud: Mapping[str, str], account_id: str
) -> None:
    assert run("account", "create", "--name", "x", "--", account_id).exit_code == 1


def test_somebody_belongs_to_one_account(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse")
    email = f"noa@{studio.account_id}.example"
    other = f"{studio.account_id}-b"
    told("account", "create", other, "--name", "B")
    told("user", "create", studio.account_id, email, "--password-file", tmp_path / "password")
    result = run("user", "create", other, email, "--password-file", tmp_path / "password")
    assert (result.exit_code, "another account" in result.output) == (1, True)


def test_a_catalogue_that_would_crash_a_client_replaces_nothing(
    cloud: Mapping[str, str], tmp_path: Path
) -> None:
    before = wiring.catalog_store().packages()
    packages = yaml.safe_load((ROOT / "catalog" / "packages.yaml").read_text())
    packages[0]["plugins"] = [packages[0]["package_id"]]
    (tmp_path / "packages.yaml").write_text(yaml.safe_dump(packages))
    types = (ROOT / "catalog" / "instance_types.yaml").read_text()
    (tmp_path / "instance_types.yaml").write_text(types)
    result = run("catalog", "load", tmp_path)
    field = f"packages.{packages[0]['package_id']}.plugins"
    assert (result.exit_code, field in result.output) == (1, True)
    assert wiring.catalog_store().packages() == before


def test_a_version_written_as_a_number_is_refused_by_its_place(
    cloud: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "packages.yaml").write_text(
        yaml.safe_dump(
            [{"package_id": "a", "product": "a", "platform": "linux", "major_version": 4}]
        )
    )
    types = (ROOT / "catalog" / "instance_types.yaml").read_text()
    (tmp_path / "instance_types.yaml").write_text(types)
    assert "packages.a.major_version" in run("catalog", "load", tmp_path).output


def test_a_catalogue_is_loaded_as_often_as_one_likes(cloud: Mapping[str, str]) -> None:
    count = len(yaml.safe_load((ROOT / "catalog" / "packages.yaml").read_text()))
    for _ in range(3):
        assert told("catalog", "load", ROOT / "catalog")["packages"] == count
    assert len(wiring.catalog_store().packages()) == count


def test_an_orchestrator_is_stored_as_its_file_says(
    cloud: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "o.yaml").write_text(yaml.safe_dump(ORCHESTRATOR))
    assert told("orchestrator", "save", tmp_path / "o.yaml")["zones"] == ORCHESTRATOR["zones"]
    stored = wiring.orchestrator_store().orchestrator("nomad-1")
    assert (stored.boot_s, stored.idle_s) == (30, 0)
    assert (stored.zones, stored.is_enabled) == (ORCHESTRATOR["zones"], False)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"zones": {}}, "zones"),
        ({"scheduler_address": "nomad"}, "scheduler_address"),
        ({"boots": 1}, "boots"),
        ({"instance_types": ["cpu-1000"]}, "instance_types"),
    ],
)
def test_a_wrong_orchestrator_is_refused_by_the_name_of_its_field(
    cloud: Mapping[str, str], tmp_path: Path, changed: dict[str, Any], name: str
) -> None:
    (tmp_path / "o.yaml").write_text(yaml.safe_dump(ORCHESTRATOR | changed))
    assert name in run("orchestrator", "save", tmp_path / "o.yaml").output
