"""Does rewriting a follow-up question help the search? By each way: how often the gold document is first, or among three.

python benchmarks/follow_ups.py --index sample [--model NAME ...]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from machine import describe

from rag_vs_ft import settings
from rag_vs_ft.index.search import Index
from rag_vs_ft.models import follow_ups
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.loading import load
from rag_vs_ft.records import read_jsonl

QUESTIONS = Path(__file__).parent.parent / "eval" / "questions" / "follow_ups.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", default="sample", help="an index of the packaged sample")
    parser.add_argument("--model", action="append", default=[], help="a language model that rewrites; repeat for several")
    parser.add_argument("--home", default=None)
    parser.add_argument("--show", action="store_true", help="print what was searched")
    options = parser.parse_args()
    home = settings.home(options.home)
    index = Index.open(options.index, home)
    asked = [record for _, record in read_jsonl(QUESTIONS)]

    def rewritten(lm: LanguageModel, before: bool) -> Callable[[Sequence[str], str], str]:
        def way(earlier: Sequence[str], question: str) -> str:
            found = follow_ups.rewrite(lm, earlier, question)
            return f"{earlier[-1]} {found or question}" if before else found or follow_ups.joined(earlier, question)

        return way

    ways: dict[str, Callable[[Sequence[str], str], str]] = {
        "the follow-up alone": lambda earlier, question: question,
        "with the question before it": follow_ups.joined,
    }
    for name in options.model:
        lm = load(name, home)
        ways[f"rewritten by {name}"] = rewritten(lm, before=False)
        ways[f"the question before, and {name}'s"] = rewritten(lm, before=True)
    print(f"{describe()}\n{len(asked)} follow-ups, hybrid search of {options.index}")
    for way, of in ways.items():
        started = time.perf_counter()
        first = among = 0
        for record in asked:
            searched = of(record["earlier"], record["question"])
            found = [hit.chunk.document_id for hit in index.search(searched, 3)]
            first += found[0] in record["gold_documents"]
            among += bool(set(found) & set(record["gold_documents"]))
            if options.show:
                print(f"  {record['question']} -> {searched}  {'first' if found[0] in record['gold_documents'] else found[0]}")
        seconds = (time.perf_counter() - started) / len(asked)
        print(f"{way:45} first {first:2}  among three {among:2}  {seconds * 1000:.0f} ms each")


if __name__ == "__main__":
    main()
