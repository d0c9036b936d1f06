"""HTTP: routes, bodies, errors, pushed messages."""

import base64
import io
import json
import logging
from pathlib import Path
from typing import Any

import functions_framework
import pytest
from flask import Flask, Request, Response, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared import errors
from shared.core.permissions import Action
from shared.errors import (
    AttemptWithdrawn,
    BatonError,
    Conflict,
    Contended,
    Forbidden,
    InvalidRequest,
    InvalidTransition,
    NotFound,
    OutOfCapacity,
    PartlyRefused,
    StaleAttempt,
    TooLarge,
    TooManyRequests,
    Transient,
    Unauthenticated,
)
from shared.http import (
    Reply,
    Route,
    Routes,
    answer_push,
    bearer,
    check_schedule,
    read_json,
    status_of,
)

ROOT = Path(__file__).parents[1]
TOKEN = "push-token"
RAISED: dict[str, BatonError] = {
    "invalid": InvalidRequest({"project": "unknown: x"}),
    "unauthenticated": Unauthenticated("no token"),
    "forbidden": Forbidden("not yours"),
    "missing": NotFound("job 1"),
    "conflict": InvalidTransition("no"),
    "partly": PartlyRefused({"jobids.00002": "has ended"}),
    "often": TooManyRequests("too often", 2.1),
    "transient": OutOfCapacity("gce: https://compute.example/zone-a: none left"),
    "contended": Contended("accounts/otter/jobs/00001"),
}
SEEN: list[dict[str, Any]] = []


def view_raising(_: Request, name: str) -> Reply:
    raise RAISED[name]


def view_with_a_bug(_: Request) -> Reply:
    raise ZeroDivisionError("secret detail")


def expand(message: dict[str, Any]) -> None:
    SEEN.append(message)
    if message.get("job_id") == "gone":
        raise NotFound("job gone")
    if message.get("job_id") == "busy":
        raise Transient("busy")


def pushed(asked: Request, **_: str) -> Reply:
    return answer_push(asked, {"expand": expand}, TOKEN)


def scheduled(asked: Request) -> Reply:
    check_schedule(asked, TOKEN)
    return {}


ROUTES = Routes(
    [
        ("GET", "/plain", lambda _: {"ok": True}),
        ("GET", "/things/", lambda _: [1]),
        ("POST", "/echo", lambda asked: (read_json(asked, 1000), 201)),
        ("GET", "/things/<name>/parts", lambda _, name: {"name": name}),
        ("GET", "/raise/<name>", view_raising),
        ("GET", "/bug", view_with_a_bug),
        ("GET", "/bearer", lambda asked: {"token": bearer(asked)}),
        ("POST", "/projects/<project>/topics/<topic>", pushed),
        ("POST", "/tick", scheduled),
    ]
)


@pytest.fixture
def web() -> FlaskClient:
    SEEN.clear()
    app = Flask(__name__)
    app.url_map.merge_slashes = False

    @app.route("/", defaults={"path": ""}, methods=["GET", "POST", "PUT"])
    @app.route("/<path:path>", methods=["GET", "POST", "PUT"])
    def answer(path: str) -> Response:
        return ROUTES.answer(request)

    return app.test_client()


def _json(reply: TestResponse) -> Any:
    return reply.json


def push(web: FlaskClient, data: object, token: str = TOKEN, topic: str = "expand") -> int:
    body = {"message": {"data": base64.b64encode(json.dumps(data).encode()).decode()}}
    return web.post(f"/projects/p/topics/{topic}?token={token}", json=body).status_code


def all_errors() -> list[type[BatonError]]:
    return [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, BatonError)
    ]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_but_the_base_has_a_status(kind: type[BatonError]) -> None:
    if kind is BatonError:
        return
    has_fields = issubclass(kind, InvalidRequest | PartlyRefused)
    error = kind({"field": "wrong"}) if has_fields else kind("why")
    assert status_of(error) in range(400, 500) if issubclass(kind, errors.Rejected) else 503


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest({}), 422),
        (Unauthenticated(), 401),
        (Forbidden(), 403),
        (NotFound(), 404),
        (Conflict(), 409),
        (StaleAttempt(), 409),
        (AttemptWithdrawn(), 410),
        (TooLarge(), 413),
        (TooManyRequests(), 429),
        (OutOfCapacity(), 503),
    ],
)
def test_an_error_answers_with_its_nearest_ancestors_status(error: BatonError, status: int) -> None:
    assert status_of(error) == status


def test_a_view_answers_with_json_and_its_own_status(web: FlaskClient) -> None:
    assert web.get("/plain").json == {"ok": True}
    assert web.get("/things/a b/parts").json == {"name": "a b"}
    created = web.post("/echo", data=b'{"a":1}')
    assert (created.status_code, created.json) == (201, {"a": 1})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/things", 404),
        ("GET", "/plain/", 404),
        ("GET", "/nothing", 404),
        ("POST", "/plain", 405),
        ("GET", "/echo", 405),
    ],
)
def test_a_wrong_address_is_answered_with_json_and_never_a_redirect(
    web: FlaskClient, method: str, path: str, status: int
) -> None:
    reply = web.open(path, method=method)
    assert (reply.status_code, "Location" in reply.headers) == (status, False)
    assert _json(reply)["error"]["code"] in ("NotFound", "MethodNotAllowed")


def test_a_refusal_names_its_fields(web: FlaskClient) -> None:
    reply = web.get("/raise/invalid")
    assert reply.status_code == 422
    assert _json(reply)["error"]["fields"] == {"project": "unknown: x"}


def test_a_command_that_some_cannot_follow_names_them(web: FlaskClient) -> None:
    reply = web.get("/raise/partly")
    assert reply.status_code == 409
    assert _json(reply)["error"]["fields"] == {"jobids.00002": "has ended"}


def test_who_calls_too_often_is_told_when_to_call_again(web: FlaskClient) -> None:
    reply = web.get("/raise/often")
    assert (reply.status_code, reply.headers["Retry-After"]) == (429, "3")
    assert _json(reply)["error"] == {"code": "TooManyRequests", "message": "too often"}


def test_what_the_guard_refuses_never_reaches_its_view() -> None:
    seen: list[str] = []

    def guard(_: Request, route: Route) -> None:
        if route.action is not None:
            raise Forbidden("not you")

    def view(asked: Request) -> Reply:
        seen.append(asked.path)
        return {}

    routes = Routes(
        [Route("GET", "/closed", view, action=Action.READ), Route("GET", "/open", view)],
        guard=guard,
    )
    app = Flask(__name__)
    app.add_url_rule("/<path:path>", view_func=lambda path: routes.answer(request))
    web = app.test_client()
    assert [web.get(path).status_code for path in ("/closed", "/open")] == [403, 200]
    assert seen == ["/open"]


def test_a_refusal_is_one_line_of_json_in_the_log_without_the_query(
    web: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "baton")
    web.get("/raise/missing?client_secret=hush")
    (record,) = caplog.records
    line = json.loads(record.getMessage())
    assert (line["status"], line["code"], line["route"]) == (404, "NotFound", "/raise/<name>")
    assert "hush" not in record.getMessage()


@pytest.mark.parametrize(
    ("name", "code", "detail"),
    [
        ("transient", "OutOfCapacity", "https://compute.example"),
        ("contended", "Contended", "accounts/otter"),
    ],
)
def test_what_failed_on_our_side_is_told_in_general_words_and_logged_in_particular(
    web: FlaskClient, caplog: pytest.LogCaptureFixture, name: str, code: str, detail: str
) -> None:
    caplog.set_level(logging.WARNING, "baton")
    reply = web.get(f"/raise/{name}")
    assert (reply.status_code, _json(reply)["error"]) == (
        503,
        {"code": code, "message": "a service we depend on does not answer; try again"},
    )
    (record,) = caplog.records
    assert detail in json.loads(record.getMessage())["reason"]


def test_a_bug_is_logged_with_its_trace_and_told_to_nobody(
    web: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    reply = web.get("/bug")
    assert reply.status_code == 500
    assert "secret detail" not in reply.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"null", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(web: FlaskClient, body: bytes) -> None:
    reply = web.post("/echo", data=body)
    assert (reply.status_code, list(_json(reply)["error"]["fields"])) == (422, ["body"])


def test_a_body_over_the_limit_is_refused_whether_its_length_is_announced_or_not(
    web: FlaskClient,
) -> None:
    body = b'{"a":"' + b"x" * 2000 + b'"}'
    assert web.post("/echo", data=body).status_code == 413
    chunked = web.post(
        "/echo",
        input_stream=io.BytesIO(body),
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert chunked.status_code == 413


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer "])
def test_a_request_without_a_bearer_token_is_refused(web: FlaskClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    assert web.get("/bearer", headers=headers).status_code == 401


def test_a_bearer_token_is_read(web: FlaskClient) -> None:
    assert web.get("/bearer", headers={"Authorization": "Bearer abc"}).json == {"token": "abc"}


def test_a_pushed_message_reaches_the_handler_of_its_topic(web: FlaskClient) -> None:
    assert push(web, {"job_id": "1"}) == 204
    assert SEEN == [{"job_id": "1"}]


def test_a_message_that_can_never_succeed_is_acknowledged(web: FlaskClient) -> None:
    assert push(web, {"job_id": "gone"}) == 204
    assert push(web, {"job_id": "1"}, topic="unknown") == 204
    assert push(web, [1]) == 204


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"message":1}', b'{"message":{"data":"%"}}', b'{"message":{"data":""}}']
)
def test_a_malformed_message_is_acknowledged_and_reaches_nobody(
    web: FlaskClient, body: bytes
) -> None:
    reply = web.post(f"/projects/p/topics/expand?token={TOKEN}", data=body)
    assert (reply.status_code, SEEN) == (204, [])


def test_a_transient_fault_lets_the_message_come_again(web: FlaskClient) -> None:
    assert push(web, {"job_id": "busy"}) == 503


@pytest.mark.parametrize("token", ["", "wrong", "push-token2", "püsh"])
def test_a_push_without_the_shared_token_is_refused(web: FlaskClient, token: str) -> None:
    assert push(web, {"job_id": "1"}, token=token) == 403
    assert SEEN == []


def test_only_the_scheduler_may_call_a_schedule(web: FlaskClient) -> None:
    assert web.post("/tick").status_code == 403
    assert web.post("/tick", headers={"X-Baton-Token": "no"}).status_code == 403
    assert web.post("/tick", headers={"X-Baton-Token": TOKEN}).status_code == 200


@pytest.mark.parametrize("function", ["autoscale", "billing", "dispatch", "submit"])
@pytest.mark.parametrize("path", ["/a%0Ab", "/healthz%0A", "/robots.txt"])
def test_an_address_that_never_reaches_our_routes_is_answered_like_any_other(
    function: str, path: str
) -> None:
    create_app: Any = functions_framework.create_app
    app: Flask = create_app(function, str(ROOT / "main.py"))
    answer = app.test_client().get(path)
    assert answer.status_code == 404
    assert answer.json == {"error": {"code": "NotFound", "message": "no such address"}}
