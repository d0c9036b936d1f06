"""A job's inputs as its sync reads them: each file once, in lines of one length.

So the next files of however many are one range of bytes, and no piece of the work reads the whole list.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from shared.models.job import Job, JobRef
from shared.ports import Blobs
from shared.services.attempts import spec_name

# The MD5 in base64, a size of up to 16 digits, and what is around them.
_LINE_BYTES = 24 + 1 + 16 + 1


class InputFile(NamedTuple):
    """A file that a job needs, whatever its paths."""

    md5: str
    size_bytes: int


def inputs_name(ref: JobRef) -> str:
    """Where the list of a job's inputs is."""
    return f"accounts/{ref.account_id}/jobs/{ref.job_id}/inputs.txt"


def input_list(inputs: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the content of that object; `inputs` are those of the agents' list, with `md5` and `size`."""
    sizes = {each["md5"]: each["size"] for each in inputs}
    return "".join(f"{md5} {size:016}\n" for md5, size in sizes.items()).encode()


def read_inputs(ref: JobRef, first: int, count: int, blobs: Blobs) -> list[InputFile]:
    """Return so many of a job's files from one on, counted from 0; fewer at the end. Raises: NotFound."""
    end = (first + count) * _LINE_BYTES
    lines = blobs.read(inputs_name(ref), first * _LINE_BYTES, end).decode().splitlines()
    return [InputFile(md5, int(size)) for md5, size in map(str.split, lines)]


def note_sizes(ref: JobRef, first: int, sizes: Mapping[str, int], blobs: Blobs) -> None:
    """Keep, by MD5, which of the files from one on have other sizes than the list says."""
    if sizes:
        blobs.write(f"{_sizes_prefix(ref)}{first}", orjson.dumps(sizes), "application/json")


def correct_sizes(job: Job, blobs: Blobs) -> None:
    """Give the agents' list the sizes that were kept; a repeat ends alike. Raises: NotFound."""
    sizes: dict[str, int] = {}
    for name in blobs.names(_sizes_prefix(job.ref)):
        sizes |= orjson.loads(blobs.read(name))
    if not sizes:
        return
    spec = orjson.loads(blobs.read(spec_name(job)))
    for each in spec["inputs"]:
        each["size"] = sizes.get(each["md5"], each["size"])
    blobs.write(spec_name(job), orjson.dumps(spec), "application/json")


def _sizes_prefix(ref: JobRef) -> str:
    return f"accounts/{ref.account_id}/jobs/{ref.job_id}/sizes/"
