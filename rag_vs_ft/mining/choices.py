"""Wrong choices that look like the right one: of its form, from the same corpus, balanced over all questions of a rule."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from rag_vs_ft.corpus.store import Corpus
from rag_vs_ft.mining.sound import stems
from rag_vs_ft.mining.spans import Span

CHOICES = 4
_NEAREST = 15
"""Neighbours by size, on each side, that may replace a number."""
_DRAWN = 30
"""Members that are drawn by each way of drawing."""
_TRIALS = 80
"""Sets of choices that are tried for each question."""
_AHEAD = 0.015
"""How much more often than chance the right choice may have one rank, as a share of the questions of a rule."""
_LEAST_DOCUMENTS = {"service": 6, "role": 2}
"""Services and roles are found by their capitals alone; what fewer documents name is often no name."""


@dataclass(slots=True)
class PoolMember:
    """A span that may be a choice: its size if it has one, and the documents and folders that hold it."""

    size: float | None
    documents: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Mentions:
    """How often each possible choice occurs in the corpus as a run of whole words, and in how many documents; code included."""

    mentions: Counter[str]
    documents: Counter[str]


def count_mentions(corpus: Corpus, texts: Iterable[str]) -> Mentions:
    """Count these texts in all documents of a corpus, in one pass."""
    lengths: dict[str, set[int]] = defaultdict(set)
    runs: dict[tuple[str, ...], str] = {}
    for text in texts:
        if words := tuple(_pieces(text)):
            runs[words] = text
            lengths[words[0]].add(len(words))
    counts = Mentions(Counter(), Counter())
    for document in corpus.documents():
        read = _pieces(document.text)
        found: Counter[str] = Counter()
        for place, word in enumerate(read):
            for length in lengths.get(word, ()):
                run = tuple(read[place : place + length])
                if run in runs:
                    found[runs[run]] += 1
        counts.mentions.update(found)
        counts.documents.update(found.keys())
    return counts


def _pieces(text: str) -> list[str]:
    return [word for word in (part.strip("`\"'()[]{},;:.|*?!") for part in text.split()) if word]


def folder(document_id: str) -> str:
    """The folder of a document, whose documents are about one product."""
    return document_id.rpartition("/")[0]


class Pool:
    """The spans of one form; in order of size where they have one."""

    def __init__(self, form: str, members: Mapping[str, PoolMember], counts: Mentions) -> None:
        least = _LEAST_DOCUMENTS.get(form.split(":")[0], 1)
        kept = {text: member for text, member in members.items() if len(member.documents) >= least}
        self._counts = counts
        self._sizes = {text: member.size or 0.0 for text, member in kept.items()}
        self._members = sorted(kept, key=lambda text: (self._sizes[text], text))
        self._places = [self._sizes[text] for text in self._members]
        self._weights = list(accumulate(1 + counts.mentions[text] for text in self._members))
        self._stems = {text: stems(text) for text in self._members}
        self._by_folder: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for text in self._members:
            for name in kept[text].folders:
                self._by_folder[name].append(text)
            for stem in self._stems[text]:
                self._by_stem[stem].append(text)

    def draw(self, span: Span, near: str, beside: set[str], rng: random.Random) -> list[str]:
        """Members that may replace a span: the nearest in size; or, of names, some of the folder `near`, some that share
        words with what the question shows (the stems `beside`), some by how often they are mentioned, and any."""
        if span.size is not None:
            low, high = bisect_left(self._places, span.size), bisect_right(self._places, span.size)
            drawn = self._members[max(0, low - _NEAREST) : low] + self._members[high : high + _NEAREST]
        elif len(self._members) <= 3 * _DRAWN:
            drawn = list(self._members)
        else:
            alike = sorted({text for stem in sorted(beside) for text in self._by_stem.get(stem, ())})
            drawn = [text for group in (self._by_folder[near], alike, self._members) for text in _sample(group, rng)]
            drawn += rng.choices(self._members, cum_weights=self._weights, k=_DRAWN)
        return [text for text in dict.fromkeys(drawn) if not _holds(text, span.text)]

    def marks(self, right: str, others: Sequence[str], beside: set[str]) -> dict[str, tuple[float, ...]]:
        """What may tell choices apart by looks: length, mentions, documents, size, and words shared with the question."""
        counts = self._counts
        return {
            text: (
                len(text),
                counts.mentions[text],
                counts.documents[text],
                self._sizes.get(text, 0.0),
                len(self._stems.get(text, set()) & beside),
            )
            for text in (right, *others)
        }


def _sample(group: Sequence[str], rng: random.Random) -> list[str]:
    return rng.sample(group, min(len(group), _DRAWN))


def _holds(one: str, other: str) -> bool:
    """Whether one span holds the other, so that both could be right."""
    one, other = one.casefold(), other.casefold()
    return one == other or (not one[0].isdigit() and (one in other or other in one))


class Balance:
    """Chooses alternatives so that the right choice has every rank of every mark about equally often."""

    def __init__(self) -> None:
        self._ranks: list[float] = []
        self._asked = 0

    def choose(
        self, right: str, alternatives: Sequence[str], marks: Mapping[str, tuple[float, ...]], rng: random.Random
    ) -> list[str] | None:
        """Of _TRIALS random sets, the one after which the ranks are most even; None if even that leaves one too far ahead."""
        best: tuple[float, list[str], list[float]] | None = None
        for _ in range(_TRIALS):
            others = rng.sample(alternatives, CHOICES - 1)
            added = _ranks(marks[right], [marks[other] for other in others])
            ranks = [before + now for before, now in zip(self._ranks or [0.0] * len(added), added, strict=True)]
            cost = sum(value * value for value in ranks)
            if best is None or cost < best[0]:
                best = cost, others, ranks
        assert best is not None
        ahead = max(best[2])
        if ahead > max(self._ranks, default=0.0) and ahead > 1 + _AHEAD * (self._asked + 1):
            return None
        self._ranks = best[2]
        self._asked += 1
        return best[1]


def _ranks(right: tuple[float, ...], others: Sequence[tuple[float, ...]]) -> list[float]:
    """For each mark, the chance of each rank for `right`, less 1/4 (ties shared); then whether its length alone is an extreme."""
    found: list[float] = []
    for value, *values in zip(right, *others, strict=True):
        below, ties = sum(other < value for other in values), sum(other == value for other in values)
        found += [(below <= rank <= below + ties) / (ties + 1) - 1 / CHOICES for rank in range(CHOICES)]
    shortest, short, *_, long, longest = sorted(marks[0] for marks in (right, *others))
    found.append((right[0] == longest) - 1 / CHOICES if longest > long else 0.0)
    found.append((right[0] == shortest) - 1 / CHOICES if shortest < short else 0.0)
    return found
