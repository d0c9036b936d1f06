"""The ledger's sums and the days drawn from it, in Firestore."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Any

from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.models.job import JobRef
from shared.models.money import Ending, LedgerSums
from shared.models.task import Outcome
from shared.ports import LedgerPart, LedgerSpan
from shared.stores.wire import CALL_S, Documents, Update, reached, stream
from shared.tally import tally

_AT_ONCE = 8
_SUMMED = ("billed_minutes", "core_minutes", "cost_micros")


class FirestoreLedgerStore:
    """The LedgerStore of shared/ports.py."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._documents = Documents(client)

    def sums(self, account_id: str, parts: Sequence[LedgerPart]) -> list[LedgerSums]:
        """Count and add up at the server; a read-only transaction makes it one moment and locks nothing."""
        with self._moment() as moment, ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda part: self._sums(account_id, part, moment), parts))
        tally.read_count += sum(1 + each.attempt_count // 1000 for each in found)  # as it is billed
        return found

    @contextmanager
    def _moment(self) -> Iterator[firestore.Transaction]:
        moment = self._client.transaction(read_only=True)
        moment._begin()  # the library begins only what it runs itself
        try:
            yield moment
        finally:
            moment._rollback()

    def _sums(self, account_id: str, part: LedgerPart, moment: firestore.Transaction) -> LedgerSums:
        summed: Any = self._query(account_id, part).count(alias="attempt_count")
        for name in _SUMMED:
            summed = summed.sum(name, alias=name)
        with reached():
            (found,) = summed.get(transaction=moment, timeout=CALL_S)
        return LedgerSums(**{each.alias: int(each.value) for each in found})

    def spent(self, account_id: str, spans: Sequence[LedgerSpan]) -> list[int]:
        """Each span as of a moment of its own, after this call began."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda span: self._spent(account_id, span), spans))
        tally.read_count += sum(1 + count // 1000 for count, _ in found)  # as it is billed
        return [micros for _, micros in found]

    def _spent(self, account_id: str, span: LedgerSpan) -> tuple[int, int]:
        query: Any = self._client.collection(f"accounts/{account_id}/ledger")
        if span.project:
            query = query.where(filter=FieldFilter("project", "==", span.project))
        if span.first is not None:
            query = query.where(filter=FieldFilter("date", ">=", span.first.isoformat()))
        if span.before is not None:
            query = query.where(filter=FieldFilter("date", "<", span.before.isoformat()))
        with reached():
            (found,) = query.count("entries").sum("cost_micros", "micros").get(timeout=CALL_S)
        values = {each.alias: int(each.value) for each in found}
        return values["entries"], values["micros"]

    def values(self, account_id: str, day: date, name: str) -> list[str]:
        """Leap from each value to the next: one document read for each, however many entries have it."""
        entries = self._query(account_id, LedgerPart(day.isoformat())).order_by(name).limit(1)
        found: list[str] = []
        while True:
            rest = entries.start_after({name: found[-1]}) if found else entries
            tally.read_count += 1
            following = [str(each.get(name)) for each in stream(rest)]
            if not following:
                return found
            found += following

    def _query(self, account_id: str, part: LedgerPart) -> Any:
        query: Any = self._client.collection(f"accounts/{account_id}/ledger")
        for name, value in part._asdict().items():
            if value is not None:
                query = query.where(filter=FieldFilter(name, "==", value))
        return query

    def endings(
        self, ref: JobRef, outcome: Outcome, most: int, since: datetime | None = None
    ) -> list[Ending]:
        query = self._latest(ref, outcome)
        if since is not None:
            query = query.where(filter=FieldFilter("ended_at", ">=", since))
        found = stream(query.select(["instance", "ended_at"]).limit(most))
        tally.read_count += max(1, len(found))
        return [Ending(each.get("instance"), each.get("ended_at")) for each in found]

    def has_ended_on(self, ref: JobRef, instance: str, outcome: Outcome, since: datetime) -> bool:
        query = (
            self._latest(ref, outcome)
            .where(filter=FieldFilter("instance", "==", instance))
            .where(filter=FieldFilter("ended_at", ">=", since))
        )
        tally.read_count += 1
        return bool(stream(query.select([]).limit(1)))

    def _latest(self, ref: JobRef, outcome: Outcome) -> Any:
        """Return a query for a job's entries of one outcome, the newest first."""
        return (
            self._client.collection(f"accounts/{ref.account_id}/ledger")
            .where(filter=FieldFilter("job_id", "==", ref.job_id))
            .where(filter=FieldFilter("outcome", "==", outcome))
            .order_by("ended_at", direction=firestore.Query.DESCENDING)
        )

    def days(self, account_id: str, first: date, count: int) -> list[Mapping[str, Any]]:
        days = [first + timedelta(days=number) for number in range(count)]
        found = self._documents.get([_path(account_id, day) for day in days])
        return [each.fields if each else {} for each in found]

    def save_day(self, account_id: str, day: date, fields: Mapping[tuple[str, ...], Any]) -> None:
        update = Update(path=_path(account_id, day), fields=fields, upsert=True)
        self._documents.commit([update])


def _path(account_id: str, day: date) -> str:
    return f"accounts/{account_id}/days/{day.isoformat()}"
