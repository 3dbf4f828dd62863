"""What people preferred in the app's blind ratings, as a section of a report that is written already.

Ratings go on after a run has ended, so the section is read anew whenever a report is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rag_vs_ft import files
from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.contexts import CONTEXTS, WAYS
from rag_vs_ft.evaluation.figures import ArmFigures, Summary
from rag_vs_ft.evaluation.render import Section, html_section, markdown_section, percent, plural, span
from rag_vs_ft.feedback import arm_name, preferences
from rag_vs_ft.settings import Home

TITLE = "Blind ratings"
STANDS_BEFORE = "How to repeat this"
"""The section of a report that the ratings precede: its last."""


def update(folder: Path, summary: Summary) -> str:
    """report.md with the blind ratings of now; both written reports are brought up to date where they can be written.

    Ratings belong to the home that the run lies in: a folder elsewhere keeps the section that it has. Raises UserError when
    a report cannot be read or has lost its last section.
    """
    results = folder.resolve().parent
    place = Home(results.parent.parent)
    try:
        if results != place.results:
            return (folder / "report.md").read_text(encoding="utf-8")
        section = _section(summary.arms, place)
        new = html_section(section) + "\n" if section else ""
        _replace(folder / "report.html", f"<h2>{TITLE}</h2>\n", f"<h2>{STANDS_BEFORE}</h2>\n", new)
        new = markdown_section(section) + "\n\n" if section else ""
        return _replace(folder / "report.md", f"## {TITLE}\n", f"## {STANDS_BEFORE}\n", new)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot bring the report in {folder} up to date: {error}", "rag-vs-ft eval EXPERIMENT --resume"
        ) from error


def _replace(path: Path, start: str, end: str, new: str) -> str:
    """Put `new` in the place of what begins with the line `start`, before the line `end`; both are lines of no other text.

    Gives the text of the file, also where it cannot be written: a report in a folder that is read-only can be read.
    """
    old = path.read_text(encoding="utf-8")
    before, mark, after = old.rpartition("\n" + end)
    if not mark:
        raise ValueError(f"{path.name} has no line {end.strip()!r}")
    kept = before.partition("\n" + start)[0].rstrip("\n")
    gap = "\n\n" if path.suffix == ".md" else "\n"
    text = kept + gap + new + end + after
    if text != old:
        with suppress(OSError):
            files.write_text(path, text)
    return text


def _section(arms: Sequence[ArmFigures], home: Home) -> Section | None:
    """What people preferred, without knowing which arm was which; None when nobody has rated here."""
    try:
        found = preferences(home)
    except UserError as error:
        return Section(TITLE, (f"The ratings cannot be read: {error.message}.",))
    if not found:
        return None
    ours: dict[str, list[str]] = {}
    for arm in arms:
        if arm.context in WAYS:
            ours.setdefault(arm_name(arm.adapter or arm.model, CONTEXTS[arm.context].is_search), []).append(arm.name)
    rows: list[tuple[str, ...]] = [("arm", "against", "wins", "ties", "losses", "both bad", "preferred", "95% interval")]
    for one in found:
        if one.arm in ours and one.other in ours:
            counts = (one.wins, one.ties, one.losses, one.both_bad)
            names = (", ".join(ours[name]) for name in (one.arm, one.other))
            rows.append((*names, *map(str, counts), percent(one.share), span(one.interval)))
    text = [
        "Answers of the app, rated by people who did not see which arm gave which. They may be to other questions and with "
        "other settings than this run's. An arm of the app is an arm of this run when model and kind of context are the same. "
        "Preferred: share of the ratings that were decided, with Wilson's interval; ties include both bad.",
    ]
    if others := len(found) - len(rows) + 1:
        text.append(f"{plural(others, 'rated pair')} of arms that are not both in this run: the app's page Rate shows all.")
    return Section(TITLE, tuple(text), tuple(rows) if len(rows) > 1 else ())
