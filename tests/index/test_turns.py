"""Searches that come at once take turns on the threads of the pool."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rag_vs_ft.errors import UserError
from rag_vs_ft.index.turns import Turns


def test_a_search_that_is_alone_stays_in_its_thread() -> None:
    turns = Turns(2)
    for _ in range(3):
        assert turns.take(threading.get_ident) == threading.get_ident()
    with pytest.raises(UserError, match="no such way"):
        turns.take(lambda: failing())
    assert turns.take(threading.get_ident) == threading.get_ident()


def failing() -> None:
    raise UserError("there is no such way", "take another")


def test_those_that_come_meanwhile_share_the_pool_in_their_order_and_hear_of_their_own_failure() -> None:
    turns, free, entered = Turns(2), threading.Event(), threading.Event()
    began, threads = [], set()

    def alone() -> str:
        entered.set()
        assert free.wait(30)
        return "alone"

    def work(number: int) -> int:
        began.append(number)
        threads.add(threading.get_ident())
        time.sleep(0.01)
        if number == 3:
            failing()
        return number

    with ThreadPoolExecutor(20) as clients:
        first = clients.submit(turns.take, alone)
        assert entered.wait(30)
        others = []
        for number in range(12):
            others.append(clients.submit(turns.take, lambda number=number: work(number)))
            time.sleep(0.005)  # each asks after the one before
        assert [one.exception().__class__ if one.exception() else one.result() for one in others] == [
            UserError if number == 3 else number for number in range(12)
        ]
        free.set()
        assert first.result() == "alone"
    assert began == list(range(12)) and len(threads) == 2
    assert turns.take(threading.get_ident) == threading.get_ident()
