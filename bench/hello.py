"""The least that a function can do: the floor of M15."""

import functions_framework
from flask import Request


@functions_framework.http
def hello(_: Request) -> dict[str, str]:
    """Say hello."""
    return {"hello": "world"}
