"""Limits: how often one caller may call, and how often a sign-in may fail.

Each process keeps its own count, so that a call costs no read: with N processes (`local_workers`, or the instances of
the function) somebody who is spread over all of them may do N times as much.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager

from shared.core.rates import Bucket, Rate, filled, taken, wait_s
from shared.errors import NotFound, TooManyRequests, Unauthenticated
from shared.models.account import REQUESTS_PER_S, Account, Principal

# A studio's machines share a key and all ask at once; afterwards they may go on at the account's own rate.
BURST_S = 10.0
_KEPT_S = 10.0
_REMEMBERED = 10_000

# A secret cannot be guessed at any such rate; these spare the processor, which checks each by a slow hash.
FAILURES_PER_CALLER = Rate(per_s=1 / 12, burst=5)
FAILURES_PER_KEY = Rate(per_s=0.5, burst=50)
FAILURES_PER_ADDRESS = Rate(per_s=0.5, burst=50)

Seconds = Callable[[], float]


class Buckets:
    """One bucket for each of many keys; those that are full again are forgotten when there are too many."""

    def __init__(self, seconds: Seconds = time.monotonic) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._buckets: dict[Hashable, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def check(self, key: Hashable, rate: Rate, what: str) -> None:
        """Let pass while there is a token, and leave it there. Raises: TooManyRequests."""
        with self._lock:
            self._checked(key, rate, what)

    def take(self, key: Hashable, rate: Rate, what: str) -> None:
        """Take a token. Raises: TooManyRequests, and then none is taken."""
        with self._lock:
            self._buckets[key] = taken(self._checked(key, rate, what))

    def note(self, key: Hashable, rate: Rate) -> None:
        """Take a token if there is one."""
        with self._lock:
            self._buckets[key] = taken(filled(self._buckets.get(key), rate, self._seconds()))

    def _checked(self, key: Hashable, rate: Rate, what: str) -> Bucket:
        now_s = self._seconds()
        if len(self._buckets) >= _REMEMBERED:
            self._forget(now_s)
        bucket = filled(self._buckets.get(key), rate, now_s)
        if bucket.tokens < 1:
            wait = wait_s(bucket, rate)
            raise TooManyRequests(f"{what}: try again in {wait:.1f} s", wait)
        return bucket

    def _forget(self, now_s: float) -> None:
        """Forget the half that has been quiet for longest."""
        oldest = sorted(self._buckets, key=lambda key: self._buckets[key].at_s)
        for key in oldest[: _REMEMBERED // 2]:
            del self._buckets[key]


class CallLimits:
    """How often each person, or API key, of an account may call."""

    def __init__(
        self, account_of: Callable[[str], Account], seconds: Seconds = time.monotonic
    ) -> None:
        self._account_of = account_of
        self._seconds = seconds
        self._buckets = Buckets(seconds)
        self._rates: dict[str, tuple[float, Rate]] = {}

    def take(self, principal: Principal) -> None:
        """Count one call. Raises: TooManyRequests."""
        caller = (principal.account_id, principal.client_id or principal.user_id)
        rate = self._rate(principal.account_id)
        what = f"more than {rate.per_s:g} calls a second"
        self._buckets.take(caller, rate, what)

    def _rate(self, account_id: str) -> Rate:
        """Return the account's rate, as it was some seconds ago at most."""
        now_s = self._seconds()
        kept = self._rates.get(account_id)
        if kept is None or now_s - kept[0] >= _KEPT_S:
            if len(self._rates) >= _REMEMBERED:
                self._rates.clear()
            kept = self._rates[account_id] = (now_s, self._read_rate(account_id))
        return kept[1]

    def _read_rate(self, account_id: str) -> Rate:
        try:
            per_s = float(self._account_of(account_id).requests_per_s)
        except NotFound:
            per_s = float(REQUESTS_PER_S)
        return Rate(per_s=per_s, burst=per_s * BURST_S)


class SignInLimits:
    """How often signing in may fail: for one key from one address, for one key, and from one address."""

    def __init__(self, seconds: Seconds = time.monotonic) -> None:
        self._buckets = Buckets(seconds)

    @contextmanager
    def attempt(self, client_id: str, address: str) -> Iterator[None]:
        """Refuse at once where too many have failed, and count this one if it fails too. Raises: TooManyRequests."""
        rates: Mapping[Hashable, Rate] = {
            ("caller", client_id, address): FAILURES_PER_CALLER,
            ("key", client_id): FAILURES_PER_KEY,
            ("address", address): FAILURES_PER_ADDRESS,
        }
        for key, rate in rates.items():
            self._buckets.check(key, rate, "too many sign-ins have failed")
        try:
            yield
        except Unauthenticated:
            for key, rate in rates.items():
                self._buckets.note(key, rate)
            raise
