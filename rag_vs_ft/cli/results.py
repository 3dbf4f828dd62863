"""`rag-vs-ft results`: what was evaluated."""

from __future__ import annotations

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import HomeOption, JsonOption, say, show, verbs

app: typer.Typer = verbs("Evaluations: list, verify.")


@app.command("list")
def results_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """The evaluations of this home, and why each of the others cannot be read.

    Example: rag-vs-ft results list
    """
    from rag_vs_ft.evaluation.checks import list_results

    found = list_results(settings.home(home))
    for name, reason in found.damaged.items():
        say(f"damaged: {name}: {reason}")
    if as_json:
        finished = {name: summary.verdict for name, summary in found.finished.items()}
        show({"finished": finished, "stopped": list(found.stopped), "damaged": found.damaged})
        return
    for name, summary in found.finished.items():
        print(f"{name:20} {len(summary.arms):>3} arms  {summary.questions.n:>6,} questions  {summary.experiment}")
    for name in found.stopped:
        print(f"{name:20} stopped: rag-vs-ft eval EXPERIMENT --run {name} --resume goes on with it")
    if not found.finished and not found.stopped and not found.damaged:
        say("no evaluation yet: rag-vs-ft eval eval/experiments/quick.toml --skip-missing")


@app.command("verify")
def results_verify(name: str, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Compare every file of an evaluation with what was written; exits with 1 when one differs.

    Example: rag-vs-ft results verify quick
    """
    from rag_vs_ft.cli.doctor import show_faults
    from rag_vs_ft.evaluation.checks import verify

    folder = settings.home(home).results / settings.check_name("run", name)
    hint = f"rag-vs-ft eval EXPERIMENT --run {name}-again (what is whole is used again), then remove {folder}"
    show_faults("results", name, verify(folder), as_json, hint)
