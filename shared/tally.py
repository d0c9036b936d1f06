"""How many documents the present request read and wrote: what the database bills."""

import threading


class Tally(threading.local):
    """Counts of one thread; a request is handled by one thread from beginning to end."""

    read_count = 0
    write_count = 0

    def start(self) -> None:
        """Begin anew."""
        self.read_count = self.write_count = 0


tally = Tally()
