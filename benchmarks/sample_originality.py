"""Is the packaged sample in its own words?

Reports every run of N words (10 unless told) of the sample's prose and questions that also stands in the real documents
kept beside the checkout, and the number of words of each article. Words are lower-cased runs of a-z and 0-9 that hold a
letter. Code, fenced or in a line, and HTML comments are left out on both sides, because commands, identifiers and their
output are the same for everyone. Exit code 1 when a run is found.

    python benchmarks/sample_originality.py                            # all of rag_vs_ft/sample, the newest documents
    python benchmarks/sample_originality.py rag_vs_ft/sample/docs/aks  # some files or folders
    python benchmarks/sample_originality.py --all-versions --words
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from machine import describe

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "rag_vs_ft" / "sample"
TEXT_SUFFIXES = (".md", ".yml", ".yaml")
FENCE = re.compile(r"^[ \t>]*(```+|~~~+).*?^[ \t>]*\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"(`+)(?!`)[^\n]*?(?<!`)\1(?!`)")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
LINK_TARGET = re.compile(r"\]\([^)\s]*\)")
METADATA = re.compile(r"^(ms\.[a-z.]+|author|services?|zone_pivot_groups):.*$", re.MULTILINE)
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
WORD = re.compile(r"[0-9]*[a-z][a-z0-9]*")


def prose(markdown: str) -> str:
    """The text without code, comments, link targets and the metadata that every article has."""
    text = FENCE.sub("\n", markdown.replace("\r\n", "\n"))
    return METADATA.sub("", LINK_TARGET.sub("]", COMMENT.sub(" ", CODE_SPAN.sub(" ", text))))


def words(text: str) -> list[str]:
    """Lower-cased runs of a-z and 0-9 that hold a letter."""
    return WORD.findall(text.lower())


def runs(tokens: list[str], length: int) -> Iterator[str]:
    """Every run of `length` words, joined by spaces."""
    return (" ".join(tokens[start : start + length]) for start in range(len(tokens) - length + 1))


def files_below(paths: list[Path], suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The files with one of the suffixes among `paths` and below the folders among them, each once, sorted."""
    found: set[Path] = set()
    for path in paths:
        if not path.exists():
            sys.exit(f"{path}: no such file or folder")
        found.update([path] if path.is_file() else (file for file in path.rglob("*") if file.suffix in suffixes))
    yield from sorted(found)


def sample_texts(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """(place, prose) of each article and of each question line; evidence is a quotation of the article it is from."""
    for path in files_below(paths, (*TEXT_SUFFIXES, ".jsonl")):
        text = path.read_text(encoding="utf-8")
        name = os.path.relpath(path, ROOT)
        if path.suffix != ".jsonl":
            yield name, prose(text)
            continue
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                record = json.loads(line)
                for part in (record["question"], record["answer"] or "", *(record["choices"] or [])):
                    yield f"{name}:{number}", part


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=[SAMPLE], help="files or folders (default: the whole sample)")
    parser.add_argument("--length", type=int, default=10, help="words in a run (default 10)")
    parser.add_argument("--all-versions", action="store_true", help="compare with every version of the documents")
    parser.add_argument("--words", action="store_true", help="print each article's words, front matter apart")
    options = parser.parse_args()
    print(describe())

    shared = Path(os.environ.get("RAG_VS_FT_SHARED", ROOT.parent / "shared")) / "azure-docs"
    versions = sorted(path for path in shared.glob("*") if path.is_dir())
    if not versions:
        sys.exit(f"no documents under {shared}: set RAG_VS_FT_SHARED to the folder that holds azure-docs/<version>")
    if not options.all_versions:
        versions = versions[-1:]

    start = time.perf_counter()
    wanted: dict[str, list[tuple[str, str]]] = {}
    texts = 0
    for place, text in sample_texts(options.paths):
        texts += 1
        for run in runs(words(text), options.length):
            wanted.setdefault(run, []).append((place, run))

    found: dict[str, str] = {}
    documents = 0
    for version in versions:
        for path in files_below([version], TEXT_SUFFIXES):
            documents += 1
            tokens = words(prose(path.read_text(encoding="utf-8", errors="replace")))
            for run in wanted.keys() & set(runs(tokens, options.length)):
                found.setdefault(run, os.path.relpath(path, shared))

    hits = sorted((place, run, found[run]) for run in found for place, _ in wanted[run])
    for place, run, source in hits:
        print(f'{place}: "{run}"  also in {source}')

    if options.words:
        for path in files_below(options.paths, TEXT_SUFFIXES):
            count = len(FRONT_MATTER.sub("", path.read_text(encoding="utf-8")).split())
            print(f"{count:5d} words  {os.path.relpath(path, ROOT)}")
    names = ", ".join(version.name for version in versions)
    print(
        f"{len(hits)} shared runs of {options.length} words: {len(wanted)} runs of {texts} texts compared with "
        f"{documents} documents ({names}) in {time.perf_counter() - start:.0f} s"
    )
    return 1 if hits else 0


if __name__ == "__main__":
    sys.exit(main())
