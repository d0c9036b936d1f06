"""Accounts are walls: what one asks with the ids of another is answered as if there were no such things at all."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import functions_framework
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared import wiring
from shared.models.account import Project
from tests.functions.conftest import MIB, ROOT, Studio, object_names
from tests.functions.everything import NAMED, OPEN, Call, Things, calls
from tests.functions.frames import render, submit
from tests.md5 import md5_of

SECRET = "Sardine"

NOBODYS = Things(
    account_id="studio-of-nobody",
    project="nobodys",
    job_id="00777",
    waiting_job_id="00778",
    location="nowhere",
    multipart_id="0" * 32,
    content=b"nobody has ever had these bytes",
)


@pytest.fixture(scope="session")
def billing(cloud: Mapping[str, str]) -> FlaskClient:
    """The function that answers what was used."""
    create_app: Any = functions_framework.create_app
    made: FlaskClient = create_app("billing", str(ROOT / "main.py")).test_client()
    return made


def send(call: Call, studio: Studio, billing: FlaskClient) -> TestResponse:
    """Make a call as somebody of a studio."""
    web = billing if call.url.startswith("/billing/") else studio.web
    method, _ = call.key
    return web.open(call.url, method=method, headers=studio.headers, data=call.data)


@pytest.fixture
def theirs(new_studio: Callable[[], Studio]) -> tuple[Studio, Things]:
    """A studio with something of everything, and what it is called."""
    studio = new_studio()
    accounts = wiring.account_store()
    account = accounts.account(studio.account_id)
    accounts.save_account(replace(account, name=SECRET))
    accounts.save_project(studio.account_id, Project(name="sardine"))
    content = b"the scene of Sardine, " + studio.account_id.encode()
    file = studio.upload(content)
    for _ in range(30):  # its ids shall be none of the other's
        wiring.job_store().allocate_job_id(studio.account_id)
    job_id = submit(studio, project="sardine", upload_files=[file], location="lisbon")
    render(studio, job_id, 0, 1)
    awaited = {"md5": None, "destination": "/in/scene.ma", "st_size": 5}
    waiting = submit(studio, upload_files=[awaited], local_upload=False, location="lisbon")
    large = {"path": "/large", "hash": md5_of(b"large"), "size": 6 * MIB}
    begun = studio.post("/api/v2/files/get_upload_urls", {"upload_files": [large]})
    return studio, Things(
        account_id=studio.account_id,
        project="sardine",
        job_id=job_id,
        waiting_job_id=waiting,
        location="lisbon",
        multipart_id=begun.json["multiPartURLs"][0]["uploadID"],
        content=content,
    )


@pytest.fixture
def mine(new_studio: Callable[[], Studio]) -> Studio:
    """Another studio, which has a job of its own."""
    studio = new_studio()
    submit(studio)
    return studio


def everything_of(account_id: str) -> tuple[dict[str, Any], list[str]]:
    """Return every document of an account by path, and the names of all its objects."""
    account = wiring.firestore_client().document(f"accounts/{account_id}")
    return dict(_below(account)), object_names(f"accounts/{account_id}/")


def _below(document: Any) -> Iterator[tuple[str, Any]]:
    yield document.path, document.get().to_dict()
    for collection in document.collections():
        for each in collection.stream():
            yield from _below(each.reference)


def without_ids(reply: TestResponse, things: Things) -> tuple[int, str]:
    """Return an answer without what it must repeat of the question, or makes anew each time."""
    text = re.sub(r'"https?://[^"]*"', '"URL"', reply.text)
    text = re.sub(r'("jobid":|"uri":)"[^"]*"', r"\1ID", text)
    size = f'"fileSize":{len(things.content)}'
    known = [things.account_id, things.project, things.job_id, things.waiting_job_id]
    known += [things.location, things.multipart_id, things.md5, size]
    for each in known:
        text = text.replace(each, "ID")
    return reply.status_code, text


def test_every_route_that_carries_a_token_is_tried() -> None:
    with_token = {key for key, route in NAMED.items() if route.action is not None}
    assert with_token == {call.key for call in calls(NOBODYS)}
    assert set(NAMED) - with_token == OPEN


def test_what_is_anothers_is_answered_as_what_does_not_exist(
    theirs: tuple[Studio, Things], mine: Studio, billing: FlaskClient
) -> None:
    studio, things = theirs
    before = everything_of(studio.account_id)
    for about_theirs, about_nothing in zip(calls(things), calls(NOBODYS), strict=True):
        reply = send(about_theirs, mine, billing)
        nothing = send(about_nothing, mine, billing)
        asked = f"{about_theirs} {about_theirs.url} {about_theirs.data}"
        assert without_ids(reply, things) == without_ids(nothing, NOBODYS), asked
        assert reply.status_code < 500, asked
        assert SECRET not in reply.text, asked
        assert studio.account_id not in reply.text or studio.account_id in about_theirs.url, asked
    assert everything_of(studio.account_id) == before


def test_the_same_calls_of_their_owner_find_what_is_theirs(
    theirs: tuple[Studio, Things], billing: FlaskClient
) -> None:
    studio, things = theirs
    found = {}
    for call, about_nothing in zip(calls(things), calls(NOBODYS), strict=True):
        if things.job_id not in call.url + str(call.data) or call.key[0] == "PUT":
            continue
        reply, nothing = send(call, studio, billing), send(about_nothing, studio, billing)
        found[call.url] = (reply.status_code, reply.text) != (nothing.status_code, nothing.text)
        assert reply.status_code < 300, reply.text
    assert len(found) >= 8
    silent = [url for url, is_other in found.items() if not is_other]
    # What daemons of old said went wrong is thanked for, whatever it is about.
    assert silent == [f"/downloads/{things.job_id}-000-1/fail"]


def test_no_byte_of_anothers_counts_as_held(theirs: tuple[Studio, Things], mine: Studio) -> None:
    _, things = theirs
    offered = {"path": "/a", "hash": things.md5, "size": len(things.content)}
    reply = mine.post("/api/v2/files/get_upload_urls", {"upload_files": [offered]})
    (url,) = reply.json["singlePartURLs"]
    assert f"accounts/{mine.account_id}/" in url["preSignedURL"].replace("%2F", "/")
