"""Which port belongs to whom: the whole stack is one block of ports on the loopback interface."""

import random
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from deploy.functions import Function

BLOCK_SIZE = 16
# below the kernel's range for outgoing connections, which begins at 32768
FREE_BLOCKS = range(12_000, 32_000, BLOCK_SIZE)


@dataclass(frozen=True)
class Ports:
    """The ports from `base` on. The functions follow the gateway in the order of their table."""

    base: int

    @property
    def gateway(self) -> int:
        return self.base

    @property
    def firestore(self) -> int:
        return self.base + 5

    @property
    def pubsub(self) -> int:
        return self.base + 6

    @property
    def auth(self) -> int:
        return self.base + 7

    @property
    def storage(self) -> int:
        return self.base + 8

    @property
    def compute(self) -> int:
        return self.base + 9

    @property
    def nomad(self) -> int:
        return self.base + 10

    @property
    def auth_hub(self) -> int:
        return self.base + 11

    @property
    def auth_logging(self) -> int:
        return self.base + 12

    def functions(self, functions: Iterable[Function]) -> dict[str, int]:
        """Return the port of each function by its name."""
        return {function.name: self.base + 1 + index for index, function in enumerate(functions)}


def url(port: int) -> str:
    """Return the URL of a local port. The clients refuse `localhost`."""
    return f"http://127.0.0.1:{port}"


def is_free(port: int) -> bool:
    """Return whether a server could listen at `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_block_after(base: int) -> int:
    """Return the base of the first block after that of `base` in which every port is free. Raises: StopIteration."""
    bases = range(base + BLOCK_SIZE, 65_000, BLOCK_SIZE)
    return next(b for b in bases if all(map(is_free, range(b, b + BLOCK_SIZE))))


def find_free_block() -> int:
    """Return the base of a block in which every port is free. Raises: OSError."""
    for base in random.sample(FREE_BLOCKS, k=200):
        with ExitStack() as held:
            try:
                for port in range(base, base + BLOCK_SIZE):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return base
    raise OSError("no block of free ports was found")
