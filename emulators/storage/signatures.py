"""V4 signatures of URLs: who signed exactly this request, and until when.

Source: https://cloud.google.com/storage/docs/authentication/canonical-requests
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from emulators.storage.errors import Refusal, Refused

ALGORITHM = "GOOG4-RSA-SHA256"
MAX_EXPIRY_S = 7 * 24 * 3600
MAX_CLOCK_SKEW = timedelta(minutes=15)
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedRequest:
    """What a signature covers. Shapes: `headers` have lower-case names; path and query are raw."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


class InvalidCredentials(ValueError):
    """A file that is no service-account JSON with an RSA key."""


class Signers:
    """The service accounts whose signatures count, by e-mail address."""

    def __init__(self, keys: Mapping[str, rsa.RSAPublicKey]) -> None:
        self._keys = keys

    @classmethod
    def from_files(cls, paths: Iterable[Path]) -> "Signers":
        """Read service-account JSON files. Raises: InvalidCredentials."""
        keys = {}
        for path in paths:
            account = json.loads(path.read_text())
            try:
                email, pem = account["client_email"], account["private_key"]
            except (KeyError, TypeError) as exc:
                raise InvalidCredentials(f"{path} is no service-account JSON: lacks {exc}") from exc
            key = serialization.load_pem_private_key(pem.encode(), password=None)
            if not isinstance(key, rsa.RSAPrivateKey):
                raise InvalidCredentials(f"{path}: private_key is no RSA key")
            keys[email] = key.public_key()
        return cls(keys)

    def verify(self, request: SignedRequest, now: datetime) -> None:
        """Raises: Refused, unless a known account signed `request` and it has not expired."""
        parameters = dict(_pairs(request.query))
        if "X-Goog-Signature" not in parameters:
            raise Refused(Refusal.ACCESS_DENIED, "Anonymous caller does not have storage access.")
        email, scope, signed_at = _claims(parameters)
        _check_time(parameters, signed_at, now)
        names = parameters.get("X-Goog-SignedHeaders", "").split(";")
        _check_headers(names, request.headers)
        canonical = canonical_request(request, names)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = "\n".join((ALGORITHM, parameters["X-Goog-Date"], scope, digest))
        try:
            self._keys[email].verify(
                bytes.fromhex(parameters["X-Goog-Signature"]),
                to_sign.encode(),
                padding.PKCS1v15(),
                hashes.SHA256(),
            )
        except (KeyError, ValueError, InvalidSignature) as exc:
            raise Refused(
                Refusal.WRONG_SIGNATURE, StringToSign=to_sign, CanonicalRequest=canonical
            ) from exc


def canonical_request(request: SignedRequest, signed_names: Iterable[str]) -> str:
    """Return the one spelling of a request that is signed."""
    pairs = sorted(
        (_encoded(name), _encoded(value))
        for name, value in _raw_pairs(request.query)
        if name != "X-Goog-Signature"
    )
    names = list(signed_names)
    lines = [
        request.method,
        quote(unquote_to_bytes(request.path), safe="/~"),
        "&".join(f"{name}={value}" for name, value in pairs),
        *(f"{name}:{' '.join(request.headers[name].split())}" for name in names),
        "",
        ";".join(names),
        request.headers.get("x-goog-content-sha256", UNSIGNED_PAYLOAD),
    ]
    return "\n".join(lines)


def _claims(parameters: Mapping[str, str]) -> tuple[str, str, datetime]:
    """Return the signer, the scope and the time that a URL claims."""
    if parameters.get("X-Goog-Algorithm") != ALGORITHM:
        raise Refused(Refusal.INVALID_ARGUMENT, f"X-Goog-Algorithm must be {ALGORITHM}")
    stamp = parameters.get("X-Goog-Date", "")
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as exc:
        raise Refused(Refusal.INVALID_ARGUMENT, "malformed X-Goog-Date") from exc
    email, _, scope = parameters.get("X-Goog-Credential", "").partition("/")
    parts = scope.split("/")
    if len(parts) != 4 or parts[0] != stamp[:8] or parts[2:] != ["storage", "goog4_request"]:
        raise Refused(Refusal.INVALID_ARGUMENT, "malformed X-Goog-Credential")
    return email, scope, signed_at


def _check_time(parameters: Mapping[str, str], signed_at: datetime, now: datetime) -> None:
    expires = parameters.get("X-Goog-Expires", "")
    if not (expires.isascii() and expires.isdigit() and 1 <= int(expires) <= MAX_EXPIRY_S):
        raise Refused(Refusal.INVALID_ARGUMENT, f"X-Goog-Expires must be 1 to {MAX_EXPIRY_S}")
    if now < signed_at - MAX_CLOCK_SKEW:
        raise Refused(Refusal.ACCESS_DENIED, "Request is not valid yet: X-Goog-Date is ahead.")
    expires_at = signed_at + timedelta(seconds=int(expires))
    if now >= expires_at:
        raise Refused(Refusal.EXPIRED, f"Request signature expired at: {expires_at.isoformat()}")


def _check_headers(names: list[str], headers: Mapping[str, str]) -> None:
    """Raises: Refused, unless what must be signed is signed, and what is signed was sent."""
    if "host" not in names:
        raise Refused(Refusal.INVALID_ARGUMENT, "The host header must be signed.")
    for name in names:
        if name not in headers:
            details = "Header was included in signedheaders, but not in the request."
            raise Refused(Refusal.MALFORMED_HEADER, details, ParameterName=name)
    for name in headers:
        if name.startswith("x-goog-") and name not in names:
            details = "Header was included in the request, but not in signedheaders."
            raise Refused(Refusal.MALFORMED_HEADER, details, ParameterName=name)
    if headers.get("x-goog-content-sha256", UNSIGNED_PAYLOAD) != UNSIGNED_PAYLOAD:
        raise Refused(Refusal.NOT_IMPLEMENTED, "x-goog-content-sha256")


def _raw_pairs(query: str) -> list[tuple[str, str]]:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return [(name, value) for name, _, value in pairs]


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(unquote(name), unquote(value)) for name, value in _raw_pairs(query)]


def _encoded(raw: str) -> str:
    return quote(unquote_to_bytes(raw), safe="~")
