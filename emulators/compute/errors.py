"""What the API refuses, in Google's JSON."""

from typing import Any

from emulators.engine.http import Reply, json_reply

_STATUS = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "CONDITION_NOT_MET",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class ApiError(Exception):
    """An answer other than 200; `reason` is the word that client libraries show."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


def error_reply(code: int, reason: str, message: str) -> Reply:
    """Return an error as the API sends it."""
    domain = "usageLimits" if reason == "rateLimitExceeded" else "global"
    body: dict[str, Any] = {
        "code": code,
        "message": message,
        "errors": [{"message": message, "domain": domain, "reason": reason}],
    }
    if code in _STATUS:
        body["status"] = _STATUS[code]
    return json_reply({"error": body}, code)


def injected(code: int, reason: str) -> Reply:
    """Return an ordered fault as the API would send it."""
    reasons = {403: "rateLimitExceeded", 500: "internalError", 503: "backendError"}
    reason = reason or reasons.get(code, "badRequest")
    messages = {
        "rateLimitExceeded": "Rate Limit Exceeded",
        "backendError": "Backend Error. Please try again.",
    }
    return error_reply(code, reason, messages.get(reason, "Internal Error"))


def not_found(path: str) -> ApiError:
    """Return the answer for a resource that does not exist."""
    return ApiError(404, "notFound", f"The resource '{path}' was not found")


def already_exists(path: str) -> ApiError:
    """Return the answer for a resource that exists."""
    return ApiError(409, "alreadyExists", f"The resource '{path}' already exists")


def invalid(field: str, value: object, why: str) -> ApiError:
    """Return the answer for a field that the API does not take."""
    return ApiError(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")
