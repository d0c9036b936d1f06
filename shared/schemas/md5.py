"""MD5s on the wire: base64 of the 16 raw bytes, never hexadecimal."""

import re

_BASE64_MD5 = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")


def is_md5(value: object) -> bool:
    """Tell whether this is the one base64 spelling of 16 bytes."""
    return isinstance(value, str) and _BASE64_MD5.fullmatch(value) is not None
