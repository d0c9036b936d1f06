"""A client to whom no answer may come that the API's description does not hold."""

import json
from typing import Any

import schemathesis
from flask.testing import FlaskClient
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.test import TestResponse

from tools.openapi import PUBLIC, described, url_template

API = schemathesis.openapi.from_dict(json.loads(described()["openapi.json"]))
ADDRESSES = Map(
    [Rule(route.path, methods=[route.method], endpoint=route) for route in PUBLIC],
    merge_slashes=False,
).bind("")


class DescribedClient(FlaskClient):
    """Checks each answer of a described route: its status, its content type, its body."""

    def open(self, *args: Any, **named: Any) -> TestResponse:
        """Call, and check the answer."""
        reply = super().open(*args, **named)
        check(reply)
        return reply


def check(reply: TestResponse) -> None:
    """Fail if the description does not hold this answer."""
    asked = reply.request
    try:
        route, _ = ADDRESSES.match("/" + asked.path.lstrip("/"), asked.method)
    except (NotFound, MethodNotAllowed, RequestRedirect):
        return
    operation = API[url_template(route)][route.method]
    told = f"{asked.method} {route.path} answered {reply.status_code} {reply.text[:1000]}"
    statuses = operation.definition.raw["responses"]
    assert str(reply.status_code) in statuses, f"{told}: described are {', '.join(statuses)}"
    try:
        operation.validate_response(reply)
    except Exception as error:
        raise AssertionError(f"{told}: not as functions/submit/routes.py describes it") from error
