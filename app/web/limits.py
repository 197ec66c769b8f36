"""How often somebody may ask: a token bucket for each principal, and for each address that has not said who it is.

In this process alone: with several API processes each grants its own share. Guessing passwords is slowed down elsewhere
(`app.sign_in`), where all processes see it.
"""

import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from app.errors import TooMany

_MAX_BUCKETS = 20_000
"""The one that was used longest ago is forgotten first, which fills it."""


@dataclass
class _Bucket:
    left: float
    at: float


class Rate:
    """`per_second` requests in the long run, `burst` at once."""

    def __init__(self, per_second: float, burst: int) -> None:
        self.per_second, self.burst = per_second, burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, who: str) -> None:
        """One request of `who`. Raises: TooMany, with the seconds until the next one is allowed."""
        now = time.monotonic()
        with self._lock:
            bucket = self._buckets.setdefault(who, _Bucket(self.burst, now))
            self._buckets.move_to_end(who)
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
            bucket.left = min(self.burst, bucket.left + (now - bucket.at) * self.per_second)
            bucket.at = now
            if bucket.left < 1:
                wait = math.ceil((1 - bucket.left) / self.per_second)
                raise TooMany("too many requests; try again later", max(1, wait))
            bucket.left -= 1


@dataclass(frozen=True)
class Limits:
    """`requests`: of whoever; `sign_ins`: tries to sign in or to get a token, of one address."""

    requests: Rate
    sign_ins: Rate
