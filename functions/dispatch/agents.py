"""What agents call. Who may: the holder of an attempt's token, for that attempt only; bodies up to 32 MB.

Hand-checked rather than through schemas: these are the farm's busiest calls.
"""

import re
from collections.abc import Mapping
from typing import Any

from flask import Request

from shared import wiring
from shared.core.lifecycle import Report
from shared.errors import InvalidRequest, TooLarge
from shared.http import Reply, bearer, read_json
from shared.models.job import AttemptRef
from shared.services import attempts
from shared.services.attempts import Output

MAX_LISTED = 500
MAX_OUTPUTS = 100_000
# No size or count of ours is larger, and a sum of so many still fits where it is stored.
MAX_NUMBER = 2**46
_CLAIM_LENGTHS = range(16, 65)
# What a provider may call a machine or a zone: schedulers are told later which of them to avoid.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
# An artist's Windows splits at backslashes and starts anew at a drive's letter; control characters fit no file's name.
_NOT_IN_A_PATH = re.compile(r"[\\\x00-\x1f\x7f]|\A[A-Za-z]:")

Body = Mapping[str, Any]


def _call(request: Request) -> tuple[AttemptRef, str, Body]:
    """Return whose call this is, its claim and its body. Raises: Unauthenticated, InvalidRequest, TooLarge."""
    ref = wiring.tokens().read_attempt(bearer(request))
    body = read_json(request)
    claim_id = _text(body, "claim")
    if len(claim_id) not in _CLAIM_LENGTHS:
        raise InvalidRequest({"claim": "must have 16 to 64 characters"})
    return ref, claim_id, body


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise InvalidRequest({name: "must be a string"})
    return value


def _name(body: Body, name: str) -> str:
    value = _text(body, name)
    if not _NAME.fullmatch(value):
        raise InvalidRequest(
            {name: "must be 1 to 253 letters, digits, dots, hyphens or underscores"}
        )
    return value


def _number(body: Body, name: str) -> int:
    value = body.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise InvalidRequest({name: "must be a whole number, 0 or more"})
    return value


def _strings(body: Body, name: str, most: int = MAX_LISTED) -> list[str]:
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidRequest({name: "must be a list of strings"})
    if len(value) > most:
        raise TooLarge(f"{name}: more than {most}")
    return value


def _outputs(body: Body, name: str, most: int) -> list[Output]:
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise InvalidRequest({name: "must be a list of objects"})
    if len(value) > most:
        raise TooLarge(f"{name}: more than {most}")
    return [_output(each) for each in value]


def _output(listed: Body) -> Output:
    path, md5 = _text(listed, "relative_path"), _text(listed, "md5")
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts):
        raise InvalidRequest({"relative_path": f"{path!r} does not stay below the output path"})
    if _NOT_IN_A_PATH.search(path):
        reason = "has a backslash, a drive or a control character"
        raise InvalidRequest({"relative_path": f"{path!r} {reason}"})
    attempts.blob_name("", md5)
    return Output(relative_path=path, md5=md5, size=_number(listed, "size"))


def claim(request: Request) -> Reply:
    """Start an attempt; a second process with the same token is refused."""
    ref, claim_id, body = _call(request)
    return attempts.claim_attempt(
        ref,
        claim_id=claim_id,
        instance=_name(body, "instance"),
        zone=_name(body, "zone"),
        shape=wiring.tokens().shape_of(bearer(request)),
        ports=wiring.ports(),
    )


def inputs(request: Request) -> Reply:
    """Give signed URLs of the account's own files."""
    ref, claim_id, body = _call(request)
    md5s = _strings(body, "md5s")
    return {"urls": attempts.input_urls(ref, claim_id=claim_id, md5s=md5s, ports=wiring.ports())}


def heartbeat(request: Request) -> Reply:
    """Say whether the attempt shall go on."""
    ref, claim_id, body = _call(request)
    peak = _number(body, "memory_peak_mib")
    return attempts.heartbeat(ref, claim_id=claim_id, memory_peak_mib=peak, ports=wiring.ports())


def logs(request: Request) -> Reply:
    """Keep lines of a log that somebody watches."""
    ref, claim_id, body = _call(request)
    attempts.add_log_lines(
        ref,
        claim_id=claim_id,
        first_line=_number(body, "first_line"),
        lines=_strings(body, "lines"),
        ports=wiring.ports(),
    )
    return {}


def outputs(request: Request) -> Reply:
    """Give signed URLs for the files that the attempt made."""
    ref, claim_id, body = _call(request)
    files = _outputs(body, "files", MAX_LISTED)
    return attempts.output_urls(ref, claim_id=claim_id, files=files, ports=wiring.ports())


def finish(request: Request) -> Reply:
    """End the attempt; a repeat is answered as the first was."""
    ref, claim_id, body = _call(request)
    made = _outputs(body, "outputs", MAX_OUTPUTS)
    exit_code = body.get("exit_code")
    is_number = isinstance(exit_code, int) and not isinstance(exit_code, bool)
    if exit_code is not None and not (is_number and abs(exit_code) <= MAX_NUMBER):
        raise InvalidRequest({"exit_code": "must be a whole number or null"})
    said = Report(
        outcome=attempts.outcome_of(body.get("outcome")),
        at=wiring.now(),
        claim=claim_id,
        exit_code=exit_code,
        reason=_text(body, "reason")[:2000],
        memory_peak_mib=_number(body, "memory_peak_mib"),
        output_count=len(made),
        output_bytes=sum(each.size for each in made),
    )
    return {"status": attempts.finish_attempt(ref, said=said, outputs=made, ports=wiring.ports())}
