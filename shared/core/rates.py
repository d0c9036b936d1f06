"""How often somebody may: a bucket of tokens that fills by itself."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rate:
    """So many a second in the long run, and `burst` at once. Both are more than 0."""

    per_s: float
    burst: float


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """What is left of a burst. Units: `at_s` are seconds of any clock that only goes forward."""

    tokens: float
    at_s: float


def filled(bucket: Bucket | None, rate: Rate, now_s: float) -> Bucket:
    """Return the bucket with what has flowed in since; one that nobody has used is full."""
    if bucket is None:
        return Bucket(tokens=rate.burst, at_s=now_s)
    flowed = max(now_s - bucket.at_s, 0.0) * rate.per_s
    return Bucket(tokens=min(bucket.tokens + flowed, rate.burst), at_s=max(now_s, bucket.at_s))


def taken(bucket: Bucket) -> Bucket:
    """Return the bucket with one token less; it never holds less than none."""
    return Bucket(tokens=max(bucket.tokens - 1.0, 0.0), at_s=bucket.at_s)


def wait_s(bucket: Bucket, rate: Rate) -> float:
    """Return how long it takes until there is a whole token: 0 when there is one."""
    return max(1.0 - bucket.tokens, 0.0) / rate.per_s
