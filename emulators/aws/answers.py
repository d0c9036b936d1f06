"""What Amazon's APIs answer with: XML for the old ones, JSON for Batch, and each one's way to say an error."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

AUTOSCALING = "http://autoscaling.amazonaws.com/doc/2011-01-01/"


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer."""

    status: int
    content_type: str
    body: bytes


class Refused(Exception):
    """The call cannot be carried out, and Amazon says so with a status and a code."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


def xml_answer(action: str, result: Mapping[str, Any]) -> Answer:
    """Return the answer of an action of EC2 Auto Scaling."""
    body = (
        f'<{action}Response xmlns="{AUTOSCALING}"><{action}Result>{_xml(result)}</{action}Result>'
        f"<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
    )
    return Answer(200, "text/xml", body.encode())


def json_answer(result: object, status: int = 200) -> Answer:
    return Answer(status, "application/json", json.dumps(result).encode())


def error_answer(service: str, status: int, code: str, message: str) -> Answer:
    """Return an error as this service words it."""
    code, message = escape(code), escape(message)
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    if service == "ec2":
        xml = f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>"
    elif service == "autoscaling":
        xml = (
            f'<ErrorResponse xmlns="{AUTOSCALING}">{error}<RequestId>1</RequestId></ErrorResponse>'
        )
    else:
        said = {"__type": code, "code": code, "message": message}
        return json_answer(said, status)
    return Answer(status, "text/xml", xml.encode())


def _xml(value: object) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<{name}>{_xml(each)}</{name}>" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "".join(f"<member>{_xml(each)}</member>" for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    return escape(str(value))
