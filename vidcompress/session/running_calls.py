"""Calls that run in a block, in any thread, and the clean-up after the block and its last call have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Calls:
    """Counter of running calls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._closed = False
        self._rest: Callable[[], None] | None = None

    def begin(self) -> bool:
        """Count a call that begins; False, and not counted, once `close` was called."""
        with self._lock:
            self._running += not self._closed
            return not self._closed

    def end(self) -> None:
        """Count a call that has ended."""
        with self._lock:
            self._running -= 1

    def close(self, rest: Callable[[], None]) -> None:
        """Refuse further calls.

        Args:
            rest: clean-up, called once, by the first `settle` after the last call has ended.
        """
        with self._lock:
            self._closed, self._rest = True, rest

    def settle(self) -> bool:
        """Run the clean-up where it is due. Returns whether it is done."""
        with self._lock:
            if not self._closed or self._running:
                return False
            rest, self._rest = self._rest, None
        if rest is not None:
            rest()
        return True
