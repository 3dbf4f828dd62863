"""Widgets whose values are kept in the address, so that it can be kept, shared and gone back to.

Streamlit takes another value without a word where the address names one that cannot be, and answers would then come from
something that nobody chose. Here it is said, and the page ends: all widgets that are bound to the address are made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st
from resources import NotThere

_BOUND: dict[str, Any] = {"bind": "query-params"}
KEPT: dict[str, Any] = {"persist_state": "session"}
"""For what a visitor finds again after a look at another page."""
Number = TypeVar("Number", int, float)
GONE = "not there (any more)"
ONE = "must be one value"


def only(label: str, key: str) -> str:
    """What the address has under `key`, "" where it has nothing. Raises NotThere when it has several values."""
    _check_written(label, key, None, ONE, lambda _: True)
    return st.query_params.get(key, "")


def say_nothing_is_there(label: str, key: str) -> None:
    """Raise NotThere when the address names one of a kind of which there is none."""
    _check_written(label, key, None, GONE, lambda _: False)


def _check_named(label: str, options: Sequence[str], key: str, instead: str | list[str], why: str = GONE) -> None:
    """Raise NotThere when what the address or an earlier visit names under `key` is not an option."""
    wanted = st.query_params.get_all(key) or st.session_state.get(key) or []
    gone = [one for one in ([wanted] if isinstance(wanted, str) else wanted) if one not in options]
    if gone:
        raise NotThere(label, gone, why, key, instead)


def _check_written(label: str, key: str, instead: Any, why: str, is_one: Callable[[str], bool]) -> None:
    """Raise NotThere when the address has a value under `key` that is none, or several."""
    given = st.query_params.get_all(key)
    if given and (len(given) > 1 or not is_one(given[0])):
        raise NotThere(label, given, why if len(given) == 1 else ONE, key, instead)


def choose(label: str, options: Sequence[str], key: str, first: str = "", **about: Any) -> str:
    """A select box of names. Raises NotThere when the address names something else."""
    default = first if first in options else options[0]
    _check_written(label, key, default, ONE, lambda _: True)
    _check_named(label, options, key, default)
    return str(st.selectbox(label, options, index=list(options).index(default), key=key, **_BOUND, **about))


def choose_several(label: str, options: Sequence[str], key: str, default: list[str], most: int, **about: Any) -> list[str]:
    """Up to `most` names, in the order in which they were chosen. Raises NotThere when the address names others, or more."""
    _check_named(label, options, key, default)
    given = st.query_params.get_all(key)
    if len(given) > most or len(set(given)) < len(given):
        raise NotThere(label, given, f"must be {most} different ones at most", key, default)
    return st.multiselect(label, options, default=default, max_selections=most, key=key, **_BOUND, **about)


def choose_view(label: str, options: Sequence[str], key: str, **about: Any) -> str:
    """A row of buttons, one of which is on. Raises NotThere when the address names another."""
    _check_written(label, key, options[0], ONE, lambda _: True)
    _check_named(label, options, key, options[0], f"must be {' or '.join(options)}")
    return st.segmented_control(label, options, default=options[0], required=True, key=key, **_BOUND, **about) or options[0]


def switch(label: str, key: str, *, on: bool = False, **about: Any) -> bool:
    """A choice that is on or off. Raises NotThere when the address says neither true nor false."""
    _check_written(label, key, on, "must be true or false", lambda given: given.lower() in ("true", "false"))
    return st.toggle(label, value=on, key=key, **_BOUND, **about)


def slide(label: str, low: Number, high: Number, default: Number, step: Number, key: str, **about: Any) -> Number:
    """A number from `low` to `high`. Raises NotThere when the address has another, or a fraction where they are whole."""
    whole = not isinstance(default, float)

    def is_one(given: str) -> bool:
        try:
            number = float(given)
        except ValueError:
            return False
        return math.isfinite(number) and low <= number <= high and (number.is_integer() or not whole)

    why = f"must be {'a whole number ' if whole else ''}from {low} to {high}"
    _check_written(label, key, default, why, is_one)
    return st.slider(label, low, high, default, step, key=key, **_BOUND, **about)


def write(label: str, key: str, where: Any = st, **about: Any) -> str:
    """A line of text; what it may be is for the caller to say. Raises NotThere when the address has several."""
    _check_written(label, key, "".join(st.query_params.get_all(key)[:1]), ONE, lambda _: True)
    return str(where.text_input(label, key=key, **_BOUND, **about) or "")
