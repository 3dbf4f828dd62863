"""How long work tells what it is doing. One type for the command line, the app and the demo."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called again and again by long work.

    `stage` names what is being done ("embed", "step"), in the words that a user reads. `done` of `total` units are finished;
    a total of 0 is not known. `detail` is one line worth reading by itself ("validation loss 5.81, 2.25 bits per byte").
    It may raise to end the work (a cancelled job does), so it is called only where the work can stop.
    """

    def __call__(self, stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        """Tell a step."""


def silent(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
    """A Progress that nobody watches."""
