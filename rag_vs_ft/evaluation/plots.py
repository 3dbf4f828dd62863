"""The figures of a report as inline SVG: no file beside the report, no request to anywhere, the same bytes for the same
numbers.

Lines and labels have the colour `currentColor`, so a figure fits a light and a dark page; `as_image` fixes it where the SVG is
an image by itself.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

from rag_vs_ft.evaluation.figures import ArmFigures, PairFigures
from rag_vs_ft.evaluation.statistics import Interval
from rag_vs_ft.evaluation.verdict import LEVEL, can_be_given, named

P = ParamSpec("P")
# Okabe and Ito's palette, which colour-blind readers can tell apart, without its black; markers do not need colour.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C00", "#8C6BB1")
_MARKERS = "osD^vPX"  # another number than colours, so that no two of 56 arms look alike
_POINTS = 100
_INK = "#010203"
"""Stands for `currentColor` while matplotlib draws, which does not know it."""
_STYLE = {
    "svg.hashsalt": "rag-vs-ft",
    "svg.fonttype": "none",
    "font.size": 12,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def as_image(svg: str, ink: str) -> str:
    """The SVG with lines and labels of this colour, for a page that shows it as an image."""
    return svg.replace("currentColor", ink)


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")


def _drawn(draw: Callable[P, Any]) -> Callable[P, str]:
    """Make a function that draws a figure one that gives its SVG, in the style of all of them."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> str:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return _svg(draw(*args, **kwargs))

    return drawn


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color=_INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


@_drawn
def accuracies(arms: Sequence[ArmFigures], chance: float | None) -> Any:
    """Questions right by each arm, with intervals; what no user can be given is hollow, chance is dashed."""
    figure, axes = _axes(7.5, 0.9 + 0.42 * len(arms))
    for row, arm in enumerate(reversed(arms)):
        if interval := arm.accuracy.interval:
            axes.plot([bound * _POINTS for bound in interval], [row, row], color=_INK, linewidth=1.6)
        face = _COLOURS[0] if can_be_given(arm) else "none"
        look = {"markersize": 9, "color": _COLOURS[0], "markerfacecolor": face, "markeredgewidth": 1.6}
        axes.plot(arm.right * _POINTS, row, "o", clip_on=False, **look)
    if chance:
        axes.axvline(chance * _POINTS, color=_INK, alpha=0.6, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(arms)), [named(arm) for arm in reversed(arms)])
    axes.set_ylim(-0.6, len(arms) - 0.4)
    axes.set_xlim(0, 100)
    axes.set_xlabel("questions right, %" + (" (dashed: a guess)" if chance else ""))
    return figure


@_drawn
def forest(pairs: Sequence[PairFigures], label: str) -> Any:
    """Differences with their intervals, one row each; significant ones (Holm p under 0.05) are filled."""
    figure, axes = _axes(7.5, 0.9 + 0.42 * len(pairs))
    for row, pair in enumerate(reversed(pairs)):
        middle = pair.difference * _POINTS
        low, high = (bound * _POINTS for bound in pair.interval or (pair.difference,) * 2)
        axes.plot([low, high], [row, row], color=_INK, linewidth=1.6)
        face = _COLOURS[0] if pair.holm_p is not None and pair.holm_p <= LEVEL else "none"
        axes.plot(middle, row, "s", markersize=7, color=_COLOURS[0], markerfacecolor=face, markeredgewidth=1.6)
    axes.axvline(0, color=_INK, alpha=0.6, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(pairs)), [f"{pair.b} − {pair.a}" for pair in reversed(pairs)])
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.set_xlabel(label)
    return figure


@_drawn
def by_tag(arms: Sequence[ArmFigures], chance: float | None) -> Any:
    """Choice accuracy of each arm for each tag, with intervals."""
    tags = list(arms[0].by_tag)
    figure, axes = _axes(7.5, 0.9 + 0.22 * len(tags) * (len(arms) + 1.5))
    step = 1 / (len(arms) + 1.5)
    for number, arm in enumerate(arms):
        for row, tag in enumerate(tags):
            found = arm.by_tag[tag]
            place = row + (number - (len(arms) - 1) / 2) * step
            value = (found.choice_accuracy or 0.0) * _POINTS
            axes.barh(place, value, height=step * 0.85, color=_COLOURS[number % 8], label=arm.name if not row else None)
            if interval := found.choice_accuracy_ci:
                axes.plot([bound * _POINTS for bound in interval], [place, place], color=_INK, linewidth=1.2)
    if chance:
        axes.axvline(chance * _POINTS, color=_INK, alpha=0.6, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(tags)), [f"{tag} (n={arms[0].by_tag[tag].n})" for tag in tags])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("questions right, % (dashed: a guess)")
    _legend(axes)
    return figure


@_drawn
def quality_and_cost(arms: Sequence[ArmFigures]) -> Any:
    """Choice accuracy against seconds per question (logarithmic), with intervals; a line joins the arms that none of the others
    beats in both (the Pareto front). What no user can be given is hollow and not on the line."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = _axes(7.5, 4.4)
    front = pareto_front([arm for arm in arms if can_be_given(arm)])
    axes.plot([_seconds(arm) for arm in front], [arm.right * _POINTS for arm in front], color=_INK, alpha=0.5, linestyle=":")
    for number, arm in enumerate(arms):
        colour = _COLOURS[number % 8]
        if interval := arm.accuracy.interval:
            axes.plot([_seconds(arm)] * 2, [bound * _POINTS for bound in interval], color=colour, linewidth=1.2)
        look = {
            "color": colour,
            "markerfacecolor": colour if can_be_given(arm) else "none",
            "markeredgewidth": 1.6,
            "markersize": 9,
        }
        axes.plot(_seconds(arm), arm.right * _POINTS, _MARKERS[number % 7], linestyle="none", label=named(arm), **look)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds per question")
    axes.set_ylabel("questions right, %")
    _legend(axes)
    return figure


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of `by_size`: (numbers in the model, share of questions right, its interval) for each size."""

    name: str
    points: tuple[tuple[int, float, Interval], ...]


@_drawn
def by_size(curves: Sequence[Curve]) -> Any:
    """Questions right against the size of the model (logarithmic), with intervals."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = _axes(7.5, 4.4)
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % 8]
        shift = 1.0 + 0.02 * (number - len(curves) / 2)  # so that intervals of one size do not cover each other
        sizes = [size / 1e6 * shift for size, *_ in curve.points]
        for size, (_, _, interval) in zip(sizes, curve.points, strict=True):
            if interval:
                axes.plot([size] * 2, [bound * _POINTS for bound in interval], color=colour, linewidth=1.2)
        shares = [share * _POINTS for _, share, _ in curve.points]
        axes.plot(sizes, shares, f"{_MARKERS[number % 7]}-", color=colour, markersize=7, clip_on=False, label=curve.name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, 100)
    axes.set_xlabel("numbers in the model, millions")
    axes.set_ylabel("questions right, %")
    _legend(axes)
    return figure


def pareto_front(arms: Sequence[ArmFigures]) -> list[ArmFigures]:
    """The arms that no other beats in both seconds and questions right, fastest first."""
    front: list[ArmFigures] = []
    for arm in sorted(arms, key=lambda arm: (_seconds(arm), -arm.right)):
        if not front or arm.right > front[-1].right:
            front.append(arm)
    return front


def _seconds(arm: ArmFigures) -> float:
    return max(arm.seconds_per_question or 0.0, 1e-4)


@_drawn
def reliability(arms: Sequence[ArmFigures]) -> Any:
    """Share of right answers against the confidence in them; the area of a mark grows with its questions."""
    figure, axes = _axes(5.6, 4.6)
    axes.plot([0, 1], [0, 1], color=_INK, alpha=0.6, linewidth=1.2, linestyle="--")
    for number, arm in enumerate(arms):
        bins, colour = arm.calibration.bins, _COLOURS[number % 8]
        sure, right = [one.confidence for one in bins], [one.accuracy for one in bins]
        sizes = [4 * one.questions for one in bins]
        axes.plot(sure, right, color=colour, linewidth=0.8, alpha=0.6)
        label = f"{arm.name} (error {arm.calibration.error or 0.0:.2f})"
        axes.scatter(sure, right, s=sizes, marker=_MARKERS[number % 7], color=colour, clip_on=False, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence in the chosen answer")
    axes.set_ylabel("share that is right")
    _legend(axes)
    return figure
