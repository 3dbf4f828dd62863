"""The published figures of the packaged sample, measured again beside them: `make reproduce`, some ten minutes on two cores.

    python benchmarks/reproduce.py [--home HOME]

Runs `rag-vs-ft demo` and `eval-retrieval` as a reader would, in an empty home or in HOME (where a finished demo is used as it
is), and prints each figure of docs/results.md on the sample, what this machine gives, and whether it lies in the published
interval. Figures may differ in the last digits between processors: int8 is rounded by other instructions. Exits with 1 when one
lies outside.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from machine import describe

from rag_vs_ft.evaluation.figures import read_summary

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results.md"
WAYS = {
    "pretrained model alone": "alone",
    "GPT-2 of 5 million parameters, trained on the documents from scratch": "scratch",
    "retrieval": "retrieval",
    "no model: choice with most of its words in the passage": "word-overlap",
    "no model: choice that the passage contains": "string-match",
    "no model: choice nearest to the passage's best sentences": "extractive",
    "probe: the right passage, read by the model": "right-passage",
    "probe: the right passage, words counted": "word-overlap+right-passage",
}
"""Rows of the page's first table, and the arms of the demo that they are of."""
SEARCH = "packaged sample, 140 dev questions"
"""The row of the page's second table."""
_INTERVAL = r"\[([\d.]+), ([\d.]+)\]"


@dataclass(frozen=True, slots=True)
class Figure:
    """A published figure with its interval, and the same figure here."""

    name: str
    published: float
    low: float
    high: float
    here: float

    @property
    def agrees(self) -> bool:
        """Whether this machine's figure lies in the published interval."""
        return self.low <= self.here <= self.high

    def row(self) -> str:
        """A row of the table that is printed."""
        inside = "yes" if self.agrees else "NO"
        return f"| {self.name} | {self.published:g} [{self.low:g}, {self.high:g}] | {self.here:g} | {inside} |"


def row_of(page: str, name: str) -> str:
    """The cells behind the first one of the row that begins with `name`, marks of emphasis left out. Raises LookupError."""
    for line in page.replace("*", "").splitlines():
        if line.startswith(f"| {name} |"):
            return line.removeprefix(f"| {name} |")
    raise LookupError(f"{PAGE} has no row {name!r}")


def figures(page: str, home: Path) -> Iterator[Figure]:
    """Each published figure beside this machine's, from the finished demo in `home` and a search by itself."""
    right = {arm.name: arm.right for arm in read_summary(home / "eval/results/demo").arms}
    for name, arm in WAYS.items():
        found = re.match(rf" ([\d.]+)% \| {_INTERVAL}", row_of(page, name))
        assert found is not None, name
        value, low, high = map(float, found.groups())
        yield Figure(name, value, low, high, round(100 * right[arm], 1))
    said = run(
        "eval-retrieval", "--index", "sample", "--questions", str(ROOT / "eval/questions/sample.jsonl"), "--json", home=home
    )
    search = json.loads(said)
    cells = re.findall(rf"([\d.]+) {_INTERVAL}", row_of(page, SEARCH))
    for name, cell in zip(("recall_at_10", "mrr_at_10"), cells, strict=True):
        value, low, high = map(float, cell)
        yield Figure(f"{SEARCH}, {name}", value, low, high, round(search[name], 3))


def run(*words: str, home: Path) -> str:
    """Standard output of a command of the program; what it says about progress goes where ours does."""
    command = [sys.executable, "-m", "rag_vs_ft", *words, "--home", str(home)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="where the sample is or comes to be indexed, trained on and asked")
    arguments = parser.parse_args()
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.home or Path(folder)
        if not (home / "eval/results/demo/summary.json").is_file():
            run("demo", home=home)
        found = list(figures(PAGE.read_text(encoding="utf-8"), home))
    print("\n| figure | published | here | in the interval |\n|---|---|---|---|")
    print("\n".join(figure.row() for figure in found))
    sys.exit(not all(figure.agrees for figure in found))


if __name__ == "__main__":
    main()
