"""Marks of Markdown dialects before and after cleaning: `python benchmarks/dialects.py [FOLDER ...]`.

For each folder: what its Markdown was taken for, how many marks of any known dialect its files hold, and how many are left in the
clean text, which chunks are slices of. Marks left in code are shown on purpose, by pages that explain a dialect. Prints a
Markdown table and, with `--examples N`, the N most frequent marks that are left in text.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from pathlib import Path

from machine import describe

from rag_vs_ft.corpus.dialects import DIALECTS
from rag_vs_ft.corpus.readers import LeftOut
from rag_vs_ft.corpus.readers.text import text_of
from rag_vs_ft.corpus.sources import read_source

SHARED = Path(os.environ.get("RAG_VS_FT_SHARED", "../shared"))
FOLDERS = ("azure-docs/2026-08", "k8s-docs/2025-01", "formats/mkdocs", "formats/docusaurus")
_CODE = re.compile(r"^([ >]*)(`{3,}|~{3,})[^\n]*\n.*?(?:^[ >]*\2[`~]*[ \t]*$|\Z)|(`+)(?!`).+?(?<!`)\3(?!`)", re.S | re.M)


def marks(text: str) -> list[str]:
    """The marks of all dialects in a text; what recognises a dialect by its front matter is no mark of a text."""
    found = [match.group().strip() for dialect in DIALECTS.values() if dialect.marks for match in dialect.marks.finditer(text)]
    return [mark for mark in found if not mark.startswith(("ms.", "sidebar_", "### YamlMime"))]


def count(folder: Path, examples: int) -> str:
    """One row of the table."""
    reading = read_source(str(folder))
    before = in_text = in_code = documents = 0
    left: Counter[str] = Counter()
    taken = Counter(found.dialect for found in reading.dialects.values())
    start = time.process_time()
    for file in reading.files:
        if file.kind != "markdown":
            continue
        raw = text_of(file.read())[0]
        before += len(marks(raw))
        try:
            content = DIALECTS[file.dialect].clean(raw, file.path, reading.text_of)
        except LeftOut:
            continue
        documents += bool(content.text)
        in_code += sum(len(marks(match.group())) for match in _CODE.finditer(content.text))
        outside = marks(_CODE.sub("", content.text))
        in_text += len(outside)
        left.update(f"{file.path}: {mark[:60]}" for mark in outside)
    for example, times in left.most_common(examples):
        print(f"  {times} {example}")
    seconds = time.process_time() - start
    return (
        f"| {folder.name} | {', '.join(sorted(taken))} | {documents:,} | {before:,} | {in_text:,} | {in_code:,} | {seconds:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[SHARED / name for name in FOLDERS])
    parser.add_argument("--examples", type=int, default=0)
    arguments = parser.parse_args()
    print(describe())
    rows = [count(folder, arguments.examples) for folder in arguments.folders]
    print("| folder | taken for | documents | marks in the files | left in text | left in code | seconds |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
