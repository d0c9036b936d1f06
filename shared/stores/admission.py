"""The account's list of active jobs, and the lease of its admission, in Firestore."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from google.cloud import firestore

from shared.models.job import JobRef
from shared.ports import Round
from shared.stores.lease import Lease
from shared.stores.wire import DELETED, Documents, Update, stream

# A round that was killed is made up for after this long. It starts nothing in the last part, which is as long as the
# database may take to answer what was begun before.
_LEASE_S = 60
_STARTS = timedelta(seconds=30)
# Under load each process asks again and again; what it heard serves for a moment, shorter than any message takes.
_HEARD_S = 0.025


class FirestoreAdmissionStore:
    """The AdmissionStore of shared/ports.py: one document an account."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._documents = Documents.shared(client)
        self._lease = Lease(self._documents, _LEASE_S)
        self._heard: dict[str, tuple[float, bool]] = {}

    def begin(self, account_id: str, now: datetime) -> Round | None:
        taken = self._lease.take(_path(account_id), now)
        if taken is None:
            return None
        lease_id, fields = taken
        return Round(
            account_id=account_id,
            lease_id=lease_id,
            until=now + _STARTS,
            job_ids=sorted(fields.get("jobs") or ()),
            has_backlog=bool(fields.get("has_backlog")),
        )

    def finish(self, done: Round, now: datetime) -> Round | None:
        if self._lease.give_back(_path(done.account_id), done.lease_id, now):
            return None
        job_ids = self.active_job_ids(done.account_id)
        return replace(done, until=now + _STARTS, job_ids=job_ids)

    def release(self, done: Round) -> bool:
        return self._lease.release(_path(done.account_id), done.lease_id)

    def note_backlog(self, account_id: str, has_backlog: bool) -> None:
        fields = {("has_backlog",): has_backlog}
        self._documents.commit([Update(path=_path(account_id), fields=fields, upsert=True)])
        self._heard.pop(account_id, None)

    def has_backlog(self, account_id: str) -> bool:
        asked_at = time.monotonic()
        heard_at, has_backlog = self._heard.get(account_id, (-math.inf, False))
        if asked_at - heard_at < _HEARD_S:
            return has_backlog
        found = self._documents.get_together([_path(account_id)])[0]
        has_backlog = bool(found and found.fields.get("has_backlog"))
        self._heard[account_id] = (asked_at, has_backlog)
        return has_backlog

    def activate(self, ref: JobRef) -> None:
        fields = {("jobs", ref.job_id): True}
        self._documents.commit([Update(path=_path(ref.account_id), fields=fields, upsert=True)])

    def strike(self, account_id: str, job_ids: Sequence[str]) -> None:
        fields = {("jobs", job_id): DELETED for job_id in job_ids}
        if fields:
            self._documents.commit([Update(path=_path(account_id), fields=fields, upsert=True)])

    def accounts(self) -> list[str]:
        found = stream(self._client.collection("accounts").select([]))
        return sorted(each.id for each in found)

    def active_job_ids(self, account_id: str) -> list[str]:
        found = self._documents.get([_path(account_id)], mask=["jobs"])[0]
        return sorted((found.fields.get("jobs") if found else None) or ())


def _path(account_id: str) -> str:
    return f"accounts/{account_id}/state/admission"
