"""The least that a function can do which reads one document: the floor of M13."""

import os
from functools import cache

import functions_framework
from flask import Request
from google.cloud import firestore


@cache
def _client() -> firestore.Client:
    return firestore.Client(project=os.environ["GOOGLE_CLOUD_PROJECT"])


@functions_framework.http
def floor(_: Request) -> dict[str, str]:
    """Read the document and say its status."""
    found = _client().document(os.environ["FLOOR_DOCUMENT"]).get()
    return {"status": str(found.get("status"))}
