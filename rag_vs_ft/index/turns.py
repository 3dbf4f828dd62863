"""Many searches at once, on no more threads than there are cores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from rag_vs_ft import settings

T = TypeVar("T")


class Turns:
    """A search that is alone runs where it is called. Those that come meanwhile go to `threads` threads, in their order.

    Python runs one thread at a time: of eight that search on two cores, six only take turns from the two that could compute. So
    eight searched 1.4 times as fast as one, and do 1.8 times (benchmarks/threads.py). A lock that lets two of them in would hand
    each turn over between threads, which costs most of that.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._guard = threading.Lock()
        self._running = 0

    def take(self, search: Callable[[], T]) -> T:
        """What `search` returns, or raises."""
        with self._guard:
            alone = self._running == 0
            self._running += 1
        try:
            return search() if alone else self._pool.submit(search).result()
        finally:
            with self._guard:
                self._running -= 1


@cache
def _turns(threads: int) -> Turns:
    return Turns(threads)


def take_turn(search: Callable[[], T]) -> T:
    """Run `search` on one of as many threads as numeric libraries may use (`settings.threads`)."""
    return _turns(settings.threads()).take(search)
