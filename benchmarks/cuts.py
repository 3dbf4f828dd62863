"""Other ways to cut documents into passages, for retrieval_choices.py: their passages, what is embedded of each, and its vector.

    python benchmarks/cuts.py --home HOME --corpus NAME --cut CUT --cache FOLDER [--part FILE]

fills the cache ahead of time (killed, it goes on). Vectors are kept by the text they were made from, so cuts share them. `--part`
is a file with one document id a line: only these are cut.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.corpus.store import Corpus, open_corpus
from rag_vs_ft.index import build, lexical
from rag_vs_ft.index.chunking import Chunker, chunk_document, embedded_text
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.records import Chunk


@dataclass(frozen=True)
class Cut:
    """Passages of a corpus in a fixed order, what BM25 and the embedding model read of each, and the vectors."""

    chunks: list[Chunk]
    words: Callable[[Chunk], str]
    vectors: np.ndarray


def sized(size: int, overlap: int = 0) -> Callable[[Corpus, Embedder], Iterator[Chunk]]:
    """This project's chunks of another size; with `overlap`, each begins with so many tokens of its section before it."""

    def cut(corpus: Corpus, embedder: Embedder) -> Iterator[Chunk]:
        chunker = Chunker(size=size, limit=embedder.id.max_tokens)
        for document in corpus.documents():
            before: Chunk | None = None
            for chunk in chunk_document(document, chunker, embedder.offsets):
                shown = chunk
                if overlap and before is not None and before.heading == chunk.heading:
                    ranges = embedder.offsets(before.text)
                    tail = before.text[ranges[-min(overlap, len(ranges))][0] :]
                    shown = replace(chunk, text=f"{tail}\n{chunk.text}")
                before = chunk
                yield shown

    return cut


def newcomer(corpus: Corpus, embedder: Embedder) -> Iterator[Chunk]:
    """The raw Markdown files in pieces of 1,000 characters that share 100, as the splitter's documentation shows."""
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

    source = corpus.manifest.source
    root = Path(build.__file__).parents[1] / "sample" / "docs" if source == "sample" else Path(source)
    splitter = RecursiveCharacterTextSplitter.from_language(Language.MARKDOWN, chunk_size=1000, chunk_overlap=100)
    for path in sorted(root.rglob("*.md")):
        text = path.read_text(encoding="utf-8", errors="replace")
        name = path.relative_to(root).as_posix()
        found = re.search(r"^title:\s*(.+)$", text, re.MULTILINE) or re.search(r"^#\s+(.+)$", text, re.MULTILINE)
        title = found[1].strip("'\" ") if found else ""
        for number, part in enumerate(splitter.split_text(text)):
            yield Chunk(f"{name}#{number}", name, title, "", part, 0, len(part), 0)


def with_breadcrumb(embedder: Embedder) -> Callable[[Chunk], str]:
    return lambda chunk: embedded_text(chunk, Chunker(limit=embedder.id.max_tokens), embedder.offsets)


def text_alone(_: Embedder) -> Callable[[Chunk], str]:
    return lambda chunk: chunk.text


CUTS = {
    "120": (sized(120), with_breadcrumb),
    "160+40": (sized(160, 40), with_breadcrumb),
    "no-breadcrumb": (sized(200), text_alone),
    "newcomer": (newcomer, text_alone),
}


def make(name: str, corpus: Corpus, embedder: Embedder, cache: Path, part: Iterable[str] = ()) -> Cut:
    """One of `CUTS` over a corpus, or over the documents of it that `part` names."""
    cut, embedded = CUTS[name]
    wanted = set(part)
    chunks = [chunk for chunk in cut(corpus, embedder) if not wanted or chunk.document_id in wanted]
    text_of = embedded(embedder)
    texts = [text_of(chunk) for chunk in chunks]
    keys = [hashlib.sha256(text.encode()).digest() for text in texts]
    unique = dict(zip(keys, texts, strict=True))
    store = build.VectorStore(cache / embedder.precision, embedder.id.dimension)
    there = set(store.known().keys.to_pylist())
    missing = sorted((key for key in unique if key not in there), key=lambda key: (-len(unique[key]), key))
    for start in range(0, len(missing), build.SHARD):
        batch = missing[start : start + build.SHARD]
        print(f"{name}: {start:,} of {len(missing):,} texts embedded", file=sys.stderr, flush=True)
        store.append(batch, embedder.encode([unique[key] for key in batch]))
    known = store.known()
    place = {key: row for row, key in enumerate(known.keys.to_pylist())}
    vectors = known.vectors[[place[key] for key in keys]].astype(np.float32)
    return Cut(chunks, lexical.searchable_text, vectors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--cut", choices=CUTS, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--part", type=Path)
    arguments = parser.parse_args()
    print(describe())
    part = arguments.part.read_text(encoding="utf-8").split("\n") if arguments.part else ()
    corpus = open_corpus(arguments.corpus, settings.home(arguments.home))
    cut = make(arguments.cut, corpus, Embedder(), arguments.cache, part)
    print(f"{arguments.cut}: {len(cut.chunks):,} passages")


if __name__ == "__main__":
    main()
