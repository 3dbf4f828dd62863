"""Two runs of an experiment, question by question: what became better or worse, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation import ratings
from rag_vs_ft.evaluation.figures import Summary, read_scores, read_summary
from rag_vs_ft.evaluation.measures import ACCURACY, LETTER
from rag_vs_ft.evaluation.render import NONE, markdown_table, p_value, percent, plural, points, span
from rag_vs_ft.evaluation.statistics import detectable_difference, holm, paired_difference


@dataclass(frozen=True, slots=True)
class ArmChange:
    """How an arm that two runs share did in the second against the first, on the questions that both scored.

    `lost` are the ids of the `worse` questions, `detectable` the smallest true difference that they show with 80% power, at the
    level that is left for one of these arms.
    """

    arm: str
    questions: int
    before: float
    after: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float
    holm_p: float
    better: int
    worse: int
    same: int
    lost: tuple[str, ...]
    detectable: float | None

    @property
    def regression(self) -> bool:
        """Significantly worse, at level 5% over all arms."""
        return self.difference < 0 and self.holm_p < 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, question by question: `arms` in both, arms in one only, the score that is compared. `scored_otherwise` are arms
    that cannot be compared: by likelihood in one run, by letter in the other."""

    before: str
    after: str
    score: str
    arms: tuple[ArmChange, ...]
    only_in_one: tuple[str, ...]
    scored_otherwise: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[ArmChange, ...]:
        """The arms that became significantly worse."""
        return tuple(arm for arm in self.arms if arm.regression)

    def to_json(self) -> dict[str, Any]:
        """The object that `report RUN RUN --json` prints for each comparison."""
        return {**asdict(self), "regressions": [arm.arm for arm in self.regressions]}

    def table(self) -> str:
        """As Markdown."""
        rows: list[tuple[str, ...]] = [
            (
                "arm",
                "questions",
                self.before,
                self.after,
                "difference",
                "95% interval",
                "Holm p",
                "smallest difference",
                "better / worse",
                "",
            )
        ]
        for arm in self.arms:
            rows.append(
                (
                    arm.arm,
                    str(arm.questions),
                    percent(arm.before),
                    percent(arm.after),
                    points(arm.difference),
                    span(arm.interval),
                    p_value(arm.holm_p),
                    NONE if arm.detectable is None else f"{arm.detectable * 100:.1f}",
                    f"{arm.better} / {arm.worse}",
                    "REGRESSION" if arm.regression else "",
                )
            )
        note = f"\n\nIn one run only: {', '.join(self.only_in_one)}." if self.only_in_one else ""
        if self.scored_otherwise:
            note += f"\n\nNot compared, by likelihood in one run and by letter in the other: {', '.join(self.scored_otherwise)}."
        return markdown_table(rows) + note


def read_report(folder: Path) -> str:
    """The report.md of a run, with the blind ratings of now. Raises UserError when the folder holds no finished run."""
    return ratings.update(folder, read_summary(folder))


def compare_all(folders: Sequence[Path]) -> list[Comparison]:
    """Each of the later runs against the first. Raises what `compare_runs` raises, and UserError for fewer than two."""
    if len(folders) < 2:
        raise UserError("one run alone has nothing to be compared with", "name two or more results folders")
    return [compare_runs(folders[0], folder) for folder in folders[1:]]


def require_no_regression(comparisons: Sequence[Comparison]) -> None:
    """Raise CheckFailed when an arm of a later run is significantly worse than in the first: arms, and questions lost."""
    worse = [(comparison, arm) for comparison in comparisons for arm in comparison.regressions]
    if worse:
        names = ", ".join(f"{arm.arm} in {comparison.after}" for comparison, arm in worse)
        lost = "".join(f"\n  {arm.arm} lost {plural(arm.worse, 'question')}: {_some(arm.lost)}" for _, arm in worse)
        raise CheckFailed(f"significantly worse than in {comparisons[0].before}: {names}{lost}", "see both reports")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def compare_runs(before: Path, after: Path, *, only: Collection[str] | None = None) -> Comparison:
    """Compare two results folders by choice accuracy, by the primary score of the first run, on the questions that both scored.

    `only` are ids of the questions to use. Raises UserError when a folder holds no finished run, or when they have no arm or no
    question with choices in common.
    """
    (old, old_rows, old_clusters, old_by), (_, new_rows, _, new_by) = _scored(before), _scored(after)
    shared = [arm for arm in old_rows if arm in new_rows and old_by[arm] == new_by[arm]]
    otherwise = tuple(arm for arm in old_rows if arm in new_rows and old_by[arm] != new_by[arm])
    if otherwise and not shared:
        raise UserError(
            f"{before.name} and {after.name} cannot be compared: {otherwise[0]} chose by likelihood in one, by letter in one",
            "compare runs that ask alike",
        )
    if not shared:
        raise UserError(f"{before.name} and {after.name} have no arm in common", "compare runs of one experiment")
    changes = []
    for arm in shared:
        names = [name for name in old_rows[arm] if name in new_rows[arm] and (only is None or name in only)]
        if not names:
            raise UserError(
                f"{before.name} and {after.name} have no question with choices in common", "use the same question file"
            )
        a, b = [old_rows[arm][name] for name in names], [new_rows[arm][name] for name in names]
        groups = [old_clusters[name] for name in names]
        lost = tuple(name for name, before, after in zip(names, a, b, strict=True) if after < before)
        smallest = detectable_difference(a, b, groups, comparisons=len(shared))
        changes.append((arm, a, b, lost, smallest, paired_difference(a, b, groups)))
    adjusted = holm([found.p_value for *_, found in changes])
    return Comparison(
        before=before.name,
        after=after.name,
        score=old.primary_score,
        arms=tuple(
            ArmChange(
                arm=arm,
                questions=len(a),
                before=sum(a) / len(a),
                after=sum(b) / len(b),
                difference=found.difference,
                interval=found.interval,
                p_value=found.p_value,
                holm_p=value,
                better=found.better,
                worse=found.worse,
                same=found.same,
                lost=lost,
                detectable=smallest,
            )
            for (arm, a, b, lost, smallest, found), value in zip(changes, adjusted, strict=True)
        ),
        only_in_one=tuple(sorted(set(old_rows) ^ set(new_rows))),
        scored_otherwise=otherwise,
    )


def _scored(folder: Path) -> tuple[Summary, dict[str, dict[str, float]], dict[str, str], dict[str, str]]:
    """The figures, choice credit by arm and question, the cluster of each question, and each arm's measure of choices."""
    summary = read_summary(folder)
    credit: dict[str, dict[str, float]] = {}
    clusters: dict[str, str] = {}
    by: dict[str, str] = {}
    for row in read_scores(folder):
        for measure in (ACCURACY, LETTER):
            if (value := row.of(measure)) is not None:
                credit.setdefault(row.arm, {})[row.question_id] = value
                clusters[row.question_id] = row.cluster
                by[row.arm] = measure.name
    return summary, credit, clusters, by
