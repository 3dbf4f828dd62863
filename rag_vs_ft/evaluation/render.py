"""Sections of a report -> Markdown, and HTML in one file without scripts and without anything to fetch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, paragraphs, a figure, a table (its first row is the header), notes, and parts that open on demand.

    `figure_says` describes the figure where it cannot be seen; `drawing` is the figure in characters, for a terminal.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    svg: str = ""
    figure_says: str = ""
    folded: tuple[Fold, ...] = ()
    notes: tuple[str, ...] = ()
    drawing: str = ""


@dataclass(frozen=True, slots=True)
class Fold:
    """A part that opens on demand: a line, a table, and texts with a title each, shown verbatim."""

    title: str
    table: tuple[tuple[str, ...], ...]
    texts: tuple[tuple[str, str], ...]


# --- numbers ----------------------------------------------------------------------------------------------------------

NONE = "–"


def percent(value: float | None) -> str:
    """A share: 0.5 -> 50.0%."""
    return NONE if value is None else f"{value * 100:.1f}%"


def span(interval: Sequence[float] | None, *, scale: float = 100, digits: int = 1) -> str:
    """An interval, by default of shares as percentages."""
    return NONE if interval is None else f"[{interval[0] * scale:.{digits}f}, {interval[1] * scale:.{digits}f}]"


def points(difference: float) -> str:
    """A difference of shares, in points: 0.05 -> +5.0."""
    return f"{difference * 100:+.1f}"


def number(value: float | None) -> str:
    """Three decimals."""
    return NONE if value is None else f"{value:.3f}"


def count(value: float | None) -> str:
    """A whole number with separators."""
    return NONE if value is None else f"{value:,.0f}"


def plural(how_many: int, thing: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{how_many} {thing}" + ("" if how_many == 1 else "s")


def p_value(value: float | None) -> str:
    """Three decimals, or that it is smaller."""
    return NONE if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def size(value: float | None) -> str:
    """Bytes."""
    if not value:
        return NONE
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def duration(seconds: float | None) -> str:
    """Seconds, minutes or hours."""
    if not seconds:
        return NONE
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def large(value: float) -> str:
    """A count of operations: 1.2e+15."""
    return f"{value:.1e}" if value else NONE


# --- Markdown and HTML ------------------------------------------------------------------------------------------------

POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
"""A report loads nothing and runs nothing, whatever a document or an answer in it says."""
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #ddd; --strong: #888; --soft: #f5f5f5 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #161616; --line: #3a3a3a; --strong: #999; --soft: #242424 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper) }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; margin: .7rem 0; font-size: .88rem }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem .3rem 0; text-align: left; vertical-align: top;
  font-variant-numeric: tabular-nums }
th { border-bottom: 2px solid var(--strong) } details { margin: .35rem 0 } summary { cursor: pointer }
details details { margin-left: 1rem } pre { white-space: pre-wrap; background: var(--soft); padding: .6rem; font-size: .8rem }
figure { margin: 1rem 0 } svg { max-width: 100%; height: auto } .verdict { font-size: 1.1rem; font-weight: 600 }
"""


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The sections as Markdown. Of the figures only those that can be drawn in characters: the tables have their numbers."""
    return "\n\n".join([f"# {title}", *map(markdown_section, sections)]) + "\n"


def markdown_section(section: Section) -> str:
    """One section of `markdown`."""
    parts = [f"## {section.title}", *map(_cell, section.paragraphs)]
    if section.drawing:
        parts.append(_indented(section.drawing))
    if section.table:
        parts.append(markdown_table(section.table))
    parts += map(_cell, section.notes)
    for fold in section.folded:
        texts = "\n\n".join(f"{escape(name)}\n\n{_indented(text)}" for name, text in fold.texts)
        title = escape(" ".join(fold.title.split()))
        parts.append(f"<details><summary>{title}</summary>\n\n{markdown_table(fold.table)}\n\n{texts}\n\n</details>")
    return "\n\n".join(parts)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is the header."""
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _cell(text: str) -> str:
    # Only what Markdown would act on: reports are also read raw in a terminal, and commands are copied from there.
    return " ".join(re.sub(r"([\\|>*`]|<(?![\d\s])|\](?=[(\[:])|(?<!\w)_|_(?!\w))", r"\\\1", text).split())


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


def html(title: str, sections: Sequence[Section]) -> str:
    """The sections as one HTML page; the first paragraph is its verdict."""
    body = "\n".join([f"<h1>{escape(title)}</h1>", *map(html_section, sections)]).replace("<p>", '<p class="verdict">', 1)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">{POLICY}<title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def html_section(section: Section) -> str:
    """One section of `html`."""
    body = [f"<h2>{escape(section.title)}</h2>", *(f"<p>{escape(text)}</p>" for text in section.paragraphs)]
    if section.svg:
        body.append(f'<figure role="img" aria-label="{escape(section.figure_says)}">{section.svg}</figure>')
    if section.table:
        body.append(_html_table(section.table))
    body += [f"<p>{escape(text)}</p>" for text in section.notes]
    for fold in section.folded:
        texts = "".join(
            f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>" for name, text in fold.texts
        )
        body.append(f"<details><summary>{escape(fold.title)}</summary>{_html_table(fold.table)}{texts}</details>")
    return "\n".join(body)


def intervals(rows: Sequence[tuple[str, float, Sequence[float] | None]], marked: float | None) -> str:
    """Shares with their intervals as lines of characters on a scale from 0 to 100%: `|---o---|`. A colon is at `marked`."""
    width = 50
    longest = max((len(name) for name, *_ in rows), default=0)
    lines = []
    for name, value, interval in rows:
        line = [" "] * (width + 1)
        if marked is not None:
            line[round(marked * width)] = ":"
        if interval:
            low, high = (round(bound * width) for bound in interval)
            line[low : high + 1] = ["|", *"-" * (high - low - 1), "|"][: high - low + 1]
        line[round(value * width)] = "o"
        lines.append(f"{name:<{longest}}  {''.join(line)}  {percent(value):>6}")
    scale = "0%" + "50%".rjust(width // 2) + "100%".rjust(width // 2 + 2)
    return "\n".join([*lines, " " * (longest + 2) + scale + ("" if marked is None else "  (: a guess)")])


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
