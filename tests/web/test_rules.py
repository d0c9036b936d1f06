"""firestore.rules on the real emulator: who may read what, and that nobody writes."""

from collections.abc import Callable

import pytest

from tests.web.farm_on_show import Farm, a_job
from tests.web.firestore_rest import Caller, Claims

OWN = "rules-own"
OTHER = "rules-other"

PEOPLE: dict[str, Claims | None] = {
    "owner": {"account": OWN, "role": "owner"},
    "administrator": {"account": OWN, "role": "admin"},
    "user": {"account": OWN, "role": "user"},
    "user of alpha": {"account": OWN, "role": "user", "projects": ["alpha"]},
    "user of nothing": {"account": OWN, "role": "user", "projects": []},
    "administrator of another account": {"account": OTHER, "role": "admin"},
    "somebody without a role": {"account": OWN},
    "somebody without an account": {"role": "owner"},
    "somebody whose account is a list": {"account": [OWN], "role": "owner"},
    "nobody": None,
}
ADMINISTRATORS = {"owner", "administrator"}
ALL_PROJECTS = ADMINISTRATORS | {"user"}
MEMBERS = ALL_PROJECTS | {"user of alpha", "user of nothing"}
OF_ALPHA = ALL_PROJECTS | {"user of alpha"}

READERS: dict[str, set[str]] = {
    "": MEMBERS,
    "/projects/alpha": OF_ALPHA,
    "/projects/beta": ALL_PROJECTS,
    "/users/ada": ADMINISTRATORS,
    "/ledger/00001-000-1": ADMINISTRATORS,
    "/days/2024-05-01": ADMINISTRATORS,
    "/jobs/00001": OF_ALPHA,
    "/jobs/00001/pages/0": OF_ALPHA,
    "/jobs/00001/tasks/000": OF_ALPHA,
    "/jobs/00001/logs/000-1-0": OF_ALPHA,
    "/jobs/00002": ALL_PROJECTS,
    "/jobs/00002/pages/0": ALL_PROJECTS,
    "/jobs/00002/tasks/000": ALL_PROJECTS,
    "/jobs/00002/logs/000-1-0": ALL_PROJECTS,
    "/jobs/09999": MEMBERS,  # there is none
    "/jobs/00001/pages/99": MEMBERS,  # there is none
    "/jobs/00001/tasks/000/attempts/1": set(),
    "/api_keys/key": set(),
    "/submissions/digest": set(),
    "/state/admission": set(),
    "/state/budgets": set(),
    "/counters/jobs": set(),
    "/uploads/one": set(),
    "/downloads/one": set(),
}
OUTSIDE = ["orchestrators/nomad", "orchestrators/nomad/pools/one", "counters/jobs", "anything/else"]

LISTS: dict[str, set[str]] = {
    "jobs": ALL_PROJECTS,
    "jobs/00001/pages": ALL_PROJECTS,
    "jobs/00001/tasks": ALL_PROJECTS,
    "jobs/00001/logs": OF_ALPHA,
    "projects": ALL_PROJECTS,
    "days": ADMINISTRATORS,
    "users": ADMINISTRATORS,
    "ledger": ADMINISTRATORS,
    "api_keys": set(),
    "submissions": set(),
    "uploads": set(),
}


@pytest.fixture(scope="session")
def caller(firestore_host: str, farm: Farm) -> Callable[[str], Caller]:
    """The people who try, on a farm where everything that can be read is there."""
    for account_id in (OWN, OTHER):
        farm.add_account(account_id, "A studio")
        farm.add(a_job(account_id, "00001", project="alpha"))
        farm.add(a_job(account_id, "00002", project="beta"))
        for name in ("alpha", "beta"):
            project = farm.client.document(f"accounts/{account_id}/projects/{name}")
            project.set({"name": name, "is_active": True})
        for path in READERS:
            where = farm.client.document(f"accounts/{account_id}{path}")
            if (
                not path.startswith(("/jobs/09999", "/jobs/00001/pages/99"))
                and not where.get().exists
            ):
                where.set({"note": "private"})
    for path in [*OUTSIDE, "catalog/instance_types/entries/n1"]:
        farm.client.document(path).set({"note": "private"})

    def called(name: str) -> Caller:
        project_id = str(farm.client.project)
        return Caller(url=f"http://{firestore_host}", project_id=project_id, claims=PEOPLE[name])

    return called


@pytest.mark.parametrize("path", READERS)
def test_a_document_is_read_by_those_it_is_meant_for_and_by_nobody_else(
    caller: Callable[[str], Caller], path: str
) -> None:
    readers = {name for name in PEOPLE if caller(name).may_get(f"accounts/{OWN}{path}")}
    assert readers == READERS[path]


@pytest.mark.parametrize("path", LISTS)
def test_a_whole_collection_is_read_by_those_who_may_see_all_of_it(
    caller: Callable[[str], Caller], path: str
) -> None:
    readers = {name for name in PEOPLE if caller(name).may_list(f"accounts/{OWN}/{path}")}
    assert readers == LISTS[path]


@pytest.mark.parametrize("path", ["jobs", "jobs/00001/pages", "jobs/00001/tasks"])
def test_a_user_of_one_project_may_ask_for_that_one_and_no_other(
    caller: Callable[[str], Caller], path: str
) -> None:
    user = caller("user of alpha")
    assert user.may_list(f"accounts/{OWN}/{path}", where={"project": ["alpha"]})
    assert not user.may_list(f"accounts/{OWN}/{path}", where={"project": ["beta"]})
    assert not user.may_list(f"accounts/{OWN}/{path}", where={"project": ["alpha", "beta"]})


def test_a_user_of_one_project_may_narrow_its_jobs_by_status(
    caller: Callable[[str], Caller],
) -> None:
    narrowed = {"project": ["alpha"], "status": ["pending", "running"]}
    assert caller("user of alpha").may_list(f"accounts/{OWN}/jobs", where=narrowed)


@pytest.mark.parametrize("name", PEOPLE)
def test_nobody_reads_across_accounts(caller: Callable[[str], Caller], name: str) -> None:
    assert not caller(name).may_list("accounts")
    assert not caller(name).may_list("jobs", anywhere=True)
    assert not caller(name).may_list("tasks", anywhere=True)


@pytest.mark.parametrize("path", OUTSIDE)
def test_nobody_reads_what_belongs_to_no_account(
    caller: Callable[[str], Caller], path: str
) -> None:
    assert not any(caller(name).may_get(path) for name in PEOPLE)


def test_the_catalogue_is_read_by_the_members_of_any_account(
    caller: Callable[[str], Caller],
) -> None:
    readers = {name for name in PEOPLE if caller(name).may_get("catalog/instance_types/entries/n1")}
    assert readers == MEMBERS | {"administrator of another account"}


@pytest.mark.parametrize("name", PEOPLE)
def test_nobody_writes_anything(caller: Callable[[str], Caller], name: str) -> None:
    paths = [f"accounts/{OWN}{path}" for path in READERS]
    for path in [*paths, *OUTSIDE, "catalog/instance_types/entries/n1"]:
        assert not caller(name).may_write(path), path
        assert not caller(name).may_delete(path), path
