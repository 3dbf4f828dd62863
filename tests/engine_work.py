"""Work that fails as a test wants, in a module that workers can import."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rag_vs_ft.errors import UserError


@dataclass(frozen=True, slots=True)
class Squares:
    """Squares of numbers. `marks` is a folder: what happens to a number happens as often as it has marks there."""

    marks: str
    opens: str = ""

    def open(self) -> Callable[[int], int]:
        if self.opens == "told":
            raise UserError("there is no model", "pull it")
        if self.opens:
            raise ValueError(self.opens)
        return partial(square, self.marks)


def mark(marks: Path, number: int, what: str, times: int) -> None:
    for time_ in range(times):
        (marks / f"{what}-{number}-{time_}").touch()


def square(marks: str, number: int) -> int:
    for path in Path(marks).glob(f"*-{number}-*"):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        what = path.name.partition("-")[0]
        if what == "die":
            os._exit(9)
        if what == "hang":
            time.sleep(600)
        if what == "raise":
            raise ArithmeticError(f"{number} is unlucky\nsecond line")
        if what == "told":
            raise UserError("the model gives no number", "use another")
        break
    return number * number
