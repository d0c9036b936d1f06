"""What the API's description promises holds, whatever is sent: no crash, and no answer that is not described."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import functions_framework
import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from emulators.gateway.hosting import load_hosting
from functions.submit.routes import ROUTES
from tests.functions.conftest import ROOT, Studio
from tests.functions.described import API
from tests.functions.frames import render, submit
from tools.openapi import DOCS, described

EXAMPLES = 10
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

# Wherever the studio that has a job is asked for one of these by name, it is the one that is there.
KNOWN: Mapping[str, Any] = {
    "job": "00001",
    "job_id": "00001",
    "jobid": "00001",
    "jobids": ["00001"],
    "upload_id": "00001",
    "download_id": "00001-000-1",
    "task": "000",
    "action": "hold",
    "taskids": ["000", "001"],
    "tids": ["0"],
    "project": "otter",
    "instance_type": "cpu-4-16",
    "output_path": "/vol/otter/renders",
    "tasks_data": [{"command": "render -s 1", "frames": "1"}],
    "software_package_ids": [],
}


@pytest.fixture(scope="session")
def served(web: FlaskClient) -> Callable[[str], Flask]:
    """The function that an address of the one host leads to."""
    hosting = load_hosting(ROOT / "firebase.json")
    create_app: Any = functions_framework.create_app
    apps: dict[str, Flask] = {
        "submit": web.application,
        "billing": create_app("billing", str(ROOT / "main.py")),
    }

    def app_of(path: str) -> Flask:
        rewrite = hosting.rewrite_of(path)
        assert rewrite is not None
        return apps[str(rewrite.service)]

    return app_of


@API.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_sent_the_answer_is_a_described_one(
    case: schemathesis.Case[Any], served: Callable[[str], Flask], studio: Studio
) -> None:
    if "%0A" in case.formatted_path:
        return  # functions-framework's own route has no lines in it: such a path never reaches us
    case.call_and_validate(app=served(case.path), headers=studio.headers, checks=CHECKS)


@pytest.fixture
def rendered(studio: Studio) -> Studio:
    """An account with the job that is known, of which one task has frames."""
    assert submit(studio) == KNOWN["job_id"]
    render(studio, KNOWN["job_id"], 0)
    return studio


@API.parametrize()
@settings(
    max_examples=EXAMPLES,
    phases=[Phase.generate],
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_sent_about_what_is_there_the_answer_is_a_described_one(
    case: schemathesis.Case[Any], served: Callable[[str], Flask], rendered: Studio
) -> None:
    case.path_parameters = with_known(case.path_parameters)
    case.query = with_known(case.query)
    if isinstance(case.body, dict):
        case.body = with_known(case.body)
    case.call_and_validate(app=served(case.path), headers=rendered.headers, checks=CHECKS)


def with_known(said: Mapping[str, Any]) -> dict[str, Any]:
    """Name what is there wherever something is named."""
    return {name: KNOWN.get(name, value) for name, value in said.items()}


def test_the_description_is_served_to_everybody(web: FlaskClient) -> None:
    reply = web.get("/api/openapi.json")
    assert reply.status_code == 200
    assert reply.headers["Cache-Control"] == "public, max-age=3600"
    assert reply.json == json.loads((DOCS / "openapi.json").read_text())


@pytest.mark.parametrize("name", ["openapi.json", "api.md"])
def test_the_pages_of_the_api_say_what_the_routes_say(name: str) -> None:
    assert (DOCS / name).read_text() == described()[name], "run: python -m tools.openapi"


def test_every_route_but_the_supervisors_is_described() -> None:
    assert [route.path for route in ROUTES.table if not route.answers] == ["/healthz"]


def test_every_call_needs_a_token_but_for_the_description_and_signing_in() -> None:
    free = {route.path for route in ROUTES.table if route.action is None}
    assert free == {"/healthz", "/api/openapi.json", "/api/oauth_jwt", "/api/client_token"}
