"""Parts that are loaded at their first use, also when several threads ask for them at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar, overload

T = TypeVar("T")


class loaded_once(cached_property[T]):
    """A `cached_property` that one thread computes while the others wait.

    Since Python 3.12 `cached_property` has no lock: an index that eight threads open would load its model eight times.
    """

    def __init__(self, func: Callable[[Any], T]) -> None:
        super().__init__(func)
        self._guard = threading.RLock()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> loaded_once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> loaded_once[T] | T:
        if instance is None:
            return self
        name = self.attrname or ""
        if name in instance.__dict__:
            return instance.__dict__[name]
        with self._guard:
            return super().__get__(instance, owner)
