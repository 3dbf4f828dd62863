"""`rag-vs-ft choose`: the whole comparison on one's own documents, within a budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import AsOption, HomeOption, JsonOption, StageBar, say, show
from rag_vs_ft.errors import UserError

if TYPE_CHECKING:
    from rag_vs_ft.choose import BudgetPlan

app = typer.Typer()


@app.command("choose")
def choose(
    corpus: Annotated[str, typer.Argument(help="A corpus that was added: rag-vs-ft corpus add NAME SOURCE.")],
    hours: Annotated[float, typer.Option("--hours", help="The budget.")] = 2.0,
    plan_only: Annotated[bool, typer.Option("--plan", help="Print the plan with its seconds, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the work starts.")] = False,
    reader: Annotated[str, typer.Option("--reader", help="The model that answers.")] = settings.LANGUAGE_MODEL,
    train: Annotated[
        list[str] | None,
        typer.Option("--train", help="ARM=PRESET, as often as needed; none: nothing is trained [default: scratch and lora]."),
    ] = None,
    run: Annotated[str, typer.Option("--run", help="Name of the results folder [default: choose-CORPUS].")] = "",
    gate: Annotated[
        Path | None,
        typer.Option("--gate", help="Results of an earlier choose: ask its questions again, exit with 1 if answers got worse."),
    ] = None,
    as_json: JsonOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Which way of giving a model these documents answers best? Mines questions, trains, compares, and says how sure it is.

    Example: rag-vs-ft choose docs --hours 2
    """
    from rag_vs_ft import choose as chooser

    trained = dict(chooser.TRAIN)
    if train is not None:
        trained = {}
        for text in train:
            arm, found, preset = text.partition("=")
            if text != "none" and not (found and preset):
                raise UserError(f"--train {text!r} is not ARM=PRESET", "for example --train lora=smollm2-135m-instruct, or none")
            if found:
                trained[arm] = preset

    def go_on(plan: BudgetPlan) -> bool:
        say(str(plan))
        if plan_only or yes or gate is not None or not sys.stdin.isatty():
            return not plan_only
        return typer.confirm("Start?", default=True, err=True)

    bar = StageBar()
    result = chooser.choose(
        corpus,
        settings.home(home),
        hours=hours,
        reader=reader,
        train=trained,
        run_name=run,
        gate=gate,
        go_on=go_on,
        progress=bar,
    )
    bar.close()
    if result is None:
        return
    if as_json:
        show(result.to_json())
    else:
        print(result)
        say(f"report: {result.run.folder / 'report.html'}")
    result.run.raise_failures()
    chooser.require_no_worse(result)
