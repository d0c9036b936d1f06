"""Parts: what makes a large file whole."""

from collections.abc import Mapping

from shared.errors import InvalidRequest


def check_parts(etags: Mapping[int, str], arrived: Mapping[int, int], size_bytes: int) -> None:
    """Let pass what names parts that have arrived and come to the whole file.

    Shapes: `etags` and `arrived` are by the numbers of the parts; `arrived` are their bytes. Raises: InvalidRequest.
    """
    found_bytes = sum(size for number, size in arrived.items() if number in etags)
    if not etags or not etags.keys() <= arrived.keys() or found_bytes != size_bytes:
        found = f"{len(arrived)} parts, of those named {found_bytes} bytes"
        raise InvalidRequest({"parts": f"{found} have arrived, not {size_bytes}"})
