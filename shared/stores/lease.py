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
        lease_id = uuid4().hex
        mine = {"lease_id": lease_id, "lease_until": now + self._lease, "again": False}
        for _ in range(_TRIES):
            found = self._documents.get([path])[0]
            try:
                if found is None:
                    self._documents.commit([Create(path=path, fields=mine)])
                    return lease_id, mine
                if found.fields.get("lease_id") == lease_id:
                    # The commit was carried out, only its answer was lost.
                    return lease_id, found.fields
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

    def give_back(self, path: str, lease_id: str, now: datetime) -> bool:
        """Return False, and keep the lease anew, when somebody asked for another round; True also when it was lost."""
        return not self._end(path, lease_id, now + self._lease)

    def release(self, path: str, lease_id: str) -> bool:
        """Give the lease back in any case; returns whether somebody asked for another round meanwhile."""
        return self._end(path, lease_id, None)

    def _end(self, path: str, lease_id: str, until: datetime | None) -> bool:
        """Return whether another round was asked for; then the lease is kept until `until`, if that is given."""
        again = False
        for _ in range(_TRIES):
            found = self._documents.get([path])[0]
            if found is None or found.fields.get("lease_id") != lease_id:
                return again and until is None
            # Also if it was asked for before a commit that was carried out while its answer was lost.
            again = again or bool(found.fields["again"])
            fields: dict[tuple[str, ...], Any] = {
                ("again",): False,
                ("lease_until",): until if again else None,
            }
            try:
                self._documents.commit([Update(path=path, fields=fields, version=found.version)])
                return again
            except FailedPrecondition:
                continue
        raise Contended(path)
