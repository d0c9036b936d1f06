"""What a client reads when it connects."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import yaml

from shared import wiring
from shared.errors import Contended, InvalidRequest
from shared.models.account import InstanceType, Package, Project, Provider, Role, User, Variable
from shared.services.catalog import compare_catalog, load_catalog, sound_catalog
from shared.stores.catalog import FirestoreCatalogStore
from tests.functions.conftest import ROOT, Studio, submission
from tests.golden_files import check_golden


def shipped(name: str) -> list[dict[str, Any]]:
    """Return what a file of the shipped catalogue lists."""
    listed: list[dict[str, Any]] = yaml.safe_load((ROOT / "catalog" / f"{name}.yaml").read_text())
    return listed


TYPES = shipped("instance_types")
AMAZONS = [each for each in TYPES if each.get("provider") == "aws"]
PACKAGES = shipped("packages")


@pytest.mark.golden
def test_the_catalogue_is_what_the_clients_can_read(studio: Studio) -> None:
    assert studio.get("/api/v1/projects/").json == {"data": [{"name": "otter", "status": "active"}]}
    check_golden("instance_types", studio.get("/api/v1/instance-types?filter=").json)
    check_golden("packages", studio.get("/api/v1/ee/packages?all=true,").json)


def test_every_field_has_the_type_that_clients_need(studio: Studio) -> None:
    for each in studio.get("/api/v1/instance-types").json["data"]:
        assert isinstance(each["memory"], int | float)
        assert "gpu" in each
    packages = studio.get("/api/v1/ee/packages?all=true,").json["data"]
    for each in packages:
        versions = [each[f"{part}_version"] for part in ("major", "minor", "release", "build")]
        assert all(isinstance(version, str) for version in versions)
        assert isinstance(each["plugins"], list)
        assert all(set(v) == {"name", "value", "merge_policy"} for v in each["environment"])


@pytest.mark.parametrize(
    ("terms", "names"),
    [
        ("cores=eq:160:int", ["cpu-160-3844"]),
        ("cpu=gt:60:int,cpu=lt:80:int,memory=eq:256:int", ["cpu-64-256"]),
        ("cpu=gte:60:int,cpu=lte:60:int", ["cpu-60-240"]),
        ("cpu=eq:160", ["cpu-160-3844"]),
        ("memory=gt:3000.5:float", ["cpu-160-3844"]),
        ("gpu.gpu_count=eq:8:int", ["gpu-96-384-l4x8", "gpu-96-680-a100x8"]),
        ("gpu.gpu_count=gte:1:int,operating_system=ne:windows,cores=lte:4:int", ["gpu-4-16-l4"]),
        ("gpu.gpu_model=eq:NVIDIA A100,cores=eq:12:int", ["gpu-12-85-a100"]),
        ("cores%3Dlte%3A1%3Aint", ["cpu-1-4"]),
        ("name=eq:cpu-4-16:str", ["cpu-4-16"]),
        ("name=eq:cpu-4-16,", ["cpu-4-16"]),
    ],
)
def test_a_filter_narrows_the_instance_types(studio: Studio, terms: str, names: list[str]) -> None:
    found = studio.get(f"/api/v1/instance-types?filter={terms}").json["data"]
    assert [each["name"] for each in found] == names


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ("cpu", "cpu"),
        ("cpu=8", "cpu=8"),
        ("cpu=near:8:int", "cpu=near:8:int"),
        ("cpu=gte:many:int", "many"),
        ("cpu=gte:8:int,memory=gte:x:float", "x"),
        ("=eq:1", "=eq:1"),
        ("colour=eq:red", "colour"),
        ("gpu=eq:1", "gpu"),
        ("categories=eq:CPU", "categories"),
        ("name.first=eq:cpu", "name.first"),
        ("__class__=eq:1", "__class__"),
        ("cpu=eq:" + "9" * 5000 + ":int", "int"),
    ],
)
def test_a_malformed_filter_is_refused_by_its_term(studio: Studio, terms: str, named: str) -> None:
    reply = studio.get(f"/api/v1/instance-types?filter={terms}")
    assert reply.status_code == 422
    assert named in reply.json["error"]["fields"]["filter"]


@pytest.mark.parametrize("terms", ["operating_system=eq:windows", "cpu=gte:9999:int"])
def test_no_client_is_ever_given_an_empty_list_of_instance_types(
    studio: Studio, terms: str
) -> None:
    reply = studio.get(f"/api/v1/instance-types?filter={terms}")
    assert (reply.status_code, reply.json["error"]["code"]) == (404, "NotFound")


def test_a_plain_user_sees_their_own_projects_only(studio: Studio) -> None:
    accounts = wiring.account_store()
    for project in (Project(name="seal"), Project(name="gone", is_active=False)):
        accounts.save_project(studio.account_id, project)
    limited = User(user_id="kai", email="kai@x.example", role=Role.USER, projects=("seal",))
    accounts.save_user(studio.account_id, limited)
    everything = studio.get("/api/v1/projects/").json["data"]
    assert [each["name"] for each in everything] == ["otter", "seal"]
    studio.user_id = "kai"
    studio.sign_in(Role.USER)
    assert [each["name"] for each in studio.get("/api/v1/projects/").json["data"]] == ["seal"]


def test_environments_name_their_account_as_text(studio: Studio) -> None:
    (entry,) = studio.get("/api/v1/integrations/env-vars-configs").json["data"]
    assert entry == {"account_id": studio.account_id, "env": []}


def test_an_accounts_variable_joins_the_list_that_packages_make_of_it(studio: Studio) -> None:
    accounts = wiring.account_store()
    variables = tuple(
        Variable(name=name, value="/studio", merge_policy="exclusive") for name in ("PATH", "SHOW")
    )
    account = accounts.account(studio.account_id)
    accounts.save_account(replace(account, environment=variables))
    (entry,) = studio.get("/api/v1/integrations/env-vars-configs").json["data"]
    policies = {each["name"]: each["merge_policy"] for each in entry["env"]}
    assert policies == {"PATH": "append", "SHOW": "exclusive"}


@pytest.fixture
def reloaded(cloud: Mapping[str, str]) -> Iterator[FirestoreCatalogStore]:
    """The catalogue, to be replaced as one likes: it is as shipped again afterwards."""
    yield wiring.catalog_store()
    load_catalog(TYPES, PACKAGES, wiring.catalog_store())


def offered(studio: Studio) -> list[str]:
    return [each["name"] for each in studio.get("/api/v1/instance-types").json["data"]]


def move(studio: Studio, provider: Provider) -> None:
    accounts = wiring.account_store()
    accounts.save_account(replace(accounts.account(studio.account_id), provider=provider))


def test_an_account_is_offered_the_machines_of_its_provider_only(studio: Studio) -> None:
    assert not any("." in name for name in offered(studio))
    move(studio, Provider.AWS)
    assert offered(studio) == sorted(each["name"] for each in AMAZONS)


def test_an_account_of_a_provider_without_machines_is_told_so(
    studio: Studio, reloaded: FirestoreCatalogStore
) -> None:
    load_catalog([each for each in TYPES if each not in AMAZONS], PACKAGES, reloaded)
    move(studio, Provider.AWS)
    reply = studio.get("/api/v1/instance-types")
    assert (reply.status_code, reply.json["error"]["message"]) == (404, "no instance types yet")


def test_a_type_that_is_offered_no_more_stays_known_to_the_jobs_that_wait_for_it(
    studio: Studio, reloaded: FirestoreCatalogStore
) -> None:
    told = load_catalog(TYPES[1:], PACKAGES, reloaded)
    gone = TYPES[0]["name"]
    assert told.removed == (f"instance_types.{gone}",)
    assert gone not in offered(studio)
    assert studio.post("/jobs/", submission(instance_type=gone)).status_code == 422
    (kept,) = [each for each in reloaded.known_instance_types() if each.name == gone]
    assert (kept.is_offered, kept.machine_type) == (False, TYPES[0]["machine_type"])
    load_catalog(TYPES, PACKAGES, reloaded)
    assert gone in offered(studio)


def test_a_catalogue_is_loaded_whole_or_not_at_all(
    studio: Studio, reloaded: FirestoreCatalogStore
) -> None:
    before = studio.get("/api/v1/ee/packages").json, offered(studio)
    twice = [*PACKAGES, PACKAGES[0] | {"product": "another"}]
    with pytest.raises(InvalidRequest, match="two of that id"):
        load_catalog(TYPES[:20], twice, reloaded)
    with pytest.raises(InvalidRequest):
        compare_catalog(TYPES[:20], twice, reloaded)
    assert (studio.get("/api/v1/ee/packages").json, offered(studio)) == before


def test_a_comparison_tells_what_a_load_would_change_and_changes_nothing(
    studio: Studio, reloaded: FirestoreCatalogStore
) -> None:
    before = offered(studio)
    dearer = TYPES[0] | {"price_micros_per_minute": 1}
    told = compare_catalog([dearer, *TYPES[2:]], PACKAGES, reloaded)
    assert told.removed == (f"instance_types.{TYPES[1]['name']}",)
    price = TYPES[0]["price_micros_per_minute"]
    assert told.changed == {
        f"instance_types.{TYPES[0]['name']}": {"price_micros_per_minute": (price, 1)}
    }
    assert offered(studio) == before


def test_nobody_reads_half_of_one_catalogue_and_half_of_another(
    reloaded: FirestoreCatalogStore,
) -> None:
    def edition(name: str) -> tuple[list[InstanceType], list[Package]]:
        types, packages = sound_catalog(TYPES, PACKAGES)
        made = [replace(packages[0], package_id=f"{name}-{i:03d}") for i in range(250)]
        return [replace(each, description=f"{name} {each.name}") for each in types], made

    def write(name: str) -> int:
        store, done = FirestoreCatalogStore(wiring.firestore_client()), 0
        for _ in range(6):
            with suppress(Contended):
                store.save(*edition(name))
                done += 1
        return done

    def read(_: int) -> None:
        store = FirestoreCatalogStore(wiring.firestore_client())
        with suppress(Contended):
            first = {each.description.split()[0] for each in store.instance_types()}
            assert len(first) == 1
            found = {each.package_id.split("-")[0] for each in store.packages()}
            assert found == first
            assert len(store.packages()) == 250

    reloaded.save(*edition("a"))
    with ThreadPoolExecutor(8) as pool:
        written = [pool.submit(write, name) for name in ("a", "b")]
        list(pool.map(read, range(24)))
        assert sum(each.result() for each in written) >= 1


def test_an_account_tells_its_name_to_its_own_people_only(
    new_studio: Callable[[], Studio],
) -> None:
    mine, theirs = new_studio(), new_studio()
    reply = mine.get(f"/api/v1/accounts/{mine.account_id}")
    assert reply.json == {"data": {"name": "Otterhaus"}}
    assert mine.get(f"/api/v1/accounts/{theirs.account_id}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/projects/",
        "/api/v1/instance-types",
        "/api/v1/ee/packages",
        "/api/v1/integrations/env-vars-configs",
        "/api/v1/accounts/x",
        "/api/v1/jobs",
    ],
)
def test_nobody_reads_without_a_token(studio: Studio, path: str) -> None:
    studio.headers = {}
    assert studio.get(path).status_code == 401


def test_trailing_slashes_are_as_the_clients_write_them(studio: Studio) -> None:
    assert studio.get("/api/v1/projects").status_code == 404
    assert studio.get("/api/v1/instance-types/").status_code == 404
    assert studio.post("/jobs", {}).status_code == 404
