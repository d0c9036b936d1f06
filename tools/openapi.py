"""Write docs/openapi.json and docs/api.md from routes, schemas and views: `python -m tools.openapi`."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields, validate

from functions.billing import main as billing
from functions.submit.routes import ROUTES
from shared.core.permissions import ALLOWED
from shared.http import Content, Route
from shared.models.account import Role
from shared.schemas.answers import RefusalSchema
from tools.states import table

DOCS = Path(__file__).parents[1] / "docs"
PUBLIC = [route for route in [*ROUTES.table, *billing.ROUTES.table] if route.answers]

REFUSALS: Mapping[int, str] = {
    401: "No valid token: none, a damaged one, or one that has expired.",
    403: "The token is good, but its role may not do this.",
    404: "There is no such thing in the caller's account.",
    409: "The present state does not allow this.",
    413: "The body, or a list in it, is longer than allowed.",
    422: "A field is wrong; `fields` says which and why.",
    429: "Too many calls: try again later.",
    503: "A provider or the database failed for now: try again later.",
}
_PARAMETER = re.compile(r"<(\w+)>")
_JSON = "application/json"


def operation_id(route: Route) -> str:
    """Return the name of what a route does: that of its view."""
    return route.view.__name__


def refusals(route: Route) -> list[int]:
    """Return the statuses of all refusals that a route may give."""
    found = {503, *route.refusals}
    if route.action is not None:
        found |= {401, 403, 429}
    if _PARAMETER.search(route.path):
        found.add(404)
    if route.body is not None:
        found |= {413, 422}
    if route.query is not None:
        found.add(422)
    return sorted(found)


def roles(route: Route) -> str:
    """Return who may."""
    if route.action is None:
        return "everybody, without a token"
    return ", ".join(role.value for role in Role if route.action in ALLOWED[role])


def url_template(route: Route) -> str:
    """Return the path as OpenAPI writes it."""
    return _PARAMETER.sub(r"{\1}", route.path)


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the OpenAPI document."""
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        title="Baton",
        version="1",
        openapi_version="3.1.0",
        info={"description": "What the clients of a render farm call. Every refusal has one body."},
        servers=[{"url": "/"}],
        plugins=[plugin],
    )
    converter: Any = plugin.converter
    converter.add_attribute_function(_pattern)
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    for status, text in REFUSALS.items():
        spec.components.response(
            HTTPStatus(status).phrase.replace(" ", ""),
            {"description": text, "content": {_JSON: {"schema": RefusalSchema}}},
        )
    for route in routes:
        operations = {route.method.lower(): _operation(route)}
        spec.path(path=url_template(route), operations=operations)
    found: dict[str, Any] = spec.to_dict()
    for (kind, *_), name in converter.refs.items():
        found["components"]["schemas"][name]["description"] = inspect.getdoc(kind)
    return found


def _schema_name(schema: type[Schema] | Schema) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema")


def _pattern(_: Any, field: fields.Field[Any], **__: Any) -> dict[str, str]:
    """marshmallow's patterns begin at the beginning by themselves, and end with Python's own sign."""
    for each in field.validators:
        if isinstance(each, validate.Regexp):
            pattern = str(each.regex.pattern).removesuffix(r"\Z")
            return {"pattern": f"^{pattern}$"}
    return {}


def _operation(route: Route) -> dict[str, Any]:
    summary, _, rest = inspect.cleandoc(route.view.__doc__ or "").partition("\n")
    operation: dict[str, Any] = {
        "operationId": operation_id(route),
        "tags": [route.view.__module__.rpartition(".")[2]],
        "summary": summary.removesuffix("."),
        "description": "\n\n".join(filter(None, [rest.strip(), f"Who may: {roles(route)}."])),
        "parameters": list(_parameters(route)),
        "responses": dict(_responses(route)),
        "security": [] if route.action is None else [{"token": []}],
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": dict([_content(route.body)])}
    return operation


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(route.path):
        yield {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
    if route.query is not None:
        yield {"in": "query", "schema": route.query}


def _responses(route: Route) -> Iterator[tuple[str, Any]]:
    for status, contents in route.answers.items():
        several = contents if isinstance(contents, tuple) else (contents,)
        yield (
            str(status),
            {"description": HTTPStatus(status).phrase, "content": dict(map(_content, several))},
        )
    for status in refusals(route):
        yield str(status), HTTPStatus(status).phrase.replace(" ", "")


def _content(content: Content) -> tuple[str, dict[str, Any]]:
    if isinstance(content, str):
        return content, {"schema": {"type": "string"}}
    return _JSON, {"schema": content}


def page(routes: Sequence[Route]) -> str:
    """Return the page of all routes."""
    rows = [
        [
            f"`{route.method} {url_template(route)}`",
            inspect.cleandoc(route.view.__doc__ or "").partition("\n")[0],
            roles(route),
            " ".join(map(str, [*route.answers, *refusals(route)])),
        ]
        for route in routes
    ]
    meanings = [[str(status), text] for status, text in REFUSALS.items()]
    return f"""# The API

Generated by `python -m tools.openapi`; a test keeps it true. The whole of it, with bodies and answers, is
[openapi.json](openapi.json), which every installation serves at `GET /api/openapi.json`.

Calls carry `Authorization: Bearer TOKEN`, with a token of `GET /api/oauth_jwt` or of the dashboard's sign-in. The
account is always the token's own. Every refusal has the body `{{"error": {{"code", "message", "fields"}}}}`; `fields`
is there where fields are wrong, and maps the path of each to the reason.

## Routes

{table(["call", "what it does", "who may", "answers"], rows)}

## Refusals

{table(["status", "meaning"], meanings)}
"""


def described() -> Mapping[str, str]:
    """Return the generated files by name."""
    description = json.dumps(document(PUBLIC), indent=1, ensure_ascii=False)
    return {"openapi.json": f"{description}\n", "api.md": page(PUBLIC)}


if __name__ == "__main__":
    for name, text in described().items():
        (DOCS / name).write_text(text)
