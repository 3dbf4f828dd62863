"""Answers without a language model: the sentences of the passages that have most to do with the question.

The baseline that every reader must beat: it invents nothing, and takes no time.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rag_vs_ft.language import UNSPACED, Language, content_words, language, split_sentences, stemmer
from rag_vs_ft.records import Hit

NAME = "extractive"
"""What to write for a model's name to get these answers."""
SENTENCES = 2
"""Sentences in an answer: what the prompts ask language models for is one to three."""
_UNSPACED = re.compile(f"[{UNSPACED}]")
_FENCE = re.compile(r"(`{3,}|~{3,})")
_ALONE = re.compile(r"\||#{1,6} ")
_ENTRY = re.compile(r"(?:[-*+•]|\d{1,3}[.)]) ")
_ENDED = re.compile(r"[.!?。！？][\"')\]”’」]?$")
_K1, _B = 1.5, 0.75
"""BM25's parameters, as the index has them."""


@dataclass(frozen=True, slots=True)
class Extract:
    """The chosen sentences in the order of the passages, as one text, and the ranks of the passages that they are from."""

    answer: str
    citations: tuple[int, ...]


def passage_sentences(text: str, spoken: Language) -> list[str]:
    """The sentences of a passage in order. Lines of a paragraph, or of an entry of a list, are one text, however they are
    wrapped; a heading, a row of a table and a line of code are each a sentence."""
    parts: list[str] = []
    alone: set[int] = set()
    fence, goes_on = "", False
    for line in map(str.strip, text.splitlines()):
        mark = _FENCE.match(line)
        if mark and (not fence or (line == mark[0] and line.startswith(fence))):
            fence, goes_on = "" if fence else mark[0], False
        elif not line:
            goes_on = False
        elif fence or _ALONE.match(line):
            alone.add(len(parts))
            parts.append(line)
            goes_on = False
        elif goes_on and not _ENTRY.match(line):
            space = "" if _UNSPACED.match(parts[-1][-1]) and _UNSPACED.match(line) else " "
            parts[-1] += space + line
        else:
            parts.append(line)
            goes_on = True
    sentences: list[str] = []
    for number, part in enumerate(parts):
        mark = _ENTRY.match(part)
        start = mark.end() if mark else 0  # the number of an entry is no sentence
        first, *others = [part[start:]] if number in alone else split_sentences(part[start:], spoken)
        sentences += [part[:start] + first, *others]
    return sentences


def extract(question: str, hits: Sequence[Hit], *, sentences: int = SENTENCES, spoken: Language | None = None) -> Extract:
    """The best sentences of the passages for a question, by BM25 with each sentence as a document; of equals the first.

    Words of a passage's headings count as words of its sentences. The answer is empty when no sentence shares a content word
    with the question.
    """
    spoken = spoken or language()
    stem = stemmer(spoken)

    def terms(text: str) -> list[str]:
        return [stem(word) for word in sorted(content_words(text, spoken))]

    found: list[tuple[int, str, list[str]]] = []
    for hit in hits:
        heading = terms(hit.chunk.breadcrumb)
        for sentence in passage_sentences(hit.chunk.text, spoken):
            if own := terms(sentence):
                found.append((hit.rank, sentence, own + [term for term in heading if term not in own]))
    asked = set(terms(question))
    frequency = Counter(term for *_, own in found for term in set(own))
    mean = sum(len(own) for *_, own in found) / len(found) if found else 0.0

    def score(own: Sequence[str]) -> float:
        length = _K1 * (1 - _B + _B * len(own) / mean)
        return sum(
            math.log(1 + (len(found) - frequency[term] + 0.5) / (frequency[term] + 0.5)) * (_K1 + 1) / (1 + length)
            for term in asked & set(own)
        )

    scores = [score(own) for *_, own in found]
    first: dict[str, int] = {}
    for at, (_, sentence, _) in enumerate(found):
        first.setdefault(sentence, at)  # passages that overlap repeat their sentences
    best = sorted((at for at in first.values() if scores[at] > 0), key=lambda at: (-scores[at], at))[:sentences]
    chosen = [found[at] for at in sorted(best)]
    return Extract(_joined([sentence for _, sentence, _ in chosen]), tuple(dict.fromkeys(rank for rank, *_ in chosen)))


def _joined(sentences: Sequence[str]) -> str:
    """One text; what is no sentence of running text (an entry, a row, code, a heading) stands on a line of its own."""
    text = ""
    for sentence in sentences:
        runs_on = text and _ENDED.search(text) and not (_ALONE.match(sentence) or _ENTRY.match(sentence))
        text += (" " if runs_on else "\n" if text else "") + sentence
    return text
