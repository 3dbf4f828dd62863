"""`rag-vs-ft jobs`: the long work that the app's pages start."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import HomeOption, JsonOption, say, show, verbs

app = verbs("Long work of the app: list, cancel.")


@app.command("list")
def jobs_list(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """What runs and what ran, the newest first.

    Example: rag-vs-ft jobs list
    """
    from rag_vs_ft import jobs

    found = jobs.list_jobs(settings.home(home))
    for reason in jobs.damaged(settings.home(home)).values():
        say(f"damaged: {reason}")
    if as_json:
        show({"jobs": [job.to_json() for job in found]})
        return
    for job in found:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
        done = f" {job.stage} {job.done:,} of {job.total:,}" if job.running and job.total else ""
        print(f"{job.id}  {started}  {job.seconds:>7,.0f} s  {job.state:9} {job.title}{done}")
        for note in job.notes[:1]:
            print(f"    {note}")
    if not found:
        say("nothing has been started from the app yet: rag-vs-ft app")


@app.command("cancel")
def jobs_cancel(
    id: Annotated[str, typer.Argument(help="As `jobs list` shows it.")], as_json: JsonOption = False, home: HomeOption = None
) -> None:
    """Ask a job to stop; asked a second time, it is ended at once.

    Example: rag-vs-ft jobs cancel 20260801-101500-000000-abcd
    """
    from rag_vs_ft import jobs

    job = jobs.cancel(settings.home(home), id)
    if as_json:
        show(job.to_json())
    else:
        print(f"{job.title}: {job.state}")
