"""The function `submit` on real emulators, and a studio of its own for each test."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import functions_framework
import pytest
import requests
import yaml
from flask import Flask
from flask.testing import FlaskClient

from emulators.up.client import stack
from shared import wiring
from shared.models.account import Principal, Project, Role, User
from shared.services.administration import create_account
from shared.services.catalog import load_catalog
from tests.adapters import forget_adapters
from tests.functions.described import DescribedClient
from tests.golden_files import GOLDEN
from tests.md5 import md5_of

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024


@pytest.fixture(scope="session")
def cloud() -> Iterator[Mapping[str, str]]:
    """Firestore, Pub/Sub, Auth and storage for the whole run, with the starter catalogue loaded."""
    needed = ("firestore", "pubsub", "auth", "storage")
    with stack(only=needed) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.env.items():
            patch.setenv(name, value)
        patch.setenv("BATON_MULTIPART_THRESHOLD_BYTES", str(6 * MIB))
        patch.setenv("BATON_MULTIPART_PART_BYTES", str(5 * MIB))
        forget_adapters()
        load_catalog(
            yaml.safe_load((ROOT / "catalog" / "instance_types.yaml").read_text()),
            yaml.safe_load((ROOT / "catalog" / "packages.yaml").read_text()),
            wiring.catalog_store(),
        )
        yield running.env
    forget_adapters()


@pytest.fixture(scope="session")
def web(cloud: Mapping[str, str]) -> FlaskClient:
    """The function, called as functions-framework calls it."""
    create_app: Any = functions_framework.create_app
    app: Flask = create_app("submit", str(ROOT / "main.py"))
    app.test_client_class = DescribedClient
    return app.test_client()


@dataclass(kw_only=True)
class Studio:
    """An account of its own, with the project `otter`, and somebody who calls for it."""

    account_id: str
    web: FlaskClient
    role: Role = Role.OWNER
    user_id: str = "ines"
    headers: dict[str, str] = field(default_factory=dict)

    def sign_in(self, role: Role = Role.OWNER, lifetime: timedelta = timedelta(hours=1)) -> None:
        """Call as somebody of this role from now on."""
        principal = Principal(account_id=self.account_id, user_id=self.user_id, role=role)
        token = wiring.tokens().issue_client(principal, "localhost", wiring.now(), lifetime)
        self.headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **named: Any) -> Any:
        return self.web.get(path, headers=self.headers, **named)

    def post(self, path: str, body: object) -> Any:
        return self.web.post(path, headers=self.headers, data=json.dumps(body))

    def put(self, path: str, body: object) -> Any:
        return self.web.put(path, headers=self.headers, data=json.dumps(body))

    def upload(self, content: bytes, path: str = "/vol/otter/scene.ma") -> dict[str, Any]:
        """Upload a file as a client does, and return its entry in `upload_files`."""
        md5 = md5_of(content)
        offered = {"path": path, "hash": md5, "size": len(content)}
        reply = self.post("/api/v2/files/get_upload_urls", {"upload_files": [offered]})
        assert reply.status_code == 200, reply.text
        for each in reply.json["singlePartURLs"]:
            requests.put(
                each["preSignedURL"],
                data=iter([content]),
                headers={"Content-MD5": md5, "Content-Type": "application/octet-stream"},
                timeout=30,
            ).raise_for_status()
        return {"md5": md5, "destination": path, "st_size": len(content), "st_mode": 0o100644}

    def stored(self) -> tuple[list[str], list[str]]:
        """Return the ids of all jobs, and the names of all objects that belong to jobs."""
        jobs = [job.job_id for job in wiring.job_store().jobs_between(self.account_id, "", "")]
        return jobs, object_names(f"accounts/{self.account_id}/jobs/")


@pytest.fixture
def new_studio(web: FlaskClient) -> Callable[[], Studio]:
    """Makes accounts."""

    def make() -> Studio:
        account_id = f"studio-{uuid.uuid4().hex[:8]}"
        accounts = wiring.account_store()
        create_account(
            account_id, name="Otterhaus", max_instances=10, environment={}, accounts=accounts
        )
        accounts.save_project(account_id, Project(name="otter"))
        user = User(user_id="ines", email="ines@otter.example", role=Role.OWNER)
        accounts.save_user(account_id, user)
        made = Studio(account_id=account_id, web=web)
        made.sign_in()
        return made

    return make


@pytest.fixture
def studio(new_studio: Callable[[], Studio]) -> Studio:
    """One account."""
    return new_studio()


def object_names(prefix: str) -> list[str]:
    """Return the names of the stored objects that begin like this."""
    bucket = wiring.setting("BATON_BUCKET")
    url = f"{wiring.setting('STORAGE_EMULATOR_HOST')}/storage/v1/b/{bucket}/o"
    found = requests.get(url, params={"prefix": prefix}, timeout=30).json()
    return [each["name"] for each in found.get("items", [])]


def submission(name: str = "maya", **changed: Any) -> dict[str, Any]:
    """Return what a plugin sends, without files; None takes a key away."""
    body: dict[str, Any] = json.loads((GOLDEN / "submissions" / f"{name}.json").read_text())
    body |= changed
    return {key: value for key, value in body.items() if value is not None}
