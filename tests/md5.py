"""MD5s as the clients, the agents and the stores write them."""

import base64
import hashlib


def md5_of(content: bytes) -> str:
    """Return a content's MD5 as the wire has it."""
    return base64.b64encode(hashlib.md5(content).digest()).decode()
