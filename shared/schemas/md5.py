"""MD5s on the wire: base64 of the 16 raw bytes, never hexadecimal."""

import re

PATTERN = r"^[A-Za-z0-9+/]{21}[AQgw]==$"
_BASE64_MD5 = re.compile(PATTERN)


def is_md5(value: object) -> bool:
    """Tell whether this is the one base64 spelling of 16 bytes."""
    return isinstance(value, str) and _BASE64_MD5.fullmatch(value) is not None
