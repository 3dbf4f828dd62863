"""`rag-vs-ft doctor`, and what the `verify` verbs share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import HomeOption, JsonOption, StageBar, say, show
from rag_vs_ft.errors import CheckFailed

app = typer.Typer()


def show_faults(kind: str, name: str, faults: Sequence[str], as_json: bool, hint: str) -> None:
    """Print what a `verify` verb found. Raises CheckFailed when it found anything."""
    if as_json:
        show({kind: name, "ok": not faults, "faults": list(faults)})
    else:
        print(f"{name}: {'every file is as it was written' if not faults else f'{len(faults)} faults'}")
    for fault in faults:
        say(fault)
    if faults:
        raise CheckFailed(f"{kind} {name!r} is damaged", hint)


@app.command("doctor")
def doctor(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Compare everything that is kept with what was written: corpora, indexes, runs, results, conversations, models.

    Says what to do about each fault; exits with 1 when there is one.

    Example: rag-vs-ft doctor
    """
    from rag_vs_ft.doctor import examine

    found = examine(settings.home(home), StageBar())
    bad = [finding for finding in found if finding.faults]
    if as_json:
        show({"ok": not bad, "found": [finding.to_json() for finding in found]})
    else:
        wide = max((len(finding.name) for finding in found), default=0)
        for finding in found:
            print(f"{finding.kind:14} {finding.name:{wide}}  {'damaged' if finding.faults else 'whole'}")
            for fault in finding.faults[:5]:
                print(f"    {fault}")
            if len(finding.faults) > 5:
                print(f"    and {len(finding.faults) - 5} more")
            if finding.faults:
                print(f"    to do: {finding.todo}")
    if not found:
        say("there is nothing here yet: rag-vs-ft demo")
    if bad:
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(finding.kind for finding in bad).items())
        raise CheckFailed(f"{len(bad)} of {len(found)} are damaged: {kinds}", "the list says what to do about each")
