"""Every call that carries a client's token, with the ids of whoever's things it shall be about."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from functions.billing.main import ROUTES as BILLING
from functions.submit.routes import ROUTES as SUBMIT
from shared.core.permissions import Action
from shared.http import Route
from tests.functions.conftest import submission
from tests.md5 import md5_of

NAMED = {(route.method, route.path): route for route in [*SUBMIT.table, *BILLING.table]}
# Pushes and schedules carry a shared token, these none: whoever asks learns nothing of any account.
OPEN = {
    ("GET", "/healthz"),
    ("GET", "/api/openapi.json"),
    ("GET", "/api/oauth_jwt"),
    ("POST", "/api/client_token"),
    ("POST", "/projects/<project>/topics/<topic>"),
    ("POST", "/rollup"),
    ("POST", "/measure"),
    ("POST", "/audit"),
}


@dataclass(frozen=True, kw_only=True)
class Things:
    """The ids of things, be they somebody's or nobody's."""

    account_id: str
    project: str
    job_id: str
    waiting_job_id: str
    location: str
    multipart_id: str
    content: bytes

    @property
    def md5(self) -> str:
        """The MD5 of a file, as the wire has it."""
        return md5_of(self.content)


@dataclass(frozen=True)
class Call:
    """One call of a route."""

    key: tuple[str, str]
    url: str
    body: object = None

    @property
    def route(self) -> Route:
        """What is called."""
        return NAMED[self.key]

    @property
    def action(self) -> Action:
        """What the caller's role must allow."""
        assert self.route.action is not None, "these calls carry a token"
        return self.route.action

    @property
    def data(self) -> str | None:
        """The body as it is sent."""
        return None if self.body is None else json.dumps(self.body)

    def __str__(self) -> str:
        return " ".join(self.key)


def calls(things: Things) -> list[Call]:
    """Return at least one call of each route that carries a token."""
    job, waiting = things.job_id, things.waiting_job_id
    found = [
        Call(("GET", "/api/v1/accounts/<account_id>"), f"/api/v1/accounts/{things.account_id}"),
        Call(("GET", "/api/v1/projects/"), "/api/v1/projects/"),
        Call(("GET", "/api/v1/instance-types"), "/api/v1/instance-types"),
        Call(("GET", "/api/v1/ee/packages"), "/api/v1/ee/packages"),
        Call(
            ("GET", "/api/v1/integrations/env-vars-configs"),
            "/api/v1/integrations/env-vars-configs",
        ),
        *_reads(job, things.project),
        *_submissions(things),
        *_commands(job),
        *_downloads(job, things.location),
        *_uploads(things, waiting),
        Call(("GET", "/billing/get_usage"), "/billing/get_usage"),
        Call(
            ("GET", "/billing/get_storage_usage"),
            "/billing/get_storage_usage?start=2026-01-01&end=2026-01-02",
        ),
        Call(("GET", "/billing/get_budgets"), "/billing/get_budgets"),
    ]
    return [each for each in found if each.key in NAMED]


def _reads(job: str, project: str) -> list[Call]:
    near = f"jid_gt_{int(job) - 1:05},jid_lt_{int(job) + 1:05}"
    return [
        *(
            Call(("GET", "/api/v1/jobs"), f"/api/v1/jobs?filter={quote(text)}")
            for text in ("", near, f"jid_eq_{job}", f"project_eq_{project}")
        ),
        Call(("GET", "/api/v1/jobs"), f"/api/v1/jobs?start_cursor={job}"),
        Call(("GET", "/api/v1/tasks"), f"/api/v1/tasks?filter=jid_eq_{job}"),
        Call(("GET", "/api/v1/tasks"), f"/api/v1/tasks?filter=jid_eq_{job}&start_cursor=1"),
        Call(("GET", "/get_log_file"), f"/get_log_file?job={job}&task=000&num_lines[]=0"),
    ]


def _submissions(things: Things) -> list[Call]:
    held = {"md5": things.md5, "destination": "/a", "st_size": len(things.content)}
    by_daemon = {"local_upload": False, "location": "nobody's"}
    return [
        Call(("POST", "/jobs/"), "/jobs/", submission(project=things.project)),
        Call(("POST", "/jobs/"), "/jobs/", submission(upload_files=[held])),
        Call(("POST", "/jobs/"), "/jobs/", submission(upload_files=[held]) | by_daemon),
    ]


def _commands(job: str) -> list[Call]:
    changes = {"changes": {"priority": 9}}
    return [
        *(
            Call(("PUT", "/jobs_multi"), "/jobs_multi", {"action": order, "jobids": [job]} | more)
            for order, more in (
                ("hold", {}),
                ("retry_sync", {}),
                ("reviewed", {}),
                ("edit", changes),
            )
        ),
        Call(
            ("PUT", "/tasks_multi"),
            "/tasks_multi",
            {"action": "retry_all", "jobid": job, "taskids": ["000"]},
        ),
    ]


def _downloads(job: str, location: str) -> list[Call]:
    key = ("POST", "/jobs/<job_id>/downloads")
    counts = {"bytes_downloaded": 0, "bytes_to_download": 0}
    told = {"download_id": f"{job}-000-1", "status": "downloaded", **counts}
    return [
        Call(key, f"/jobs/{job}/downloads?limit=50", {"tids": None}),
        Call(key, f"/jobs/{job}/downloads?limit=50&start_cursor=0", {"tids": ["000"]}),
        Call(("GET", "/downloads/next"), f"/downloads/next?count=5&location={quote(location)}"),
        Call(("GET", "/downloads/<job_id>"), f"/downloads/{job}?tid=000"),
        Call(("POST", "/downloads/<download_id>/fail"), f"/downloads/{job}-000-1/fail", "gone"),
        Call(("POST", "/downloads/status"), "/downloads/status", told),
    ]


def _uploads(things: Things, waiting: str) -> list[Call]:
    offered = {"path": "/a", "hash": things.md5, "size": len(things.content)}
    parts: Mapping[str, Any] = {
        "uploadID": things.multipart_id,
        "hash": md5_of(b"large"),
        "completedParts": [{"partNumber": 1, "etag": "x"}],
    }
    source = {"source": "/in/scene.ma", "md5": things.md5}
    done = {"upload_id": waiting, "status": "server_pending"}
    sent = {"upload_id": waiting, "transfer_size": 10, "bytes_transfered": 5}
    return [
        Call(
            ("POST", "/api/v2/files/get_upload_urls"),
            "/api/v2/files/get_upload_urls",
            {"upload_files": [offered], "project": None},
        ),
        Call(
            ("POST", "/api/v2/files/get_upload_urls"),
            "/api/v2/files/get_upload_urls",
            {"upload_files": [offered], "project": things.project},
        ),
        Call(
            ("POST", "/api/v2/files/multipart/complete"),
            "/api/v2/files/multipart/complete",
            parts,
        ),
        Call(
            ("PUT", "/uploads/client/next"),
            "/uploads/client/next",
            {"location": things.location},
        ),
        Call(("POST", "/uploads/<upload_id>/update"), f"/uploads/{waiting}/update", sent),
        Call(("POST", "/uploads/<upload_id>/fail"), f"/uploads/{waiting}/fail", "no disk"),
        Call(
            ("POST", "/uploads/<upload_id>/finish"),
            f"/uploads/{waiting}/finish",
            done | {"upload_files": {"/in/scene.ma": source}},
        ),
    ]
