"""What download daemons may be handed, and what they hold, in Firestore.

Nothing is written when a task succeeds: jobs and pages with frames that nobody has fetched are found by their counts. A
page's leases are one document, which is there from the first one on.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from google.api_core.exceptions import AlreadyExists, FailedPrecondition
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.errors import Contended
from shared.models.download import DownloadLease
from shared.models.job import Job, JobRef
from shared.models.task import Page
from shared.stores import documents as docs
from shared.stores.jobs import tries
from shared.stores.wire import Create, Documents, Found, Update, stream
from shared.tally import tally

_KEPT = timedelta(days=7)


class FirestoreDownloadStore:
    """The DownloadStore of shared/ports.py."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._documents = Documents(client)

    def jobs(self, account_id: str, location: str, above: str, most: int) -> list[Job]:
        query = (
            self._client.collection(f"accounts/{account_id}/jobs")
            .where(filter=FieldFilter("location", "==", location))
            .where(filter=FieldFilter("has_frames", "==", True))
            .order_by("number")
        )
        if above:
            query = query.where(filter=FieldFilter("number", ">", int(above)))
        found = [each.to_dict() or {} for each in stream(query.limit(most))]
        tally.read_count += max(1, len(found))
        return [docs.job_from(each) for each in found]

    def pages(self, ref: JobRef, most: int) -> list[Page]:
        query = (
            self._client.collection(f"{docs.job_path(ref)}/pages")
            .where(filter=FieldFilter("counts.success", ">", 0))
            .order_by("counts.success", direction=firestore.Query.DESCENDING)
            .limit(most)
        )
        found = [each.to_dict() or {} for each in stream(query)]
        tally.read_count += max(1, len(found))
        return sorted((docs.page_from(each, None) for each in found), key=_number)

    def change_leases(
        self,
        ref: JobRef,
        page: int,
        change: Callable[[Mapping[str, DownloadLease]], Mapping[str, DownloadLease]],
        now: datetime,
    ) -> None:
        path = f"accounts/{ref.account_id}/downloads/{ref.job_id}-{page}"
        for _ in tries(path):
            found = self._documents.get([path])[0]
            leases = _leases(found)
            changed = change(leases)
            new = {name: each for name, each in changed.items() if leases.get(name) != each}
            if not new:
                return
            fields: dict[tuple[str, ...], Any] = {
                ("leases", name): asdict(each) for name, each in new.items()
            }
            fields[("expires_at",)] = now + _KEPT
            try:
                if found is None:
                    whole = {
                        "leases": {name: asdict(each) for name, each in new.items()},
                        "expires_at": now + _KEPT,
                    }
                    self._documents.commit([Create(path=path, fields=whole)])
                else:
                    update = Update(path=path, fields=fields, version=found.version)
                    self._documents.commit([update])
                return
            except (AlreadyExists, FailedPrecondition):
                continue
        raise Contended(path)


def _number(page: Page) -> int:
    return page.number


def _leases(found: Found | None) -> dict[str, DownloadLease]:
    said = found.fields["leases"] if found else {}
    return {name: DownloadLease(**each) for name, each in said.items()}
