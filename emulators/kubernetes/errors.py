"""What the API refuses, as its Status objects.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/, read 2026-11.
"""

from typing import Any

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    404: "NotFound",
    405: "MethodNotAllowed",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class KubernetesError(Exception):
    """An answer that is not a success."""

    def __init__(
        self, code: int, message: str, reason: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or _REASONS.get(code, "Unknown"),
            "details": details or {},
            "code": code,
        }


def not_found(kind: str, group: str, name: str) -> KubernetesError:
    """Return the answer for an object that does not exist."""
    details = {"name": name, "kind": kind, **({"group": group} if group else {})}
    return KubernetesError(404, f'{_full(kind, group)} "{name}" not found', "NotFound", details)


def exists(kind: str, group: str, name: str) -> KubernetesError:
    """Return the answer for a second object of one name."""
    details = {"name": name, "kind": kind, **({"group": group} if group else {})}
    message = f'{_full(kind, group)} "{name}" already exists'
    return KubernetesError(409, message, "AlreadyExists", details)


def invalid(kind: str, name: str, field: str, message: str) -> KubernetesError:
    """Return the answer for an object with a wrong field."""
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": field}]
    return KubernetesError(
        422, f'{kind} "{name}" is invalid: {field}: {message}', "Invalid",
        {"name": name, "kind": kind, "causes": causes},
    )  # fmt: skip


def _full(kind: str, group: str) -> str:
    return f"{kind}.{group}" if group else kind
