"""`rag-vs-ft questions`: question files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import (
    AddressOption,
    AllowRemoteOption,
    AsOption,
    EngineOption,
    HomeOption,
    JsonOption,
    StageBar,
    WorkersOption,
    say,
    show,
    verbs,
)
from rag_vs_ft.errors import CheckFailed, UserError

if TYPE_CHECKING:
    from rag_vs_ft.mining import Mined

app = verbs("Question files: check them, mine them.")
mine = verbs("Questions without an annotator, each with the sentence it comes from.")
app.add_typer(mine, name="mine")

OutOption = Annotated[Path, typer.Option("--out", help="Where the question file goes (JSON Lines).")]
SeedOption = Annotated[int, typer.Option("--seed", help="The same documents and seed give the same questions.")]


@app.command("check")
def questions_check(
    file: Annotated[Path, typer.Argument(help="A question file (JSON Lines).")],
    corpus: Annotated[str | None, typer.Option("--corpus", help="Check answers and gold documents against this corpus.")] = None,
    as_json: JsonOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Check a question file: format, balance, splits and, with a corpus, its truth; exits with 1 when something is wrong.

    Example: rag-vs-ft questions check eval/questions/sample.jsonl --corpus sample
    """
    from rag_vs_ft.corpus import store
    from rag_vs_ft.evaluation.questions import check_questions

    documents = store.open_corpus(corpus, settings.home(home)).documents() if corpus else None
    report = check_questions(file, documents)
    if as_json:
        show(report.to_json())
    else:
        print(f"{file}: {report.questions} questions, {len(report.faults)} faults")
        for key, value in report.summary.items():
            print(f"  {key}: {value}")
    if report.faults:
        for fault in report.faults:
            say(f"{file}: {fault}")
        raise CheckFailed(f"{file} has {len(report.faults)} faults", "mend the lines named above")


@mine.command("faq")
def mine_faq(
    corpus: Annotated[str, typer.Argument(help="A corpus added without its FAQ files.")],
    out: OutOption,
    as_json: JsonOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Questions and answers of the FAQ YAML files in a corpus's source; documents that an answer links become its gold.

    Example: rag-vs-ft questions mine faq docs --out faq.jsonl
    """
    from rag_vs_ft import mining

    _write(mining.mine_faq(corpus, settings.home(home), progress=StageBar()), out, as_json)


@mine.command("quiz")
def mine_quiz(
    path: Annotated[Path, typer.Argument(help="A knowledge-check YAML file, or a folder of them.")],
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Multiple-choice questions of Microsoft Learn knowledge checks.

    Example: rag-vs-ft questions mine quiz learn-pr/azure --out quiz.jsonl
    """
    from rag_vs_ft import mining

    _write(mining.mine_quiz(path), out, as_json)


@mine.command("cloze")
def mine_cloze(
    corpus: Annotated[str, typer.Argument(help="The corpus.")],
    out: OutOption,
    limit: Annotated[int | None, typer.Option("--limit", help="At most this many, from everywhere in the corpus.")] = None,
    seed: SeedOption = settings.SEED,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
    allow_remote: AllowRemoteOption = False,
    as_json: JsonOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Gap questions: one checkable fact of a sentence left out, four choices of its kind.

    Example: rag-vs-ft questions mine cloze docs --out cloze.jsonl --limit 2000
    """
    from rag_vs_ft import mining
    from rag_vs_ft.corpus import store
    from rag_vs_ft.corpus.splits import default_split
    from rag_vs_ft.engines import WorkEngine

    where = WorkEngine(engine, workers, address)
    opened = store.open_corpus(corpus, settings.home(home))
    # A model cannot have learned from documents that training holds out.
    training = set(default_split(opened.documents()).train)
    mined = mining.mine_cloze(opened, seed=seed, limit=limit, only=training, progress=StageBar(), engine=where)
    _write(mined, out, as_json)


@mine.command("updates")
def mine_updates(
    old: Annotated[str, typer.Argument(help="The older version of a corpus.")],
    new: Annotated[str, typer.Argument(help="The newer version.")],
    out: OutOption,
    seed: SeedOption = settings.SEED,
    balanced: Annotated[bool, typer.Option("--balanced", help="As many facts that grew as facts that shrank.")] = False,
    as_json: JsonOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Forced choices between the old and the new fact, for each fact that an update changed.

    Example: rag-vs-ft questions mine updates docs-june docs-august --out updates.jsonl
    """
    from rag_vs_ft import mining
    from rag_vs_ft.corpus import store

    place = settings.home(home)
    versions = store.open_corpus(old, place), store.open_corpus(new, place)
    _write(mining.mine_updates(*versions, seed=seed, balanced=balanced, progress=StageBar()), out, as_json)


def _write(mined: Mined, out: Path, as_json: bool) -> None:
    from rag_vs_ft.records import write_jsonl

    try:
        write_jsonl(out, (question.to_json() for question in mined.questions))
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}", "name another file with --out") from error
    if as_json:
        show(mined.to_json() | {"file": str(out)})
        return
    for reason, count in mined.funnel.items():
        print(f"{count:>8,}  {reason}")
    for guesser, share in mined.balance.items():
        print(f"{share:>8.3f}  right by {guesser}")
    print(f"{len(mined.questions):,} questions in {out}")
