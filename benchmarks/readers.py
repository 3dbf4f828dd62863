"""What libraries keep of real files, beside the readers of this package: words, tables, seconds.

    python benchmarks/readers.py [--formats ../shared/formats]

A library that is not installed is left out. Words are counted against what at least two of the columns have; for Word, against
the text of the file's XML.
"""

from __future__ import annotations

import argparse
import html
import os
import re
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from machine import describe

from rag_vs_ft.corpus.readers import BY_ENDING, FileContext, LeftOut

Extract = Callable[[Path], tuple[str, int]]
"""File -> its text and how many tables were found in it."""


def ours(path: Path) -> tuple[str, int]:
    try:
        text = BY_ENDING[path.suffix].read(path.read_bytes(), FileContext(path.name, lambda _: None)).text
    except LeftOut:
        return "", 0
    return text, len(re.findall(r"^\| ---", text, re.M))


def pypdf(path: Path) -> tuple[str, int]:
    from pypdf import PdfReader

    return "\n".join(page.extract_text() for page in PdfReader(path).pages), 0


def pypdfium2(path: Path) -> tuple[str, int]:
    from pypdfium2 import PdfDocument

    return "\n".join(page.get_textpage().get_text_bounded() for page in PdfDocument(path)), 0


def pdfminer(path: Path) -> tuple[str, int]:
    from pdfminer.high_level import extract_text

    return extract_text(path), 0


def pdfplumber(path: Path) -> tuple[str, int]:
    import pdfplumber as library

    with library.open(path) as book:
        texts = [page.extract_text(x_tolerance_ratio=0.13) for page in book.pages]
        return "\n".join(texts), sum(len(page.find_tables()) for page in book.pages)


def mammoth(path: Path) -> tuple[str, int]:
    import mammoth as library

    with path.open("rb") as file:
        found = library.convert_to_html(file).value
    return _text(found), found.count("<table")


def python_docx(path: Path) -> tuple[str, int]:
    import docx

    document = docx.Document(str(path))
    cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    return "\n".join([paragraph.text for paragraph in document.paragraphs] + cells), len(document.tables)


def docx2python(path: Path) -> tuple[str, int]:
    from docx2python import docx2python as library

    with library(path) as document:
        return re.sub(r"<[^>]+>", "", document.text), 0


def trafilatura(path: Path) -> tuple[str, int]:
    import trafilatura as library

    found = library.extract(path.read_text(encoding="utf-8"), output_format="markdown", include_tables=True, favor_recall=True)
    return found or "", len(re.findall(r"^\|[-| :]+\|$", found or "", re.M))


def beautifulsoup(path: Path) -> tuple[str, int]:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "lxml")
    return (soup.find("main") or soup.body or soup).get_text(" "), 0


def _text(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"</(p|h\d|li|td|th)>", " ", markup)))


def word_xml(path: Path) -> str:
    """All text of a Word file's body and notes."""
    found = ""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if re.fullmatch(r"word/(document|footnotes|endnotes)\.xml", name):
                xml = archive.read(name).decode("utf-8", "replace")
                xml = re.sub(r"<mc:Fallback>.*?</mc:Fallback>", "", xml, flags=re.S)
                xml = re.sub(r"<w:p[ >]|</w:p>|<w:(?:tab|br)[^>]*/>|</?m:(?:num|den|sup|sub)>", " \\g<0>", xml)
                found += " " + re.sub(r"<[^>]+>", "", xml)
    return html.unescape(found)


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("RAG_VS_FT_SHARED", "../shared"))
    parser.add_argument("--formats", type=Path, default=shared / "formats")
    folder = parser.parse_args().formats
    print(describe())
    trials: list[tuple[str, str, tuple[Extract, ...]]] = [
        ("pdf", "*.pdf", (ours, pdfplumber, pdfminer, pypdf, pypdfium2)),
        ("office", "*.docx", (ours, mammoth, python_docx, docx2python)),
        ("html", "*.html", (ours, trafilatura, beautifulsoup)),
    ]
    for name, pattern, columns in trials:
        kept: Counter[str] = Counter()
        tables: Counter[str] = Counter()
        seconds: dict[str, float] = defaultdict(float)
        missing: set[str] = set()
        failed: Counter[str] = Counter()
        total = 0
        paths = sorted((folder / name).glob(pattern))
        for path in paths:
            found: dict[str, Counter[str]] = {}
            for extract in columns:
                began = time.process_time()
                try:
                    text, count = extract(path)
                except ImportError:
                    missing.add(extract.__name__)
                    continue
                except Exception:  # a library may raise anything at a strange file
                    failed[extract.__name__] += 1
                    text, count = "", 0
                seconds[extract.__name__] += time.process_time() - began
                tables[extract.__name__] += count
                found[extract.__name__] = words(text)
            if pattern == "*.docx":
                expected = words(word_xml(path))
            elif len(found) < 2:  # nothing to compare with
                continue
            else:
                every = set().union(*found.values())
                expected = Counter({word: sorted(column[word] for column in found.values())[-2] for word in every})
            total += sum(expected.values())
            for column, has in found.items():
                kept[column] += sum((has & expected).values())
        print(f"{pattern}: {len(paths)} files, {total:,} words")
        for extract in columns:
            column = extract.__name__
            if column not in missing:
                figures = f"{tables[column]:3} tables, {seconds[column]:5.2f} s, {failed[column]} errors"
                share = f"{kept[column] / total:6.1%} of words" if total else "nothing to compare words with"
                print(f"  {column:14} {share}, {figures}")


if __name__ == "__main__":
    main()
