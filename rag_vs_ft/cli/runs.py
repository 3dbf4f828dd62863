"""`rag-vs-ft runs`: what was trained."""

from __future__ import annotations

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import HomeOption, JsonOption, say, show, verbs

app: typer.Typer = verbs("Training runs: list, verify.")


@app.command("list")
def runs_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """The runs of this home, and why each of the others cannot be read.

    Example: rag-vs-ft runs list
    """
    from rag_vs_ft.training.runs import being_trained, list_runs, run_folder

    where = settings.home(home)
    found = list_runs(where)
    for reason in found.damaged.values():
        say(f"damaged: {reason}")
    if as_json:
        show({"runs": [{"name": run.name, **run.record.to_json()} for run in found.runs], "damaged": found.damaged})
        return
    for run in found.runs:
        result = run.record.result
        said = f"{result.steps:,} steps, {result.best_bits_per_byte:.3f} bits per byte" if result else ""
        going = run.record.state == "finished" or being_trained(run_folder(where, run.name))
        print(f"{run.name:20} {run.record.arm:9} {run.record.state if going else 'stopped':10} {said}")
    if not found.runs and not found.damaged:
        say("no run yet: rag-vs-ft train scratch --corpus sample --preset nano --run nano")


@app.command("verify")
def runs_verify(name: str, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Compare every file of a run with what was written; exits with 1 when one differs.

    Example: rag-vs-ft runs verify nano
    """
    from rag_vs_ft.cli.doctor import show_faults
    from rag_vs_ft.training.runs import run_folder, verify

    folder = run_folder(settings.home(home), name)
    hint = f"rag-vs-ft train --run {name} --resume goes on from the last whole checkpoint, or remove {folder} and train again"
    show_faults("run", name, verify(folder), as_json, hint)
