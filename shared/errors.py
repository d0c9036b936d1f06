"""Every error that Baton raises on purpose.

BatonError
├── Rejected               the caller must change something; 4xx, a message is acknowledged
│   ├── InvalidRequest     a field is wrong; `fields` says which and why
│   ├── Unauthenticated    no token, a damaged one, or one that has expired
│   ├── Forbidden          a good token that may not do this
│   ├── NotFound           no such thing in the caller's account
│   ├── Conflict           the state does not allow it
│   │   ├── InvalidTransition
│   │   ├── StaleAttempt
│   │   └── PartlyRefused  some of several things cannot follow; `fields` says which and why, the others did
│   ├── AttemptWithdrawn   killed, held or edited before the attempt started, or not to run on this instance
│   ├── TooLarge           the body or a list is longer than allowed
│   └── TooManyRequests    the caller's rate is over its limit
└── Transient              try again; 503, a message comes back
    ├── Contended          somebody else changed the document, several times over
    └── CloudError         a provider refused or failed
        ├── OutOfCapacity  no machines of this type in this zone for now
        ├── OverQuota      the provider's limit for this project is reached
        ├── RateLimited    too many calls to the provider's API
        ├── Unplaceable    the scheduler has no place for machines of this shape, until somebody makes one
        └── Unreachable    no answer in time
"""

from collections.abc import Mapping


class BatonError(Exception):
    """Base of all; never raised itself."""


class Rejected(BatonError):
    """The caller must change something before trying again."""


class InvalidRequest(Rejected):
    """A field of the request is wrong. `fields` maps its path to the reasons."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self.fields = dict(fields)
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in self.fields.items()))


class Unauthenticated(Rejected):
    """The request carries no valid token."""


class Forbidden(Rejected):
    """The caller is known, but may not do this."""


class NotFound(Rejected):
    """There is no such thing in the caller's account."""


class Conflict(Rejected):
    """The present state does not allow this."""


class InvalidTransition(Conflict):
    """The command or report does not apply to the present status."""


class StaleAttempt(Conflict):
    """Another attempt, or another process, holds the task."""


class PartlyRefused(Conflict):
    """Some of several things cannot follow a command. `fields` maps the path of each to the reason; the others did."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self.fields = dict(fields)
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in self.fields.items()))


class AttemptWithdrawn(Rejected):
    """The job was killed, held or edited before the attempt started, or keeps away from the instance that claims it."""


class TooLarge(Rejected):
    """The body or a list in it is longer than allowed."""


class TooManyRequests(Rejected):
    """The caller's rate is over its limit. `retry_after_s`: when the next call may pass."""

    def __init__(self, message: str = "", retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Transient(BatonError):
    """Trying again later may help."""


class Contended(Transient):
    """Somebody else kept changing the document."""


class CloudError(Transient):
    """A provider refused or failed."""


class OutOfCapacity(CloudError):
    """The zone has no machines of this type for now."""


class OverQuota(CloudError):
    """The provider's limit for this project is reached."""


class RateLimited(CloudError):
    """Too many calls to the provider's API."""


class Unplaceable(CloudError):
    """The scheduler has no place for attempts of this shape, and will have none until somebody makes it."""


class Unreachable(CloudError):
    """The provider did not answer in time."""
