"""What the API refuses, in Nomad's words: plain text and a status code."""


class NomadError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def not_found(kind: str) -> NomadError:
    """Return the answer for an object that does not exist."""
    return NomadError(404, f"{kind} not found")


def refused(message: str) -> NomadError:
    """Return the answer for a request that the servers refuse (Nomad uses 500 for it)."""
    return NomadError(500, message)
