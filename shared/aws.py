"""What Amazon's APIs answer when they cannot, in our words, for every driver; each has its own table of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
)

from shared.errors import BatonError, CloudError, Unreachable

# Code of an answer, a string, or else its status, a number -> error; everything else is a CloudError.
Errors = Mapping[Any, type[BatonError]]


def code_of(error: ClientError) -> str:
    """Return the provider's word."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def translated(doing: str, errors: Errors) -> Iterator[None]:
    """Turn the provider's errors into ours."""
    try:
        yield
    except ClientError as exc:
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        error = errors.get(code_of(exc)) or errors.get(status, CloudError)
        raise error(f"{doing}: {status} {exc}") from exc
    except (HTTPClientError, EndpointConnectionError) as exc:
        raise Unreachable(f"{doing}: {exc}") from exc
    except BotoCoreError as exc:
        raise CloudError(f"{doing}: {exc}") from exc
