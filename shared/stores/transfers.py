"""Uploads in parts, in Firestore."""

from collections.abc import Mapping
from typing import Any

from google.cloud import firestore

from shared.errors import NotFound
from shared.stores.wire import Documents, Put, delete


class FirestoreTransferStore:
    """The TransferStore of shared/ports.py."""

    def __init__(self, client: firestore.Client) -> None:
        self._client = client
        self._documents = Documents(client)

    def save_multipart(self, account_id: str, upload_id: str, fields: Mapping[str, Any]) -> None:
        self._documents.commit([Put(path=_multipart(account_id, upload_id), fields=fields)])

    def multipart(self, account_id: str, upload_id: str) -> Mapping[str, Any]:
        path = _multipart(account_id, upload_id)
        found = self._documents.get([path])[0]
        if found is None:
            raise NotFound(path)
        return found.fields

    def delete_multipart(self, account_id: str, upload_id: str) -> None:
        delete(self._client.document(_multipart(account_id, upload_id)))


def _multipart(account_id: str, upload_id: str) -> str:
    return f"accounts/{account_id}/multiparts/{upload_id}"
