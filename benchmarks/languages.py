"""How well BM25 finds pages in other languages: each page's title, and each section's heading, asked as a question.

    python benchmarks/languages.py [--shared ../shared] [--ways]

Reads `formats/mkdocs/docs/LANGUAGE` and prints, for each language and all of them in one index, the share of titles whose page is
among the first three (what a search reads: file name, title, headings and text), and of headings whose page is among the first
three when the text alone is searched, without titles and headings. `--ways` adds other ways to make terms, and Thai on the 24
passages and questions of `thai.tsv`, which were written for it; ways that need a library that is not installed are left out. No
language model and no vectors are used.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import bm25s
import numpy as np
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.corpus import store
from rag_vs_ft.index import lexical
from rag_vs_ft.index.chunking import Chunker, chunk_document
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.language import UNSPACED, detect
from rag_vs_ft.records import Chunk, Document

Terms = Callable[[str], list[str]]
Search = Callable[[str], np.ndarray]
ANALYZER, BM25 = lexical.Analyzer(), lexical.Bm25Settings()


def read(folder: Path, code: str, home: settings.Home) -> list[Document]:
    """The pages below a folder, as `corpus add` reads them."""
    store.add(code, str(folder), home=home)
    return list(store.open_corpus(code, home).documents())


def product(texts: Sequence[str], codes: Sequence[str]) -> Search:
    """BM25 as an index has it."""
    with tempfile.TemporaryDirectory() as folder:
        index = lexical.build(Path(folder), texts, ANALYZER, BM25, codes)
        index.scores("")  # loads it while the folder is there
        return index.scores


def peer(texts: Sequence[str], terms: Terms) -> Search:
    """BM25 with the same settings over other terms."""
    rows = [terms(text) for text in texts]
    numbers: dict[str, int] = {}
    ids = [[numbers.setdefault(term, len(numbers)) for term in row] for row in rows]
    index = bm25s.BM25(method="lucene", k1=BM25.k1, b=BM25.b)
    index.index((ids, numbers), show_progress=False)

    def scores(query: str) -> np.ndarray:
        known = [term for term in terms(query) if term in numbers]
        return index.get_scores(known) if known else np.zeros(len(rows))

    return scores


def _budoux(language: str) -> Callable[[str], Iterable[str]]:
    budoux = import_module("budoux")
    parser = budoux.load_default_japanese_parser() if language == "ja" else budoux.load_default_simplified_chinese_parser()
    return lambda run: parser.parse(run)


def _jieba() -> Callable[[str], Iterable[str]]:
    jieba = import_module("jieba")
    jieba.setLogLevel(60)
    return lambda run: jieba.cut_for_search(run)


def _janome() -> Callable[[str], Iterable[str]]:
    tokenizer = import_module("janome.tokenizer").Tokenizer()
    return lambda run: tokenizer.tokenize(run, wakati=True)


def _pythainlp() -> Callable[[str], Iterable[str]]:
    tokenize = import_module("pythainlp.tokenize")
    return lambda run: tokenize.word_tokenize(run, engine="newmm")


SEGMENTERS: dict[str, dict[str, Callable[[], Callable[[str], Iterable[str]]]]] = {
    "ja": {"budoux": lambda: _budoux("ja"), "janome": _janome},
    "zh": {"budoux": lambda: _budoux("zh"), "jieba": _jieba},
    "th": {"pythainlp": _pythainlp},
}
"""Libraries that find words, where they are installed."""


def other_ways(code: str) -> dict[str, Terms]:
    """Other terms for a language: what was done before, and what others do."""
    ways: dict[str, Terms] = {"the English analyzer": ANALYZER.terms}
    if code == "de":
        plain = replace(ANALYZER, stem=False)
        ways["German, not stemmed"] = lambda text: plain.terms(text, "de")
        no_pairs = replace(ANALYZER, pairs=False)
        ways["German, without pairs of words"] = lambda text: no_pairs.terms(text, "de")
        return ways
    if code not in SEGMENTERS:
        return ways

    def with_runs(make: Callable[[str], Iterable[str]]) -> Terms:
        run = re.compile(rf"([{UNSPACED}]+)")

        def terms(text: str) -> list[str]:
            parts = run.split(text)
            return [term for n, part in enumerate(parts) for term in (make(part) if n % 2 else ANALYZER.terms(part))]

        return terms

    ways["single letters"] = with_runs(list)
    ways["pairs of letters"] = with_runs(lambda run: [a + b for a, b in pairwise(run)] or [run])
    ways["threes of letters"] = with_runs(lambda run: [run[i : i + 3] for i in range(max(1, len(run) - 2))])
    for name, words in SEGMENTERS[code].items():
        with suppress(ImportError):
            ways[name] = with_runs(words())
    return ways


def share(questions: Sequence[tuple[str, set[str]]], documents: Sequence[str], search: Search) -> str:
    """Share of questions one of whose pages is among the first three, with the mean reciprocal rank of ten."""
    found = ranks = 0.0
    for question, gold in questions:
        scores = search(question)
        ranking = list(dict.fromkeys(documents[row] for row in np.argsort(-scores, kind="stable") if scores[row] > 0))[:10]
        place = next((place for place, name in enumerate(ranking, start=1) if name in gold), 0)
        found += 0 < place <= 3
        ranks += 1 / place if place else 0
    return f"{found / len(questions):6.1%} {ranks / len(questions):6.3f}"


def asked(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, set[str]]]:
    """Questions and their pages; a text that several pages have is a question for any of them."""
    gold: dict[str, set[str]] = {}
    for text, document in pairs:
        gold.setdefault(text, set()).add(document)
    return sorted(gold.items())


def measure(label: str, chunks: Sequence[Chunk], documents: Sequence[Document], codes: dict[str, str], ways: bool) -> None:
    """Print the rows of one index."""
    names = [chunk.document_id for chunk in chunks]
    titles = asked((document.title, document.id) for document in documents)
    headings = asked((heading.text, document.id) for document in documents for heading in document.headings if heading.level > 1)
    whole, text = [lexical.searchable_text(chunk) for chunk in chunks], [chunk.text for chunk in chunks]
    spoken = [codes[name] for name in names]
    print(f"\n{label}: {len(documents)} pages, {len(chunks)} passages, {len(titles)} titles, {len(headings)} headings")
    start = time.perf_counter()
    search = product(whole, spoken)
    seconds = time.perf_counter() - start
    row = f"{share(titles, names, search)}   {share(headings, names, product(text, spoken))}"
    print(f"  {'the product':32s} titles {row}   {seconds:.2f} s")
    for name, terms in other_ways(label).items() if ways else ():
        start = time.perf_counter()
        search = peer(whole, terms)
        seconds = time.perf_counter() - start
        print(
            f"  {name:32s} titles {share(titles, names, search)}   {share(headings, names, peer(text, terms))}   {seconds:.2f} s"
        )


def among(code: str, chunks: Sequence[Chunk], documents: Sequence[Document], codes: dict[str, str]) -> None:
    """Print how headings of one language are found in the texts of an index of all."""
    names, text = [chunk.document_id for chunk in chunks], [chunk.text for chunk in chunks]
    headings = asked((heading.text, document.id) for document in documents for heading in document.headings if heading.level > 1)
    print(f"  headings of {code}: the product {share(headings, names, product(text, [codes[name] for name in names]))}")
    for name in ("single letters", "pairs of letters"):
        print(f"    {name:28s} {share(headings, names, peer(text, other_ways(code)[name]))}")


def thai() -> None:
    """Print how the questions of `thai.tsv` find their passages."""
    pairs = [line.split("\t") for line in Path(__file__).with_name("thai.tsv").read_text(encoding="utf-8").splitlines()]
    texts, names = [passage for passage, _ in pairs], [str(number) for number in range(len(pairs))]
    questions = [(question, {name}) for (_, question), name in zip(pairs, names, strict=True)]
    print(f"\nth: {len(pairs)} passages and questions")
    print(f"  {'the product':32s} {share(questions, names, product(texts, ['th'] * len(texts)))}")
    for name, terms in other_ways("th").items():
        print(f"  {name:32s} {share(questions, names, peer(texts, terms))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("RAG_VS_FT_SHARED", "../shared")))
    parser.add_argument("--ways", action="store_true")
    arguments = parser.parse_args()
    print(describe())
    embedder = Embedder(settings.EMBEDDER)
    chunker = Chunker.of(None, embedder.model.window, embedder.around)
    print("share of questions whose page is among the first three, and mean reciprocal rank of ten: titles, headings in the text")
    everything: list[Document] = []
    codes: dict[str, str] = {}
    all_chunks: list[Chunk] = []
    with tempfile.TemporaryDirectory() as temporary:
        for folder in sorted((arguments.shared / "formats" / "mkdocs" / "docs").iterdir()):
            code = folder.name
            documents = [replace(d, id=f"{code}/{d.id}") for d in read(folder, code, settings.home(temporary))]
            found = {document.id: detect(document.text) for document in documents}
            wrong = [name for name, language in found.items() if language != code]
            print(f"\n{code}: language found in {len(found) - len(wrong)} of {len(found)} pages {wrong[:5] or ''}")
            chunks = [chunk for document in documents for chunk in chunk_document(document, chunker, embedder.offsets)]
            measure(code, chunks, documents, found, arguments.ways)
            everything += documents
            codes |= found
            all_chunks += chunks
        measure("all four in one index", all_chunks, everything, codes, False)
        for code in ("ja", "zh") if arguments.ways else ():
            among(code, all_chunks, [document for document in everything if codes[document.id] == code], codes)
    if arguments.ways:
        thai()


if __name__ == "__main__":
    main()
