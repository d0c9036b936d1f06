"""POST /jobs/: what is refused, by the name of its field and without a trace."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import wiring
from shared.http import BODY_LIMIT_BYTES
from shared.models.account import Package, Project, Provider, Variable
from shared.models.job import AttemptRef
from shared.schemas.bounded import MAX_COMPLAINTS
from shared.schemas.submission import MAX_FILES
from shared.stores.documents import job_fields
from tests.functions.conftest import ROOT, Studio, submission
from tests.functions.test_submit_jobs import submitted, the_job
from tests.md5 import md5_of

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"project": "nobody's"}, "project"),
    ({"project": "a/b/c"}, "project"),
    ({"project": None}, "project"),
    ({"instance_type": "cpu-1000"}, "instance_type"),
    ({"instance_type": None}, "instance_type"),
    ({"software_package_ids": ["maya-2025-linux", "wrong"]}, "software_package_ids"),
    ({"software_package_ids": "maya"}, "software_package_ids"),
    ({"tasks_data": []}, "tasks_data"),
    ({"tasks_data": None}, "tasks_data"),
    ({"tasks_data": {}}, "tasks_data"),
    ({"tasks_data": [{"command": "a", "frames": "1"}, 7]}, "tasks_data.1"),
    ({"tasks_data": [{"command": "", "frames": "1"}]}, "tasks_data.0.command"),
    ({"tasks_data": [{"command": "a" * 40_000, "frames": "1"}]}, "tasks_data.0.command"),
    ({"tasks_data": [{"command": "a"}]}, "tasks_data.0.frames"),
    ({"tasks_data": [{"command": "a", "frames": "1-"}]}, "tasks_data.0.frames"),
    ({"tasks_data": [{"command": "a", "frames": ""}]}, "tasks_data.0.frames"),
    ({"scout_frames": "first"}, "scout_frames"),
    ({"scout_frames": "1-10000000"}, "scout_frames"),
    ({"output_path": "/"}, "output_path"),
    ({"output_path": "X:"}, "output_path"),
    ({"output_path": "out/images"}, "output_path"),
    ({"output_path": "INVALID OUTPUT PATH"}, "output_path"),
    ({"output_path": ""}, "output_path"),
    ({"output_path": "/out/../.."}, "output_path"),
    ({"output_path": None}, "output_path"),
    ({"priority": "high"}, "priority"),
    ({"max_instances": -1}, "max_instances"),
    ({"autoretry_policy": {"preempted": {"max_retries": -1}}}, "autoretry_policy.preempted.max_retries"),
    ({"environment": {"A=B": "x"}}, "environment.A=B.key"),
    ({"environment": {"A": 1}}, "environment.A.value"),
    ({"environment": {str(n): "x" * 30_000 for n in range(9)}}, "environment"),
    ({"metadata": []}, "metadata"),
    ({"metadata": {str(n): "x" for n in range(101)}}, "metadata"),
    ({"metadata": {str(n): "x" * 1000 for n in range(66)}}, "metadata"),
    ({"metadata": {"shot": "x" * 1025}}, "metadata.shot.value"),
    ({"metadata": {"shot": None}}, "metadata.shot.value"),
    ({"metadata": {"x" * 129: ""}}, f"metadata.{'x' * 128}.key"),
    ({"metadata": {"__shot__": ""}}, "metadata.__shot__.key"),
    ({"job_title": "x" * 1001}, "job_title"),
    ({"max_instances": 2**63}, "max_instances"),
    ({"software_package_ids": ["x" * 201]}, "software_package_ids.0"),
    ({"notify": {"emails": "ines"}}, "notify.emails"),
    ({"notify": {"emails": ["ines@otter.example"] * 101}}, "notify.emails"),
    ({"notify": {"emails": ["ines@otter.example", "x" * 255]}}, "notify.emails.1"),
    ({"upload_files": [{"destination": "rel", "md5": md5_of(b""), "st_size": 0}]}, "upload_files.0.destination"),
    ({"upload_files": [{"destination": "/a", "md5": "0" * 32, "st_size": 0}]}, "upload_files.0.md5"),
    ({"upload_files": [{"destination": "/a", "md5": md5_of(b""), "st_size": "0"}]}, "upload_files.0.st_size"),
    ({"upload_files": [{"destination": "/a", "md5": md5_of(b"never sent"), "st_size": 10}]}, "upload_files.0.md5"),
    ({"upload_files": [{"destination": "/a", "md5": None, "st_size": 10}]}, "local_upload"),
    (
        {"upload_files": [{"destination": "/" + "a" * 4096, "md5": md5_of(b""), "st_size": 0}]},
        "upload_files.0.destination",
    ),
    ({"upload_files": [{"destination": "/a", "md5": md5_of(b""), "st_size": 2**63}]}, "upload_files.0.st_size"),
    ({"upload_files": [{"destination": "/a", "md5": md5_of(b""), "st_size": -1}]}, "upload_files.0.st_size"),
    ({"upload_files": {}}, "upload_files"),
    (
        {"upload_files": [{"destination": "C:/a/b/../../..", "md5": md5_of(b""), "st_size": 0}]},
        "upload_files.0.destination",
    ),
    ({"tasks_data": [{"command": "x", "frames": "1"}] * 100_001}, "tasks_data"),
    ({"tasks_data": [{"command": "x", "frames": "1" * 9000}]}, "tasks_data.0.frames"),
    ({"tasks_data": [{"command": "x", "frames": "٣"}]}, "tasks_data.0.frames"),
    ({"tasks_data": [{"command": "x", "frames": "9" * 5000}]}, "tasks_data.0.frames"),
    ({"tasks_data": [{"command": ["x"], "frames": "1"}]}, "tasks_data.0.command"),
    ({"tasks_data": [{"command": "x", "frames": 1}]}, "tasks_data.0.frames"),
    ({"priority": -1}, "priority"),
    ({"priority": 1001}, "priority"),
    ({"priority": 5.5}, "priority"),
    ({"autoretry_policy": {"preempted": {"max_retries": 1001}}}, "autoretry_policy.preempted.max_retries"),
    ({"autoretry_policy": "always"}, "autoretry_policy"),
    ({"autoretry_policy": {"preempted": {"standard_after": -1}}}, "autoretry_policy.preempted.standard_after"),
    (
        {"autoretry_policy": {"preempted": {"max_retries": 2, "standard_after": 8}}},
        "autoretry_policy.preempted.standard_after",
    ),
    ({"autoretry_policy": {"preempted": 3}}, "autoretry_policy.preempted"),
    ({"autoretry_policy": {"out_of_memory": {"max_retries": 11}}}, "autoretry_policy.out_of_memory.max_retries"),
    ({"autoretry_policy": {"out_of_memory": {"max_retries": "2"}}}, "autoretry_policy.out_of_memory.max_retries"),
    ({"autoretry_policy": {"out_of_memory": []}}, "autoretry_policy.out_of_memory"),
    ({"docker_image": "studio/maya:1"}, "docker_image"),
    ({"location": "x" * 201}, "location"),
    ({"location": "a\0b"}, "location"),
    ({"owner": "x" * 201}, "owner"),
    ({"project": "x" * 101}, "project"),
    ({"project": 7}, "project"),
    ({"preemptible": "perhaps"}, "preemptible"),
    ({"output_path": "/" + "a" * 4096}, "output_path"),
    ({"output_path": "//"}, "output_path"),
    ({"output_path": "C:renders"}, "output_path"),
    ({"output_path": "/out/a\nb"}, "output_path"),
    ({"environment": {"": "x"}}, "environment..key"),
    ({"environment": {"A": "x" * 40_000}}, "environment.A.value"),
    ({"software_package_ids": ["maya-2025-linux"] * 101}, "software_package_ids"),
    ({"scout_frames": "1:3"}, "scout_frames"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "name"), REFUSED, ids=lambda value: str(value)[:60])
def test_bad_input_is_refused_by_the_name_of_its_field_and_stores_nothing(
    studio: Studio, changed: dict[str, Any], name: str
) -> None:
    reply = studio.post("/jobs/", submission(**changed))
    assert reply.status_code == 422, reply.text
    assert name in reply.json["error"]["fields"]
    assert studio.stored() == ([], [])


def numbered(count: int) -> list[dict[str, str]]:
    return [{"command": "x", "frames": str(n)} for n in range(count)]


def test_too_many_scouts_are_refused_by_their_field_and_store_nothing(studio: Studio) -> None:
    asked = submission(tasks_data=numbered(1002), scout_frames="0-1000")
    reply = studio.post("/jobs/", asked)
    assert (reply.status_code, list(reply.json["error"]["fields"])) == (422, ["scout_frames"])
    assert studio.stored() == ([], [])


def test_the_largest_header_that_is_taken_fits_its_document_several_times(studio: Studio) -> None:
    widest = "\U0001f9a6"  # four bytes
    job_id = submitted(
        studio,
        tasks_data=numbered(20_000),
        scout_frames="19000-19999",
        job_title=widest * 1000,
        owner=widest * 200,
        location=widest * 200,
        output_path="/" + widest * 4095,
        metadata={f"{n:02}": "x" * 653 for n in range(100)},
        notify={"emails": [widest * 254] * 100},
    )
    job = the_job(studio, job_id)
    assert (len(job.scout_task_ids), len(job.metadata), len(job.blocks)) == (1000, 100, 20)
    assert len(json.dumps(job_fields(job), ensure_ascii=False, default=str).encode()) < 300_000


def test_only_the_first_faults_of_a_long_list_are_told(studio: Studio) -> None:
    unnamed = {f"{n}=": "" for n in range(100)}
    wrong = submission(notify={"emails": [7] * 100}, metadata=unnamed)
    fields = studio.post("/jobs/", wrong).json["error"]["fields"]
    assert len(fields) == 2 * MAX_COMPLAINTS


def test_a_body_is_full_before_a_job_has_too_many_files_as_the_clients_describe_them() -> None:
    (file, *_) = submission("clarisse-daemon")["upload_files"]
    told = file | {
        "destination": "/vol/otter/show/sh0042/tex/asset_00042.tx",
        "md5": md5_of(b"texture"),
        **dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), 1767000111.5338206),
        "st_ino": 12345678,
        "st_uid": 1002,
        "st_gid": 1002,
    }
    assert len(told["destination"]) == 41
    file_count = BODY_LIMIT_BYTES // len(f"{json.dumps(told)}, ")
    assert 105_000 < file_count < 110_000  # docs/operations.md tells
    needed = {name: told[name] for name in ("destination", "md5", "st_size")}
    assert MAX_FILES * len(f"{json.dumps(needed)}, ") < BODY_LIMIT_BYTES


def test_of_many_files_at_one_place_of_the_node_the_first_are_told(studio: Studio) -> None:
    files = [
        {"destination": "/tex/a", "md5": md5_of(f"{n}".encode()), "st_size": 1} for n in range(100)
    ]
    fields = studio.post("/jobs/", submission(upload_files=files)).json["error"]["fields"]
    assert len(fields) == MAX_COMPLAINTS


@pytest.mark.parametrize(
    "field",
    [
        "jobs.scout_task_ids", "jobs.metadata", "jobs.notify_emails", "jobs.title", "jobs.blocks",
        "jobs.blocked_instances", "jobs.larger", "jobs.orders", "jobs.placement",
        "pages.statuses", "pages.attempts", "pages.placed",
        "tasks.attempts", "tasks.command", "logs.lines",
    ],
)  # fmt: skip
def test_what_is_long_or_has_many_entries_is_in_no_index(field: str) -> None:
    overrides = json.loads((ROOT / "firestore.indexes.json").read_text())["fieldOverrides"]
    exempt = {f"{e['collectionGroup']}.{e['fieldPath']}" for e in overrides if not e["indexes"]}
    assert field in exempt


def test_all_that_is_wrong_is_told_at_once(studio: Studio) -> None:
    wrong = submission(output_path="/", tasks_data=[], priority="high")
    fields = studio.post("/jobs/", wrong).json["error"]["fields"]
    assert set(fields) == {"output_path", "tasks_data", "priority"}


def test_a_file_that_another_account_uploaded_is_not_in_the_store(
    new_studio: Callable[[], Studio],
) -> None:
    mine, theirs = new_studio(), new_studio()
    file = theirs.upload(b"their scene")
    reply = mine.post("/jobs/", submission(upload_files=[file]))
    assert list(reply.json["error"]["fields"]) == ["upload_files.0.md5"]


def test_a_file_with_another_size_than_the_stores_is_refused(studio: Studio) -> None:
    file = studio.upload(b"scene") | {"st_size": 6}
    fields = studio.post("/jobs/", submission(upload_files=[file])).json["error"]["fields"]
    assert list(fields) == ["upload_files.0.st_size"]


def test_two_files_that_would_be_one_on_the_node_are_refused(studio: Studio) -> None:
    files = [studio.upload(b"a", path="C:/tex/a.exr"), studio.upload(b"b", path="D:/tex/a.exr")]
    fields = studio.post("/jobs/", submission(upload_files=files)).json["error"]["fields"]
    assert list(fields) == ["upload_files.1.destination"]


def test_an_inactive_project_takes_no_jobs(studio: Studio) -> None:
    wiring.account_store().save_project(studio.account_id, Project(name="old", is_active=False))
    fields = studio.post("/jobs/", submission(project="old")).json["error"]["fields"]
    assert fields == {"project": "not active: old"}


def test_a_body_over_32_mb_is_refused(studio: Studio) -> None:
    body = json.dumps(submission()).encode()
    for size, status in ((BODY_LIMIT_BYTES, 201), (BODY_LIMIT_BYTES + 1, 413)):
        reply = studio.web.post("/jobs/", headers=studio.headers, data=body.ljust(size))
        assert reply.status_code == status
    assert len(studio.stored()[0]) == 1


@pytest.mark.parametrize("deep", [300, 100_000])
def test_a_body_that_is_nested_too_deeply_is_refused(studio: Studio, deep: int) -> None:
    body = json.dumps(submission(later_key="DEEP")).replace('"DEEP"', "[" * deep + "]" * deep)
    reply = studio.web.post("/jobs/", headers=studio.headers, data=body)
    assert (reply.status_code, '"fields":{"body"' in reply.text) == (422, True)
    assert studio.stored() == ([], [])


def test_packages_that_clients_could_not_merge_are_refused(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def a_package(package_id: str, policy: str) -> Package:
        path = Variable(name="LM", value=package_id, merge_policy=policy)
        return Package(
            package_id=package_id, product=package_id, platform="linux", environment=(path,)
        )

    packages = [a_package("one", "append"), a_package("two", "exclusive")]
    monkeypatch.setattr(wiring.catalog_store(), "packages", lambda: packages)
    reply = studio.post("/jobs/", submission(software_package_ids=["one", "two"]))
    assert reply.json["error"]["fields"] == {"software_package_ids": "cannot be used together: LM"}


def test_a_machine_of_another_provider_is_none_of_the_accounts(studio: Studio) -> None:
    accounts = wiring.account_store()
    account = accounts.account(studio.account_id)
    accounts.save_account(replace(account, provider=Provider.AWS))
    fields = studio.post("/jobs/", submission()).json["error"]["fields"]
    assert fields == {"instance_type": "unknown: cpu-16-64"}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
TASK = st.fixed_dictionaries({}, optional={"command": ANYTHING, "frames": ANYTHING})
FILE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("destination", "md5", "st_size", "st_mode"), ANYTHING)
)
SHAPED = {
    "tasks_data": st.lists(TASK | ANYTHING, max_size=3),
    "upload_files": st.lists(FILE | ANYTHING, max_size=3),
    "notify": st.fixed_dictionaries({"emails": ANYTHING}),
    "autoretry_policy": st.fixed_dictionaries({"preempted": ANYTHING, "out_of_memory": ANYTHING}),
    "environment": st.dictionaries(st.text(max_size=4), ANYTHING, max_size=3),
    "metadata": st.dictionaries(st.text(max_size=4), ANYTHING, max_size=3),
    "output_path": st.text(alphabet="aC:/\\. \0é\ud800", max_size=10),
    "scout_frames": st.text(alphabet="0123456789-x, ", max_size=10),
}
CHANGES = st.fixed_dictionaries(
    {}, optional={name: SHAPED.get(name, ANYTHING) | ANYTHING for name in submission()}
)


@given(changed=CHANGES)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_body_whatsoever_is_answered_as_a_fault_of_ours(
    studio: Studio, changed: dict[str, Any]
) -> None:
    body = submission() | changed
    reply = studio.post("/jobs/", body)
    assert reply.status_code in (201, 422), reply.text
    if reply.status_code == 422:
        assert reply.json["error"]["fields"]


@given(body=st.binary(max_size=40))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_bytes_whatsoever_are_answered_as_a_fault_of_ours(studio: Studio, body: bytes) -> None:
    for path in ("/jobs/", "/jobs_multi", "/tasks_multi"):
        method = "POST" if path == "/jobs/" else "PUT"
        reply = studio.web.open(path, method=method, headers=studio.headers, data=body)
        assert reply.status_code == 422, reply.text


@pytest.mark.parametrize("body", [b"", b"no json", b"[]"])
def test_a_body_that_is_no_json_object_is_refused(studio: Studio, body: bytes) -> None:
    assert studio.web.post("/jobs/", headers=studio.headers, data=body).status_code == 422


def test_without_a_good_token_nothing_is_taken(studio: Studio) -> None:
    attempt = AttemptRef(studio.account_id, "00001", "000", 1)
    foreign = wiring.tokens().issue_attempt(attempt, wiring.now())
    for token in (None, "nonsense", foreign):
        studio.headers = {"Authorization": f"Bearer {token}"} if token else {}
        assert studio.post("/jobs/", submission()).status_code == 401
    studio.sign_in(lifetime=timedelta(minutes=-1))
    assert studio.post("/jobs/", submission()).status_code == 401
    assert studio.stored() == ([], [])
