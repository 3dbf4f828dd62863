"""`rag-vs-ft feedback`: what people said of answers in the app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import HomeOption, JsonOption, say, show, verbs

app = verbs("Thumbs, notes and blind ratings of answers: list, export.")

_THUMBS = {1: "up", 0: "down", None: "-"}


@app.command("list")
def feedback_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Every thumb and note, the oldest first, and how often each arm was preferred.

    Example: rag-vs-ft feedback list
    """
    from dataclasses import asdict

    from rag_vs_ft import feedback

    place = settings.home(home)
    found, preferred, agreed = feedback.read_feedback(place), feedback.preferences(place), feedback.agreements(place)
    if as_json:
        show(
            {
                "feedback": found,
                "preferences": [asdict(one) for one in preferred],
                "agreements": [asdict(one) for one in agreed],
            }
        )
        return
    for row in found:
        print(f"{row['time'][:16]}  {_THUMBS.get(row['thumb'], '-'):4}  {row['model']}  {_line(row['question'])}")
        for title in ("answer", "note"):
            if row[title]:
                print(f"    {title}: {_line(row[title])}")
    for one in preferred:
        print(f"{one.arm} against {one.other}: {one.wins} wins, {one.ties} ties, {one.losses} losses")
    for pair in agreed:
        kappa = "" if pair.kappa is None else f", Cohen's kappa {pair.kappa:.2f}"
        print(f"{pair.rater or 'no name'} and {pair.other or 'no name'}: {pair.share:.0%} of {pair.rated} agree{kappa}")
    if not found and not preferred:
        say("no feedback yet: people give it in the app, rag-vs-ft app")


@app.command("export")
def feedback_export(
    out: Annotated[Path, typer.Argument(help="The file to write: one JSON object a line.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Write every thumb and note with question, answer, chunk ids and settings to a JSON Lines file.

    Example: rag-vs-ft feedback export feedback.jsonl
    """
    from rag_vs_ft import feedback, files

    found = feedback.read_feedback(settings.home(home))
    files.write_text(out, feedback.as_json_lines(found))
    if as_json:
        show({"file": str(out), "rows": len(found)})
    else:
        print(f"{len(found)} rows in {out}")


def _line(text: Any) -> str:
    shown = " ".join(str(text).split())
    return shown if len(shown) <= 160 else f"{shown[:157]}..."
