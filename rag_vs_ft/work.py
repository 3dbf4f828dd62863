"""What a job can do: each entry of `WORK` is a plain function of (home, progress, its arguments) that says what it made.

The first sentence that it returns is the result, the others are what the reader should know besides. Arguments are JSON values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rag_vs_ft.progress import Progress
from rag_vs_ft.settings import Home

if TYPE_CHECKING:
    from rag_vs_ft.corpus.manifest import CorpusManifest
    from rag_vs_ft.training.train import RunResult

NAMED_FILES = 3
"""Files that are named of those that were left out for a reason; the page Index has more."""


def build_sample(home: Home, progress: Progress) -> list[str]:
    """Pull the default models, add the packaged sample and index it."""
    from rag_vs_ft import settings

    for name in (settings.EMBEDDER, settings.LANGUAGE_MODEL):
        pull(home, progress, name)
    return build_index(home, progress, settings.SAMPLE, settings.SAMPLE)


def build_index(home: Home, progress: Progress, name: str, source: str, chunk_size: int = 0) -> list[str]:
    """Read the documents of `source` into the corpus `name`, or read them again, and index them under the same name."""
    from rag_vs_ft.corpus import store
    from rag_vs_ft.index import build

    progress("read")
    known = [info.name for info in store.list_corpora(home)]
    info = (
        store.update(name, source, home=home, progress=progress)
        if name in known
        else store.add(name, source, home=home, progress=progress)
    )
    recipe = build.Recipe(chunk_size=chunk_size)
    result = build.build(name, name, recipe, home, progress)
    counts = info.manifest.counts
    documents = "1 document is" if counts.documents == 1 else f"{counts.documents:,} documents are"
    passages = "1 passage" if result.counts.chunks == 1 else f"{result.counts.chunks:,} passages"
    made = f"{documents} indexed in {passages}."
    return [
        made,
        *(f"Left out: {count:,} {reason}{_named(info.manifest, reason)}." for reason, count in info.manifest.skipped.items()),
    ]


def _named(manifest: CorpusManifest, reason: str) -> str:
    """The first files that were left out for a reason, unless not everyone may read these documents."""
    examples = () if manifest.restricted else manifest.skipped_examples.get(reason, ())
    more = ", …" if manifest.skipped[reason] > NAMED_FILES else ""
    return f" ({', '.join(examples[:NAMED_FILES])}{more})" if examples else ""


def update_index(home: Home, progress: Progress, name: str, corpus: str, source: str | None = None) -> list[str]:
    """Read the documents again, or from another source, then index what is new."""
    from rag_vs_ft.corpus import store
    from rag_vs_ft.index import build

    progress("read")
    store.update(corpus, source, home=home, progress=progress)
    result = build.update(name, home, progress)
    counts = result.counts
    if not result.published:
        return ["Nothing has changed."]
    added = "1 passage" if counts.chunks_added == 1 else f"{counts.chunks_added:,} passages"
    return [f"The index was updated: {added} added, {counts.chunks_removed:,} removed."]


def verify_index(home: Home, progress: Progress, name: str) -> list[str]:
    """Compare every file of every generation of an index with its checksum. Raises CheckFailed with what is damaged."""
    from rag_vs_ft.errors import CheckFailed
    from rag_vs_ft.index import generations

    progress("verify")
    if faults := generations.verify_all(home.indexes / name):
        raise CheckFailed("; ".join(faults), "build the index again, or roll back to a generation that is whole")
    return [f"Every file of {name} is as it was built."]


def evaluate(home: Home, progress: Progress, experiment: str, run: str, limit: int | None = None) -> list[str]:
    """Run an experiment; what an earlier attempt has computed is used again."""
    from rag_vs_ft.evaluation.harness import run_experiment

    path = Path(experiment)
    result = run_experiment(path, home=home, limit=limit, run_name=run, resume=True, skip_missing=True, progress=progress)
    left_out = {**result.skipped, **result.failed}
    return [f"The run {result.name} is finished.", *(f"{arm} is not in it: {reason}" for arm, reason in left_out.items())]


def choose(home: Home, progress: Progress, corpus: str, hours: float, run: str = "") -> list[str]:
    """Compare the ways of giving a model these documents within a budget; called again under its name, `run` goes on."""
    from rag_vs_ft import choose as chooser

    result = chooser.choose(corpus, home, hours=hours, run_name=run, progress=progress)
    if result is None:
        return ["Nothing was done."]
    return [f"The run {result.run.name} is finished.", *result.run.summary.verdict.splitlines(), *result.more]


def train(
    home: Home, progress: Progress, run: str, arm: str, corpus: str, preset: str, overrides: Mapping[str, str] | None = None
) -> list[str]:
    """Train a model on a corpus."""
    from rag_vs_ft.training import train as training
    from rag_vs_ft.training.presets import checked_arm

    request = training.Request(checked_arm(arm), preset, corpus, overrides=overrides or {})
    return _trained(training.train(request, run, home, progress=progress))


def resume(home: Home, progress: Progress, run: str) -> list[str]:
    """Go on with a run from its last whole checkpoint."""
    from rag_vs_ft.training import train as training

    return _trained(training.resume(run, home, progress=progress))


def _trained(result: RunResult) -> list[str]:
    ended = result.outcome
    best = f"{ended.best_bits_per_byte:.3f} bits per byte on held-out documents at step {ended.best_step:,}"
    return [f"{result.name} is trained: {ended.steps:,} steps, {best}."]


def pull(home: Home, progress: Progress, name: str) -> list[str]:
    """Fetch a model's weights and check them."""
    from rag_vs_ft import pulling

    pulling.pull(name, progress=progress)
    return [f"{name} is on this machine."]


WORK: dict[str, Callable[..., list[str]]] = {
    "sample": build_sample,
    "index": build_index,
    "update": update_index,
    "verify": verify_index,
    "evaluate": evaluate,
    "choose": choose,
    "train": train,
    "resume": resume,
    "pull": pull,
}
