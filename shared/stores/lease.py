"""A lease on a document: one holder at a time, and no call for another round is ever lost."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from google.api_core.exceptions import AlreadyExists, FailedPrecondition

from shared.errors import Contended
from shared.stores.wire import Create, Documents, Update

_TRIES = 20


class Lease:
    """The right to be the only one at something. Fields used: `lease_id`, `lease_until`, `again`."""

    def __init__(self, documents: Documents, lease_s: int) -> None:
        self._documents = documents
        self._lease = timedelta(seconds=lease_s)

    def take(self, path: str, now: datetime) -> tuple[str, Mapping[str, Any]] | None:
        """Return the lease's id and the document's fields; None when it is taken: its holder will go round again."""
        for _ in range(_TRIES):
            found = self._documents.get([path])[0]
            lease_id = uuid4().hex
            mine = {"lease_id": lease_id, "lease_until": now + self._lease, "again": False}
            try:
                if found is None:
                    self._documents.commit([Create(path=path, fields=mine)])
                    return lease_id, mine
                until = found.fields.get("lease_until")
                is_taken = until is not None and until > now
                fields: dict[tuple[str, ...], Any] = {("again",): True}
                if not is_taken:
                    fields = {(name,): value for name, value in mine.items()}
                if not (is_taken and found.fields["again"]):
                    self._documents.commit(
                        [Update(path=path, fields=fields, version=found.version)]
                    )
                return None if is_taken else (lease_id, found.fields)
            except (AlreadyExists, FailedPrecondition):
                continue
        raise Contended(path)

    def give_back(self, path: str, lease_id: str) -> bool:
        """Return False, and keep the lease, when somebody asked for another round; True also when it was lost."""
        for _ in range(_TRIES):
            found = self._documents.get([path])[0]
            if found is None or found.fields.get("lease_id") != lease_id:
                return True
            again = bool(found.fields["again"])
            released: dict[tuple[str, ...], Any] = {("again",): False}
            if not again:
                released[("lease_until",)] = None
            try:
                self._documents.commit([Update(path=path, fields=released, version=found.version)])
                return not again
            except FailedPrecondition:
                continue
        raise Contended(path)
