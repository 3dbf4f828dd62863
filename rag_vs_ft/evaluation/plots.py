"""The figures of a report as inline SVG: no file beside the report, no request to anywhere, the same bytes for the same
numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rag_vs_ft.evaluation.figures import ArmFigures, PairFigures

# Okabe and Ito's palette, which colour-blind readers can tell apart, with markers that do not need colour.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
_MARKERS = "osD^vPX*"
_POINTS = 100


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "rag-vs-ft", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def forest(pairs: Sequence[PairFigures], label: str) -> str:
    """Differences with their intervals, one row each, significant ones (Holm p under 0.05) filled."""
    figure, axes = _axes(7.5, 0.6 + 0.34 * len(pairs))
    for row, pair in enumerate(reversed(pairs)):
        middle = pair.difference * _POINTS
        low, high = (bound * _POINTS for bound in pair.interval or (pair.difference,) * 2)
        axes.plot([low, high], [row, row], color="#333333", linewidth=1.4)
        filled = pair.holm_p < 0.05
        axes.plot(middle, row, "s", markersize=6, color="#0072B2", markerfacecolor="#0072B2" if filled else "white")
    axes.axvline(0, color="#888888", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(pairs)), [f"{pair.b} − {pair.a}" for pair in reversed(pairs)])
    axes.set_ylim(-0.6, len(pairs) - 0.4)
    axes.set_xlabel(label)
    return _svg(figure)


def by_tag(arms: Sequence[ArmFigures], chance: float | None) -> str:
    """Choice accuracy of each arm for each tag, with intervals."""
    tags = list(arms[0].by_tag)
    figure, axes = _axes(7.5, 0.9 + 0.19 * len(tags) * (len(arms) + 1.5))
    step = 1 / (len(arms) + 1.5)
    for number, arm in enumerate(arms):
        for row, tag in enumerate(tags):
            found = arm.by_tag[tag]
            place = row + (number - (len(arms) - 1) / 2) * step
            value = (found.choice_accuracy or 0.0) * _POINTS
            axes.barh(place, value, height=step * 0.85, color=_COLOURS[number % 8], label=arm.name if not row else None)
            if interval := found.choice_accuracy_ci:
                axes.plot([bound * _POINTS for bound in interval], [place, place], color="#222222", linewidth=1)
    if chance:
        axes.axvline(chance * _POINTS, color="#888888", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(tags)), [f"{tag} (n={arms[0].by_tag[tag].n})" for tag in tags])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("questions right, % (dashed: chance)")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    return _svg(figure)


def quality_and_cost(arms: Sequence[ArmFigures]) -> str:
    """Choice accuracy against seconds per question (logarithmic), with intervals."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = _axes(6.5, 4.0)
    for number, arm in enumerate(arms):
        value, seconds = arm.right * _POINTS, max(arm.seconds_per_question or 0.0, 1e-4)
        if interval := arm.accuracy.interval:
            axes.plot([seconds, seconds], [bound * _POINTS for bound in interval], color=_COLOURS[number % 8], linewidth=1)
        axes.plot(seconds, value, _MARKERS[number % 8], color=_COLOURS[number % 8], markersize=8, label=arm.name)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds per question")
    axes.set_ylabel("questions right, %")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    return _svg(figure)


def reliability(arms: Sequence[ArmFigures]) -> str:
    """Share of right answers against the confidence in them; the area of a mark grows with its questions."""
    figure, axes = _axes(5.0, 4.2)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--")
    for number, arm in enumerate(arms):
        bins, colour = arm.calibration.bins, _COLOURS[number % 8]
        sure, right = [one.confidence for one in bins], [one.accuracy for one in bins]
        sizes = [4 * one.questions for one in bins]
        axes.plot(sure, right, color=colour, linewidth=0.8, alpha=0.6)
        label = f"{arm.name} (error {arm.calibration.error or 0.0:.2f})"
        axes.scatter(sure, right, s=sizes, marker=_MARKERS[number % 8], color=colour, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence in the chosen answer")
    axes.set_ylabel("share that is right")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    return _svg(figure)
