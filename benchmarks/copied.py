"""Does a model write its training documents out again?

    python benchmarks/copied.py RUN --corpus NAME [--home HOME] [--texts 20] [--words 100]

Goes on from the first words of held-out documents, as `sample` does (temperature 0.8, top-p 0.95), and reports for each text the
longest run of words that also stands in a training document (`words`: letters and digits, lower case). The control is what
follows those first words in the held-out document itself, cut to as many words: that is how much the author repeats himself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.corpus.store import open_corpus
from rag_vs_ft.evaluation.held_out import side_documents
from rag_vs_ft.language import words
from rag_vs_ft.models.generation import Sampling, generate
from rag_vs_ft.models.loading import load
from rag_vs_ft.models.prompting import continue_text

OPENING = 20
"""Words of a held-out document that a text begins with."""


def longest_run(text: list[str], known: str) -> list[str]:
    """The longest run of `text` that stands in `known`, which is words joined, begun and ended by spaces."""
    longest: list[str] = []
    start = 0
    for end in range(1, len(text) + 1):
        while start < end and f" {' '.join(text[start:end])} " not in known:
            start += 1
        if end - start > len(longest):
            longest = text[start:end]
    return longest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--words", type=int, default=100)
    arguments = parser.parse_args()
    print(describe())
    home = settings.home(arguments.home)
    corpus = open_corpus(arguments.corpus, home)
    known = " | ".join(f" {' '.join(words(document.text))} " for document in side_documents(corpus, "train", 0))
    model = load(arguments.run, home)
    runs: dict[str, list[list[str]]] = {"written by the model": [], "what the document says": []}
    for seed, document in enumerate(side_documents(corpus, "validation", arguments.texts)):
        opening = " ".join(document.text.split()[:OPENING])
        prompt = continue_text(model, opening)
        room = min(2 * arguments.words, model.window - len(prompt.token_ids))
        written = "".join(generate(model, prompt, max_new_tokens=room, sampling=Sampling(temperature=0.8, top_p=0.95, seed=seed)))
        rest = " ".join(document.text.split()[OPENING:])
        for name, text in (("written by the model", written), ("what the document says", rest)):
            runs[name].append(longest_run(words(text)[: arguments.words], known))
    for name, found in runs.items():
        longest = max(found, key=len)
        print(f"{name}: {len(found)} texts, longest runs {sorted(map(len, found))}, median {median(map(len, found)):g}")
        print(f"  the longest of all, {len(longest)} words: {' '.join(longest)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
