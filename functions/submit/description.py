"""The description of the API. Who may: everybody; it holds nothing of any account."""

from functools import cache
from pathlib import Path

from flask import Request, Response

from shared.http import Reply

_FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


def openapi(_: Request) -> Reply:
    """Give the description of all that clients may call, as OpenAPI 3.1."""
    answer = Response(_content(), mimetype="application/json")
    answer.headers["Cache-Control"] = "public, max-age=3600"
    return answer


@cache
def _content() -> bytes:
    return _FILE.read_bytes()
