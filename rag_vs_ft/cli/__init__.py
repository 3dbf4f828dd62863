"""The command line: thin verbs over the library. Results go to standard output, everything else to standard error.

Exit codes: 0 done, 1 a check failed, 2 the input is wrong, 3 locked or busy, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from rag_vs_ft import __version__, files
from rag_vs_ft.cli import app as app_verb
from rag_vs_ft.cli import (
    ask,
    choose,
    corpus,
    doctor,
    evaluation,
    feedback,
    index,
    jobs,
    models,
    questions,
    results,
    runs,
    serve,
    training,
)
from rag_vs_ft.cli.common import make_output_safe, say
from rag_vs_ft.errors import UserError

app = typer.Typer(
    name="rag-vs-ft",
    help="Which way of giving a small local language model your documents answers best? Index, ask, train, compare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for single in (ask, choose, evaluation, training, app_verb, serve, doctor):
    app.add_typer(single.app)
for group in (corpus, index, models, questions, runs, results, jobs, feedback):
    app.add_typer(group.app, name=group.__name__.rpartition(".")[2])


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; the one place where errors become messages and exit codes."""
    # What libraries say to each other about their next versions is nothing that the user can act on.
    warnings.filterwarnings("ignore", category=FutureWarning)
    make_output_safe()
    try:
        app()
    except UserError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader went away (`| head`); Python would complain once more while closing standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        # A folder that may not be written, a full disk, a name that is too long: the system says which file and why.
        say(f"error: {files.unusable(error)}")
        sys.exit(2)
    except MemoryError:
        say("error: there is not enough memory for this\n  use a smaller model, corpus or batch")
        sys.exit(2)
