"""The local stack: `python -m emulators.up` for people, `stack()` for tests and tools."""

from emulators.up.client import Stack, stack
from emulators.up.state import StackError

__all__ = ["Stack", "StackError", "stack"]
