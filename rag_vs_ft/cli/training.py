"""`rag-vs-ft train`, `sample`, `perplexity`, `tokenize` and `instructions`: models out of documents."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_vs_ft import settings
from rag_vs_ft.cli.common import MODEL_HELP, AsOption, HomeOption, JsonOption, RetrieverOption, StageBar, open_index, say, show
from rag_vs_ft.errors import UserError

if TYPE_CHECKING:
    from rag_vs_ft.evaluation.perplexity import TextScore

app = typer.Typer()


@app.command("train")
def train(
    run: Annotated[str, typer.Option("--run", help="What to call the run.")],
    arm: Annotated[str | None, typer.Argument(help="scratch, finetune, lora or instruct; not needed with --resume.")] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="A preset's name, or a TOML file of your own; not needed with --resume.")
    ] = None,
    corpus: Annotated[str | None, typer.Option("--corpus", help="The documents (scratch, finetune, lora).")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Alpaca JSON file (instruct).")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="key=value of the preset, as often as needed.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last whole checkpoint; the run remembers everything else.")
    ] = False,
    track: Annotated[str | None, typer.Option("--track", help="tensorboard, trackio or wandb.")] = None,
    as_json: JsonOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Train a model on a corpus; prints what it will take before it starts. Under torchrun, several processes share the work.

    Example: rag-vs-ft train scratch --corpus sample --preset nano --run nano --set steps=200
    """
    from rag_vs_ft.training import train as training
    from rag_vs_ft.training.presets import checked_arm

    overrides = {}
    for change in changes or ():
        key, found, value = change.partition("=")
        if not found:
            raise UserError(f"--set {change!r} is not key=value", "for example --set steps=200")
        overrides[key] = value
    request = training.Request(None if arm is None else checked_arm(arm), preset, corpus, data, overrides)
    bar = StageBar()
    if resume:
        result = training.resume(run, settings.home(home), request, track=track, progress=bar)
    else:
        result = training.train(request, run, settings.home(home), track=track, progress=bar)
    bar.close()
    if os.environ.get("RANK", "0") != "0":
        return  # the first of several processes speaks for all
    if as_json:
        show(result.to_json())
        return
    ended = result.outcome
    print(f"{result.name}: {ended.steps} steps in {ended.seconds:.0f} s, {ended.tokens_per_second:,.0f} tokens/s")
    print(f"validation: {ended.best_bits_per_byte:.3f} bits per byte at step {ended.best_step}; {ended.why}")
    print(f"curves: {result.folder / 'curves.html'}")


@app.command("sample")
def sample(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    prompt: Annotated[str, typer.Option("--prompt", help="The text to go on from.")],
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", help="How much to write, at most.")] = 200,
    temperature: Annotated[float, typer.Option("--temperature", help="0 is greedy.")] = 0.8,
    top_k: Annotated[int, typer.Option("--top-k", help="0 is off.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", help="1 is off.")] = 0.95,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same text.")] = settings.SEED,
    home: HomeOption = None,
) -> None:
    """Let a model go on from a text.

    Example: rag-vs-ft sample nano --prompt "A node pool"
    """
    from rag_vs_ft.models.generation import Sampling, generate
    from rag_vs_ft.models.loading import load
    from rag_vs_ft.models.prompting import continue_text

    sampling = Sampling(temperature, top_p, top_k, seed)
    lm = load(model, settings.home(home))
    start = continue_text(lm, prompt)
    room = min(max_new_tokens, lm.window - len(start.token_ids))
    pieces = generate(lm, start, max_new_tokens=room, sampling=sampling)
    print(prompt, end="")
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


@app.command("perplexity")
def perplexity(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    corpus: Annotated[str, typer.Option("--corpus", help="The documents to predict.")],
    side: Annotated[
        str, typer.Option("--side", help="validation (held out from training by its defaults) or train.")
    ] = "validation",
    documents: Annotated[int, typer.Option("--documents", help="So many of them, spread over all; 0: all.")] = 0,
    window: Annotated[int | None, typer.Option("--window", help="Tokens read at once [default: 1024, or the model's.]")] = None,
    stride: Annotated[
        list[int] | None,
        typer.Option("--stride", help="Tokens scored at once, as often as needed [default: half the window; 4, 16, 64]."),
    ] = None,
    index: Annotated[str | None, typer.Option("--index", help="Put a passage of this index before each stride.")] = None,
    retriever: RetrieverOption = "bm25",
    tokens: Annotated[int, typer.Option("--tokens", help="With --index: the first so many tokens of each document.")] = 256,
    as_json: JsonOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """How well a model predicts documents, bits per byte first; with an index, also with a passage before each stride.

    Example: rag-vs-ft perplexity nano --corpus sample
    """
    from rag_vs_ft.corpus.store import open_corpus
    from rag_vs_ft.evaluation import perplexity as measure
    from rag_vs_ft.evaluation.costs import run_record
    from rag_vs_ft.evaluation.held_out import side_documents, trained_on_validation
    from rag_vs_ft.models.loading import load

    if tokens < 1:
        raise UserError(f"--tokens is {tokens}", "use 1 or more")
    opened = open_corpus(corpus, settings.home(home))
    chosen = side_documents(opened, side, documents)
    reader = open_index(index, home) if index else None
    lm = load(model, settings.home(home))
    bar = StageBar()
    size = min(lm.window, measure.WINDOW) if window is None else window
    record = run_record(settings.home(home), model)
    seen = record is not None and trained_on_validation(record, opened)
    result: dict[str, Any] = {"model": lm.name, "weights_sha256": lm.weights_sha256, "corpus": corpus, "side": side}
    result["trained_on_validation"] = seen
    if side == "validation" and seen:
        say(f"WARNING: {model} was trained with another split or other documents and may have learned some of these")
    if reader is None:
        steps: list[int | None] = [*stride] if stride else [None]
        scores = [measure.score(lm, chosen, window=size, stride=step, progress=bar) for step in steps]
        bar.close()
        result["scores"] = [score.to_json() for score in scores]
        if not as_json:
            for score in scores:
                _print_score(score, "")
    else:
        retrieve = measure.passage_from(reader, chosen, retriever)
        result |= {"index": index, "index_generation": reader.generation.name, "retriever": retriever, "retrieval": []}
        for step in stride or measure.STRIDES:
            found = measure.score_with_retrieval(
                lm,
                chosen,
                retrieve,
                stride=step,
                window=size,
                passage_tokens=min(measure.PASSAGE_TOKENS, size // 2),
                max_tokens=tokens,
                progress=bar,
            )
            bar.close()
            result["retrieval"].append(found.to_json())
            if not as_json:
                _print_score(found.none, "no passage ")
                _print_score(found.retrieved, "a passage  ")
    if as_json:
        show(result)


def _print_score(score: TextScore, name: str) -> None:
    facts = score.to_json()
    print(
        f"{name}{score.bits_per_byte:.4f} bits per byte; perplexity {score.token_perplexity:,.2f} per token, "
        f"{score.word_perplexity:,.1f} per word ({facts['documents']} documents, {facts['bytes']:,} bytes, {facts['tokens']:,} "
        f"tokens; window {score.window}, stride {score.stride})",
        flush=True,
    )


@app.command("tokenize")
def tokenize(
    text: Annotated[str, typer.Argument(help="The text.")],
    tokenizer: Annotated[str, typer.Option("--tokenizer", help=f"Whose tokenizer. {MODEL_HELP}")] = "gpt2-tokenizer",
    as_json: JsonOption = False,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Show the tokens of a text and their ids.

    Example: rag-vs-ft tokenize "az aks create --max-surge 33%"
    """
    from rag_vs_ft.training.tokenizers import load_tokenizer
    from rag_vs_ft.training.tokenizers import tokenize as tokens_of

    tokens = tokens_of(text, load_tokenizer(tokenizer, settings.home(home)))
    if as_json:
        show({"tokenizer": tokenizer, "tokens": [{"text": piece, "id": token} for piece, token in tokens]})
        return
    for piece, token in tokens:
        print(f"{token:>7}  {json.dumps(piece, ensure_ascii=False)}")
    say(f"{len(tokens)} tokens, {len(text.encode()) / max(1, len(tokens)):.2f} bytes per token")


@app.command("instructions")
def instructions(
    corpus: Annotated[str, typer.Argument(help="The corpus whose sections become records.")],
    out: Annotated[Path, typer.Option("--out", help="Where the Alpaca JSON file goes.")],
    held_out: Annotated[
        list[Path], typer.Option("--held-out", help="Question files that no record may leak, as often as needed.")
    ],
    faq: Annotated[list[Path] | None, typer.Option("--faq", help="Mined question files that become records too.")] = None,
    index: Annotated[str | None, typer.Option("--with-context", help="Put passages of this index into the records.")] = None,
    self_instruct: Annotated[int, typer.Option("--self-instruct", help="So many tries of a model to write records.")] = 0,
    model: Annotated[str, typer.Option("--model", help=f"The model that writes them. {MODEL_HELP}")] = settings.LANGUAGE_MODEL,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same records.")] = settings.SEED,
    read_as: AsOption = None,
    home: HomeOption = None,
) -> None:
    """Build instruction records (Alpaca JSON) from headings, FAQ questions and, if asked, a model's own.

    Example: rag-vs-ft instructions sample --out instructions.json --held-out eval/questions/sample.jsonl
    """
    from rag_vs_ft.corpus import store
    from rag_vs_ft.evaluation.questions import load_questions
    from rag_vs_ft.overlap import HeldOut
    from rag_vs_ft.training import instructions as records
    from rag_vs_ft.training.headings import from_headings

    opened = store.open_corpus(corpus, settings.home(home))
    kept_out = HeldOut.read(held_out)
    parts = [from_headings(opened.documents(), kept_out, seed=seed)]
    for file in faq or ():
        parts.append(records.from_questions(load_questions(file), kept_out))
    if self_instruct:
        from rag_vs_ft.models.loading import load
        from rag_vs_ft.training.self_instruct import self_instruct as write_records

        lm = load(model, settings.home(home))
        journal = out.with_suffix(".journal.jsonl")
        known = [record for part in parts for record in part.records]
        parts.append(
            write_records(
                lm, opened.documents(), kept_out, journal, tries=self_instruct, known=known, seed=seed, progress=StageBar()
            )
        )
    built = records.joined(parts)
    funnels = [built.funnel]
    if index:
        reader = open_index(index, home)
        built = records.with_context(built.records, lambda question: reader.search(question, 20), seed=seed)
        funnels.append(built.funnel)
    records.write_alpaca(out, built.records)
    for funnel in funnels:
        for reason, count in funnel.items():
            print(f"{count:>8,}  {reason}")
    print(f"{len(built.records):,} records in {out}")
