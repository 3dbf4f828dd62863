"""Processor time of work that may never end: with a limit, and in a process of its own."""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any


class TooLong(Exception):
    """The work took longer than its limit."""


def seconds(work: Callable[[], object], limit: float) -> float:
    """Processor seconds of `work`, or infinity when they are over `limit`."""

    def stop(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGPROF, stop)
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        work()
    except TooLong:
        return float("inf")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return time.process_time() - began


def in_a_child(work: Callable[[], Any]) -> Any:
    """What `work` gives in a process of its own, as JSON; a text says why there is nothing."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        gc.freeze()  # one collection of what the libraries hold takes a third of a second, and comes only with the longer text
        try:
            said = work()
        except BaseException as error:
            said = repr(error)[:300]
        os.write(theirs, json.dumps(said).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else "the process died"
