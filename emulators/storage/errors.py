"""Every way a request is refused, in the words of both of the provider's APIs.

Source: https://cloud.google.com/storage/docs/xml-api/reference-status and
https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

from enum import Enum


class Refusal(Enum):
    """HTTP status, reason (JSON API), code (XML API), message."""

    NOT_MODIFIED = (304, "notModified", "NotModified", "The resource was not modified.")
    BAD_DIGEST = (
        400,
        "invalid",
        "BadDigest",
        "The Content-MD5 you specified did not match what we received.",
    )
    INVALID_DIGEST = (400, "invalid", "InvalidDigest", "The Content-MD5 you specified was invalid.")
    INVALID_ARGUMENT = (400, "invalid", "InvalidArgument", "Invalid argument.")
    MALFORMED_HEADER = (
        400,
        "invalid",
        "MalformedSecurityHeader",
        "Your request has a malformed header.",
    )
    EXPIRED = (400, "expired", "ExpiredToken", "The provided token has expired.")
    TOO_LARGE = (
        400,
        "uploadTooLarge",
        "EntityTooLarge",
        "Your proposed upload is larger than the maximum object size specified.",
    )
    TOO_SMALL = (
        400,
        "invalid",
        "EntityTooSmall",
        "Your proposed upload is smaller than the minimum object size specified.",
    )
    INVALID_PART = (
        400,
        "invalid",
        "InvalidPart",
        "One or more of the specified parts could not be found.",
    )
    INVALID_PART_ORDER = (
        400,
        "invalid",
        "InvalidPartOrder",
        "The list of parts was not in ascending order.",
    )
    MALFORMED_XML = (400, "invalid", "MalformedXML", "The XML you provided was not well-formed.")
    MULTIPART_CONDITION = (
        400,
        "notImplemented",
        "NotImplemented",
        "Preconditions are not supported for multipart uploads.",
    )
    ACCESS_DENIED = (403, "forbidden", "AccessDenied", "Access denied.")
    WRONG_SIGNATURE = (
        403,
        "forbidden",
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided.",
    )
    NO_SUCH_BUCKET = (404, "notFound", "NoSuchBucket", "The specified bucket does not exist.")
    NO_SUCH_OBJECT = (404, "notFound", "NoSuchKey", "The specified key does not exist.")
    NO_SUCH_UPLOAD = (404, "notFound", "NoSuchUpload", "The requested upload was not found.")
    NO_SUCH_ROUTE = (404, "notFound", "NotFound", "Not Found")
    METHOD_NOT_ALLOWED = (
        405,
        "methodNotAllowed",
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
    )
    BUCKET_EXISTS = (
        409,
        "conflict",
        "BucketAlreadyOwnedByYou",
        "Your previous request to create the named bucket succeeded and you already own it.",
    )
    BUCKET_NOT_EMPTY = (
        409,
        "conflict",
        "BucketNotEmpty",
        "The bucket you tried to delete is not empty.",
    )
    LENGTH_REQUIRED = (
        411,
        "required",
        "MissingContentLength",
        "You must provide the Content-Length HTTP header.",
    )
    CONDITION_NOT_MET = (
        412,
        "conditionNotMet",
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold.",
    )
    TOO_MUCH_METADATA = (
        413,
        "uploadTooLarge",
        "RequestTooLarge",
        "The request's metadata is too large.",
    )
    RANGE_NOT_SATISFIABLE = (
        416,
        "requestedRangeNotSatisfiable",
        "InvalidRange",
        "The requested range cannot be satisfied.",
    )
    UPLOAD_CANCELLED = (499, "clientClosedRequest", "ClientClosedRequest", "Upload cancelled.")
    NOT_IMPLEMENTED = (
        501,
        "notImplemented",
        "NotImplemented",
        "A header or query you provided requested a function that is not implemented.",
    )

    def __init__(self, status: int, reason: str, code: str, message: str) -> None:
        self.status = status
        self.reason = reason
        self.code = code
        self.message = message


class Refused(Exception):
    """The request is answered with an error; `details` say which value was wrong."""

    def __init__(self, refusal: Refusal, details: str = "", **elements: str) -> None:
        super().__init__(details or refusal.message)
        self.refusal = refusal
        self.details = details
        #: Further elements of the XML API's error document, e.g. the canonical request.
        self.elements = elements

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Return the headers that belong to this refusal in both APIs."""
        if self.refusal is Refusal.RANGE_NOT_SATISFIABLE:
            return [("Content-Range", self.details)]
        return []


class ClientGone(ConnectionError):
    """The client closed the connection before the end of its body, or framed it wrongly."""
