"""How much of the error is the reader's: runs of one experiment with models of several sizes, as tables and a curve.

    python benchmarks/reader_sizes.py SET=RUN,RUN,... [SET=RUN,...] --svg docs/readers.svg

Each RUN is a results folder of `rag-vs-ft eval`, with one model and the same arms on the same questions, smallest model first. A
question with choices is right when the right choice is the likeliest. A free answer counts as right when it holds at least half
of the reference's content words that the question does not have: a rule of thumb, the same for every model.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from machine import describe

from rag_vs_ft.evaluation import plots
from rag_vs_ft.evaluation.figures import ArmFigures, read_answers, read_summary
from rag_vs_ft.evaluation.manifest import read_manifest
from rag_vs_ft.evaluation.measures import ACCURACY
from rag_vs_ft.evaluation.questions import gold_answer, load_questions
from rag_vs_ft.evaluation.statistics import Interval, clustered_interval, paired_difference
from rag_vs_ft.language import content_words, language

ENGLISH = language("en")
HELD = 0.5
"""Share of a reference's words from which an answer counts as right."""


@dataclass(frozen=True)
class Found:
    """One model with one context: its figures, and which questions it had right, by id, with each question's cluster."""

    arm: ArmFigures
    right: Mapping[str, float]
    clusters: Mapping[str, str]

    @property
    def share(self) -> float:
        return sum(self.right.values()) / len(self.right)

    @property
    def interval(self) -> Interval:
        return clustered_interval(list(self.right.values()), [self.clusters[name] for name in self.right])


def holds(answer: str, reference: str, question: str) -> float:
    """1 when `answer` holds at least `HELD` of the reference's own content words, else 0."""
    said, asked, known = (content_words(text, ENGLISH) for text in (answer, question, reference))
    wanted = known - asked or known
    return float(len(wanted & said) >= HELD * len(wanted))


def read(folder: Path) -> dict[str, Found]:
    """What a run found, by arm."""
    summary = read_summary(folder)
    files = [Path(file.path) for file in read_manifest(folder).identity.questions]
    questions = {one.id: one for file in files for one in load_questions(file, split=None, opened_by="benchmark")}
    right: dict[str, dict[str, float]] = {}
    clusters: dict[str, str] = {}
    for prediction, score in read_answers(folder):
        question = questions[prediction.question_id]
        value = score.of(ACCURACY)
        if value is None and (reference := gold_answer(question)) and question.choices is None:
            answer = prediction.outcome.answer
            value = None if answer is None else holds(answer, reference, question.question)
        if value is not None:
            right.setdefault(prediction.arm, {})[prediction.question_id] = value
            clusters[prediction.question_id] = score.cluster
    return {arm.name: Found(arm, right[arm.name], clusters) for arm in summary.arms if arm.name in right}


def show(title: str, runs: Sequence[dict[str, Found]]) -> list[plots.Curve]:
    """Print the table of a set of questions, and the differences between neighbours in size; its curves."""
    arms = list(runs[0])
    shared = set.intersection(*(set(run[arm].right) for run in runs for arm in arms))
    print(f"\n### {title}: {len(shared)} questions\n")
    print("| numbers in the model | " + " | ".join(f"{arm} | s/question" for arm in arms) + " |")
    print("|---" * (1 + 2 * len(arms)) + "|")
    kept = [
        {arm: Found(run[arm].arm, {name: run[arm].right[name] for name in sorted(shared)}, run[arm].clusters) for arm in arms}
        for run in runs
    ]
    for run in kept:
        cells = [f"{run[arm].share:.1%} {_span(run[arm].interval)} | {run[arm].arm.seconds_per_question:.2f}" for arm in arms]
        print(f"| {run[arms[0]].arm.cost.parameters / 1e6:,.0f} M | " + " | ".join(cells) + " |")
    print()
    for smaller, larger in pairwise(kept):
        for arm in arms:
            a, b = ([one[arm].right[name] for name in sorted(shared)] for one in (smaller, larger))
            found = paired_difference(a, b, [smaller[arm].clusters[name] for name in sorted(shared)])
            sizes = " to ".join(f"{one[arm].arm.cost.parameters / 1e6:,.0f} M" for one in (smaller, larger))
            print(
                f"- {arm}, {sizes}: {found.difference * 100:+.1f} points {_span(found.interval)}, p {found.p_value:.3f}, "
                f"{found.better} better, {found.worse} worse"
            )
    return [
        plots.Curve(f"{title}: {arm}", tuple((run[arm].arm.cost.parameters, run[arm].share, run[arm].interval) for run in kept))
        for arm in arms
    ]


def _span(interval: Interval) -> str:
    return "–" if interval is None else f"[{interval[0] * 100:.1f}, {interval[1] * 100:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="NAME=RUN,RUN,...")
    parser.add_argument("--svg", type=Path)
    given = parser.parse_args()
    print(describe())
    curves: list[plots.Curve] = []
    for one in given.sets:
        name, _, folders = one.partition("=")
        curves += show(name, [read(Path(folder)) for folder in folders.split(",")])
    if given.svg:
        svg = plots.as_image(plots.by_size(curves), "#444444")
        given.svg.write_text(svg.replace("<svg ", '<svg style="background:white" ', 1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
