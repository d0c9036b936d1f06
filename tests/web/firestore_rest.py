"""The Firestore emulator as a browser meets it: REST calls with a user's token, under the rules."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

Claims = Mapping[str, Any]


def unsigned_token(project_id: str, claims: Claims) -> str:
    """Return an id token with these claims, as the emulator accepts it: without a signature."""
    body = {
        "iss": f"https://securetoken.google.com/{project_id}",
        "aud": project_id,
        "sub": "someone",
        "user_id": "someone",
        "iat": 0,
        "exp": 4_000_000_000,
        **claims,
    }
    parts = ({"alg": "none", "typ": "JWT"}, body)
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return ".".join([part.decode() for part in encoded] + [""])


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Somebody with a browser; `claims` None is nobody who has signed in."""

    url: str
    project_id: str
    claims: Claims | None

    @property
    def _documents(self) -> str:
        return f"projects/{self.project_id}/databases/(default)/documents"

    def may_get(self, path: str) -> bool:
        """Tell whether the rules let one document be read; there may be none at the path."""
        return self._is_allowed("GET", f"{self._documents}/{path}")

    def may_write(self, path: str) -> bool:
        """Tell whether the rules let one document be set."""
        fields = {"fields": {"status": {"stringValue": "success"}}}
        return self._is_allowed("PATCH", f"{self._documents}/{path}", fields)

    def may_delete(self, path: str) -> bool:
        """Tell whether the rules let one document be deleted."""
        return self._is_allowed("DELETE", f"{self._documents}/{path}")

    def may_list(
        self, path: str, *, where: Mapping[str, Sequence[str]] | None = None, anywhere: bool = False
    ) -> bool:
        """Tell whether the rules let a collection be queried, each field of `where` being in its list."""
        parent, _, collection = path.rpartition("/")
        query: dict[str, Any] = {
            "from": [{"collectionId": collection, "allDescendants": anywhere}],
            "limit": 50,
        }
        if where:
            filters = [_in(field, values) for field, values in where.items()]
            query["where"] = {"compositeFilter": {"op": "AND", "filters": filters}}
        address = f"{self._documents}/{parent}".rstrip("/") + ":runQuery"
        return self._is_allowed("POST", address, {"structuredQuery": query})

    def _is_allowed(self, method: str, address: str, body: object = None) -> bool:
        headers = {}
        if self.claims is not None:
            headers["Authorization"] = f"Bearer {unsigned_token(self.project_id, self.claims)}"
        reply = requests.request(
            method, f"{self.url}/v1/{address}", headers=headers, json=body, timeout=20
        )
        if reply.status_code in (200, 404):
            return True
        assert reply.status_code == 403, reply.text
        return False


def _in(field: str, values: Sequence[str]) -> dict[str, Any]:
    wanted = {"arrayValue": {"values": [{"stringValue": value} for value in values]}}
    return {"fieldFilter": {"field": {"fieldPath": field}, "op": "IN", "value": wanted}}
