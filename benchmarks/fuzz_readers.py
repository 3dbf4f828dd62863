"""Broken files through each reader's process: `python benchmarks/fuzz_readers.py [--cases 2000 | --minutes 10] [KIND ...]`.

A third of the cases are random bytes, some behind the beginning of a real file; a sixth are real files cut off; the rest are
real files with changed bytes, of zip archives as often in a part as in the file itself. Real files are those of `../shared`, up
to a size. Prints, for each kind, how many cases gave text, none, or a reason; how many ended their process (a crash, time or
memory); how many raised anything but a reason here, a fault of the readers; and the slowest case. `--keep FOLDER` writes the
cases that ended their process, and the faults, there.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import random
import re
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from machine import describe

from rag_vs_ft.corpus import child
from rag_vs_ft.corpus.dialects import DIALECTS
from rag_vs_ft.corpus.readers import BY_KIND, Content, FileContext, LeftOut

SHARED = Path(os.environ.get("RAG_VS_FT_SHARED", "../shared"))
FOLDERS = ("formats", "k8s-docs/2025-01", "azure-docs/2026-08")
LARGEST = {"pdf": 60_000}
"""Bytes of the largest real file that cases are made of; of other kinds 300,000."""
FILES = 40
TELLING = b"<>{}[]()|*_=#:.`\\/&;%\"'\n\t\0 0123456789-+\xff\xc3"
_ENDED = re.compile("crashed|takes its reader|more memory|of memory")


def real_files(kind: str, rng: random.Random) -> list[bytes]:
    """Real files of a kind, at most `FILES`."""
    paths = [
        path
        for folder in FOLDERS
        for ending in BY_KIND[kind].endings
        for path in sorted((SHARED / folder).rglob(f"*{ending}"))
        if 0 < path.stat().st_size <= LARGEST.get(kind, 300_000)
    ]
    if kind == "text":
        paths += sorted((SHARED / "formats").rglob("*.md"))[:20]
    if kind == "faq":
        paths = [path for path in paths if b"YamlMime:FAQ" in path.read_bytes()[:40]]
    return [path.read_bytes() for path in rng.sample(paths, min(FILES, len(paths)))]


def changed(data: bytes, rng: random.Random) -> bytes:
    """The same with bytes replaced, or a piece doubled, moved or taken out."""
    found = bytearray(data)
    if not found:
        return b""
    for _ in range(rng.choice((1, 3, 20, 100))):
        found[rng.randrange(len(found))] = rng.choice(TELLING)
    if rng.random() < 0.3:
        start = rng.randrange(len(found))
        piece = found[start : start + rng.randrange(1, 2_000)]
        at = rng.randrange(len(found))
        found[at:at] = piece * rng.choice((1, 1, 2, 30))
    return bytes(found)


def changed_part(data: bytes, rng: random.Random) -> bytes:
    """A zip archive with one of its parts changed, cut off or missing."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(out, "w") as after:
        names = [name for name in before.namelist() if name.endswith((".xml", ".rels", ".xhtml", ".html", ".opf", ".ncx"))]
        chosen = rng.choice(names or before.namelist())
        for name in before.namelist():
            part = before.read(name)
            if name == chosen and rng.random() < 0.1:
                continue
            after.writestr(name, changed(part, rng) if name == chosen else part)
    return out.getvalue()


def cases(kind: str, seed: int) -> Iterator[bytes]:
    """The same cases for the same seed and files, without end."""
    rng = random.Random(f"{kind} {seed}")
    whole = real_files(kind, rng)
    if not whole:
        raise SystemExit(f"no {kind} file below {SHARED}")
    for case in itertools.count():
        data = rng.choice(whole)
        if case % 3 == 0:
            # Most random bytes are refused at once; those behind a real beginning go further.
            yield data[: rng.choice((0, 4, 64, 512))] + rng.randbytes(rng.randrange(2_000))
        elif case % 4 == 1:
            yield data[: rng.randrange(len(data))]
        elif zipfile.is_zipfile(io.BytesIO(data)) and rng.random() < 0.5:
            yield changed_part(data, rng)
        else:
            yield changed(data, rng)


def check(content: Content) -> None:
    """What every reader promises of its content."""
    assert "\0" not in content.text
    assert all(0 <= place.offset < len(content.text) for place in content.places)
    assert all(0 <= found.offset < len(content.text) for found in content.headings)


def fuzz(kind: str, count: int, minutes: float, seed: int, keep: Path | None) -> str:
    """One row of the table: of `count` cases, or of as many as are tried in `minutes` when that is not 0."""
    found: Counter[str] = Counter()
    slowest = 0.0
    began = time.perf_counter()
    dialects = sorted(DIALECTS)
    for number, data in enumerate(cases(kind, seed)):
        start = time.perf_counter()
        if start - began >= 60 * minutes if minutes else number == count:
            break
        context = FileContext(f"a{BY_KIND[kind].endings[0]}", lambda _: None, dialects[number % len(dialects)], include_faq=True)
        try:
            content = child.read(kind, data, context)
            check(content)
            found["text" if content.text.strip() else "empty"] += 1
        except LeftOut as left_out:
            ended = _ENDED.search(left_out.reason)
            found["ended" if ended else "reason"] += 1
            if ended:
                print(f"  {kind} case {number}: {left_out.reason}", flush=True)
                if keep:
                    (keep / f"{kind}-{number}{BY_KIND[kind].endings[0]}").write_bytes(data)
        except Exception as error:  # the fault that this script looks for
            found["fault"] += 1
            print(f"  {kind} case {number}: {type(error).__name__}: {error}", flush=True)
            if keep:
                (keep / f"{kind}-{number}{BY_KIND[kind].endings[0]}").write_bytes(data)
        slowest = max(slowest, time.perf_counter() - start)
    shown = " | ".join(f"{found[what]:,}" for what in ("text", "empty", "reason", "ended", "fault"))
    return f"| {kind} | {found.total():,} | {shown} | {slowest:.1f} | {time.perf_counter() - began:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=[])
    parser.add_argument("--cases", type=int, default=2_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="Of each kind, in place of a number of cases.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    print(describe())
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    print("| kind | cases | text | empty | reason | process ended | faults | slowest, s | all, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in arguments.kinds or BY_KIND:
        print(fuzz(kind, arguments.cases, arguments.minutes, arguments.seed, arguments.keep), flush=True)


if __name__ == "__main__":
    main()
