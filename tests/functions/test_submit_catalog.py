"""What a client reads when it connects."""

from collections.abc import Callable

import pytest

from shared import wiring
from shared.models.account import Project, Role, User
from tests.functions.conftest import Studio, check_golden


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
        ("cpu=gte:32:int", ["cpu-32-128", "cpu-60-240"]),
        ("cpu=gt:8:int,cpu=lt:32:int,memory=eq:64:int", ["cpu-16-64"]),
        ("gpu.gpu_count=eq:1:int", ["gpu-8-32-l4"]),
        ("gpu.gpu_count=gte:1:int,operating_system=ne:windows", ["gpu-8-32-l4"]),
        ("cores%3Dlte%3A2%3Aint", ["cpu-2-8"]),
        ("name=eq:cpu-4-16", ["cpu-4-16"]),
        ("operating_system=eq:windows", []),
        ("colour=eq:red", []),
    ],
)
def test_a_filter_narrows_the_instance_types(studio: Studio, terms: str, names: list[str]) -> None:
    found = studio.get(f"/api/v1/instance-types?filter={terms}").json["data"]
    assert [each["name"] for each in found] == names


@pytest.mark.parametrize("terms", ["cpu", "cpu=8", "cpu=near:8:int", "cpu=gte:many:int", "=eq:1"])
def test_a_malformed_filter_is_refused(studio: Studio, terms: str) -> None:
    reply = studio.get(f"/api/v1/instance-types?filter={terms}")
    assert list(reply.json["error"]["fields"]) == ["filter"]


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
