"""A circuit breaker: a service that failed again and again is left alone for a while."""

import threading
import time
from collections.abc import Callable

from app.errors import Unavailable


class Circuit:
    """Opens after `failures` in a row; `pause_seconds` later one call is let through to see whether it is back.

    Thread-safe. Each `enter` that returned is followed by one `leave`.
    """

    def __init__(
        self, name: str, failures: int, pause_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._limit = failures
        self._pause = pause_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._until: float | None = None  # None: closed
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Are calls refused, but for the one that tries again?"""
        return self._until is not None

    def enter(self) -> bool:
        """Lets a call through; True: it is the one that tries whether the service is back. Raises Unavailable."""
        with self._lock:
            if self._until is None:
                return False
            wait = self._until - self._clock()
            if wait > 0:
                raise Unavailable(f"{self._name} failed {self._failures} times in a row; tried again in {wait:.0f} s")
            if self._probing:
                raise Unavailable(f"{self._name} failed {self._failures} times in a row; it is just being tried again")
            self._probing = True
            return True

    def leave(self, probe: bool, up: bool | None) -> None:
        """`probe`: what `enter` returned. `up`: did the service do its part; None: the call does not tell."""
        with self._lock:
            if probe:
                self._probing = False
            if up:
                self._failures, self._until = 0, None
            elif up is False:
                self._failures += 1
                if probe or self._failures >= self._limit:
                    self._until = self._clock() + self._pause
