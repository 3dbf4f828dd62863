"""BM25 over an analyzer that keeps command lines findable.

The analyzer is saved with the index and used for documents and queries alike; an index opened with another one is refused. bm25s
scores by default; rank-bm25 is the other backend, and the oracle of the tests.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rag_vs_ft import files
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import postings
from rag_vs_ft.index.damage import reading
from rag_vs_ft.index.lazy import loaded_once
from rag_vs_ft.language import MARKS, UNSPACED, Language, language, stemmer
from rag_vs_ft.records import Chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BACKENDS = ("bm25s", "rank-bm25")
VERSION = 2
"""Raised whenever the same text and settings would give other terms."""

PAIRS_WEIGHT = 0.2
"""Of a word pair's score beside a word's, chosen on six sets (docs/notebook.md). As ordinary terms (1) they harm short texts."""

_NAME_MARK = re.compile(r"[._/:@]")


def _patterns(letter: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds a name or a word, and the parts of one, where a letter is this class of characters."""
    whole = re.compile(
        rf"--?[A-Za-z][{letter}-]*"  # flags: --resource-group, -n
        rf"|[{letter}]+(?:[.\-_/:@][{letter}]+)*"  # dotted, dashed and slashed names: v1.27, kubernetes.azure.com/mode
    )
    return whole, re.compile(rf"(?:(?!_)[{letter}])+")


_ENGLISH = _patterns(r"\w")
_MARKED = _patterns(rf"\w{MARKS}")
_RUN = re.compile(rf"([{UNSPACED}]+)")


@dataclass(frozen=True, slots=True)
class Analyzer:
    """Text -> terms. `stem`: Snowball's stems; `stop_words`: drop function words; `names`: keep compound names whole too;
    `pairs`: neighbouring terms are a term of their own as well (Metzler and Croft, 2005: ordered bigrams).

    With `names`, `--resource-group` gives itself and its parts, so that a query for the flag finds the flag first and a query
    for its words still finds it. With `pairs`, "Cloud HSM" finds that product before other HSMs and other clouds.

    Stems and function words are those of the text's language. Where spaces do not part words (Chinese, Japanese, Korean, Thai),
    each letter and each two neighbours are a term; anything else (names, commands) is read as English.
    """

    stem: bool = True
    stop_words: bool = True
    names: bool = True
    pairs: bool = True
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """What an index manifest records of the analyzer."""
        return asdict(self)

    def terms(self, text: str, code: str = "") -> list[str]:
        """The terms of one text in the language of this ISO 639-1 code ("": English), in order."""
        return _Terms(self, language(code))(text)


class _Terms:
    """An analyzer for one language, with the terms of the words it has met: words repeat, so most cost one dictionary look-up."""

    def __init__(self, analyzer: Analyzer, spoken: Language) -> None:
        self.analyzer = analyzer
        self.spoken = spoken
        words = language() if spoken.unspaced else spoken
        self.whole, self.part = _ENGLISH if words.code == "en" else _MARKED
        self.stem = stemmer(words) if analyzer.stem else None
        self.stop_words = words.stop_words if analyzer.stop_words else frozenset()
        self.known: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}

    def __call__(self, text: str) -> list[str]:
        if self.spoken.code != "en":
            # Full-width letters, ligatures and half-width kana are the letters that they look like.
            text = unicodedata.normalize("NFKC", text)
        if not self.spoken.unspaced:
            return self._words(text)
        terms: list[str] = []
        for number, part in enumerate(_RUN.split(text)):
            terms.extend(self._letters(part) if number % 2 else self._words(part))
        return terms

    def _letters(self, run: str) -> list[str]:
        """The letters of a run and their pairs. A letter of Thai says little, so a pair is always used."""
        pairs = [one + two for one, two in pairwise(run)]
        if self.spoken.script == "thai":
            return pairs or [run]
        return [*run, *pairs]

    def _words(self, text: str) -> list[str]:
        terms: list[str] = []
        before, end = "", 0
        for match in self.whole.finditer(text):
            word = match[0]
            found = self.known.get(word)
            if found is None:
                found = self.known[word] = (tuple(self._name(word)), tuple(self._parts(word)))
            name, parts = found
            terms.extend(name)
            terms.extend(parts)
            if self.analyzer.pairs:
                # Words are neighbours when spaces alone stand between them, or words that are dropped.
                if not text[end : match.start()].strip(" "):
                    parts = (before, *parts) if before else parts
                terms.extend(f"{one} {two}" for one, two in pairwise(parts))
                before, end = parts[-1] if parts else "", match.end()
        return terms

    def _name(self, word: str) -> Iterable[str]:
        # "auto-upgrade" is two words; "--max-surge", "v1.27" and "Standard_D2s_v3" are names.
        if self.analyzer.names and (word.startswith("-") or (_NAME_MARK.search(word) and len(self.part.findall(word)) > 1)):
            yield word.casefold()

    def _parts(self, word: str) -> Iterable[str]:
        for part in self.part.findall(word):
            term = part.casefold()
            if term not in self.stop_words:
                yield self.stem(term) if self.stem else term


def searchable_text(chunk: Chunk) -> str:
    """What BM25 reads of a chunk: the file's name (words that people type), title, headings and text."""
    return f"{_file_words(chunk)}\n{chunk.title}\n{chunk.heading}\n{chunk.text}"


def document_text(chunks: Sequence[Chunk]) -> str:
    """What BM25 reads of a whole document, given all its chunks."""
    parts = (f"{chunk.heading}\n{chunk.text}" for chunk in chunks)
    return "\n".join((_file_words(chunks[0]), chunks[0].title, *parts))


def _file_words(chunk: Chunk) -> str:
    return chunk.document_id.rsplit("/", 1)[-1].rsplit(".", 1)[0].replace("-", " ")


class Scorer(Protocol):
    """A BM25 index over numbered rows."""

    def scores(self, terms: Sequence[str]) -> NDArray[np.float32]:
        """Score of every row for a query's terms, shape (rows,); 0 where no term matches."""


@dataclass(frozen=True, slots=True)
class Bm25Settings:
    """k1 and b of BM25 (Robertson and Zaragoza, 2009), and the library that scores."""

    k1: float = 1.5
    b: float = 0.75
    backend: str = "bm25s"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UserError(f"BM25 backend {self.backend!r} is not known", f"use one of {', '.join(BACKENDS)}")
        if not (self.k1 >= 0 and 0 <= self.b <= 1):
            raise UserError(f"BM25 k1={self.k1}, b={self.b} are out of range", "k1 is at least 0 and b between 0 and 1")


@dataclass(frozen=True)
class Lexical:
    """A BM25 index in a folder: the analyzer, the settings, the languages of its rows, and what its backend wrote."""

    folder: Path
    analyzer: Analyzer
    settings: Bm25Settings
    languages: tuple[str, ...] = ("en",)
    mean_length: float | None = None
    """Terms in a row on average; None in an index of an earlier version."""

    @loaded_once
    def _analysed(self) -> dict[str, _Terms]:
        return {code: _Terms(self.analyzer, language(code)) for code in self.languages}

    def terms(self, query: str) -> list[str]:
        """A query's terms, by the analyzer that the documents went through; in each of their languages that it may be in.

        A question is often too short to tell its language by its words, so only its script is looked at; a stem of another
        language is mostly a term that no document has.
        """
        unspaced = bool(_RUN.search(query))
        likely = {code for code in self.languages if language(code).unspaced == unspaced} or set(self.languages)
        first, *others = (analyse(query) for code, analyse in self._analysed.items() if code in likely)
        if not others:
            return first
        most = Counter(first)
        for terms in others:
            most |= Counter(terms)
        return list(most.elements())

    def terms_of(self, text: str, code: str) -> list[str]:
        """The terms of a row's text, in its language."""
        return self._analysed.get(code or "en", self._analysed[self.languages[0]])(text)

    @loaded_once
    def _scorer(self) -> Scorer:
        with reading(self.folder):
            return _RankBm25(self.folder, self.settings) if self.settings.backend == "rank-bm25" else _Bm25s(self.folder)

    def scores(self, query: str) -> NDArray[np.float32]:
        """Score of every row for `query`, shape (rows,); 0 where nothing matches: BM25 of its words, and `PAIRS_WEIGHT` times
        that of its word pairs."""
        words, pairs = self.scores_of(query)
        # In place: of millions of rows, a new array costs more than its sums.
        pairs *= PAIRS_WEIGHT
        words += pairs
        return words

    def scores_of(self, query: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """BM25 scores of every row for the words of `query`, and for its pairs of neighbouring words."""
        terms = self.terms(query)
        words, pairs = [term for term in terms if " " not in term], [term for term in terms if " " in term]
        scorer = self._scorer
        with reading(self.folder):
            return scorer.scores(words), scorer.scores(pairs)


def build(
    folder: Path, texts: Iterable[str], analyzer: Analyzer, bm25: Bm25Settings, languages: Iterable[str] | None = None
) -> Lexical:
    """Index `texts`, one row each, into `folder`; `languages` has the code of each ("": English), None is English.

    Texts are read one by one. In memory: the vocabulary, a number for each text, and a part of the scores (`index.postings`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    analysed: dict[str, _Terms] = {}

    def analyse(text: str, code: str) -> list[str]:
        code = code or "en"
        if code not in analysed:
            analysed[code] = _Terms(analyzer, language(code))
        return analysed[code](text)

    # Numbered in the order in which terms are met, so that the same texts give the same files.
    vocabulary: dict[str, int] = {}
    terms = 0

    def numbered() -> Iterator[array[int]]:
        nonlocal terms
        for text, code in zip(texts, repeat("") if languages is None else languages, strict=False):
            row = array("i", [vocabulary.setdefault(term, len(vocabulary)) for term in analyse(text, code)])
            terms += len(row)
            yield row

    if bm25.backend == "rank-bm25":
        count = _save_terms(folder, numbered(), vocabulary)
    else:
        count = _save_scores(folder, numbered(), vocabulary, bm25)
    spoken = tuple(sorted(analysed)) or ("en",)
    mean_length = terms / max(1, count)
    record = analyzer.to_json() | asdict(bm25) | ({} if spoken == ("en",) else {"languages": spoken})
    record |= {"mean_length": mean_length}
    files.write_json(folder / "analyzer.json", record)
    return Lexical(folder, analyzer, bm25, spoken, mean_length)


def load(folder: Path) -> Lexical:
    """Open what `build` wrote; the index checks its manifest before, so the files are known to be whole."""
    with reading(folder / "analyzer.json"):
        record = json.loads((folder / "analyzer.json").read_text(encoding="utf-8"))
    if record.get("version") != VERSION:
        raise UserError(f"{folder} was analysed by another version", "rebuild it: `rag-vs-ft index build NAME`")
    bm25 = Bm25Settings(**{key: record.pop(key) for key in ("k1", "b", "backend")})
    languages = tuple(record.pop("languages", ("en",)))
    mean_length = record.pop("mean_length", None)
    return Lexical(folder, Analyzer(**record), bm25, languages, mean_length)


def weights(terms: Sequence[str], mean_length: float, bm25: Bm25Settings) -> dict[str, float]:
    """For each term of a row what it adds to the row's score, divided by the term's IDF: BM25's saturated count, and of a word
    pair `PAIRS_WEIGHT` times that. Its product with the counts of a query's terms and their IDFs is `Lexical.scores`."""
    norm = bm25.k1 * (1 - bm25.b + bm25.b * len(terms) / (mean_length or 1.0))
    return {term: (PAIRS_WEIGHT if " " in term else 1.0) * count / (count + norm) for term, count in Counter(terms).items()}


class _Bm25s:
    """The files of bm25s (Lu, 2024): scores computed at indexing time, in a sparse matrix that is memory-mapped.

    They are summed as its `get_scores` does. It is not imported: with what it imports it is a quarter of a second of a search.
    """

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.vocabulary: dict[str, int] = json.loads((folder / "vocab.index.json").read_text(encoding="utf-8"))
        self.rows = int(json.loads((folder / "params.index.json").read_text(encoding="utf-8"))["num_docs"])
        self.data, self.indices, self.starts = (  # plain views: a slice of a memmap takes ten times as long
            np.asarray(np.load(folder / f"{name}.csc.index.npy", mmap_mode="r", allow_pickle=False))
            for name in ("data", "indices", "indptr")
        )

    def scores(self, terms: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        total = np.zeros(self.rows, dtype=np.float32)
        for term in terms:
            if (column := self.vocabulary.get(term)) is not None:
                here = slice(self.starts[column], self.starts[column + 1])
                np.add.at(total, self.indices[here], self.data[here])
        return total


class _RankBm25:
    """rank-bm25's Okapi. A term in over half the rows would have a negative IDF; it gets a quarter of the mean IDF instead."""

    def __init__(self, folder: Path, settings: Bm25Settings) -> None:
        from rank_bm25 import BM25Okapi

        corpus = _load_terms(folder)
        self.empty = not any(corpus)
        self.rows = len(corpus)
        self.index = None if self.empty else BM25Okapi(corpus, k1=settings.k1, b=settings.b)

    def scores(self, terms: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        if self.index is None:
            return np.zeros(self.rows, dtype=np.float32)
        return self.index.get_scores(list(terms)).astype(np.float32)


def _save_scores(folder: Path, rows: Iterable[array[int]], vocabulary: dict[str, int], bm25: Bm25Settings) -> int:
    """Write what `_Bm25s` loads; returns the number of rows."""
    import bm25s
    import numpy as np

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    index = bm25s.BM25(method="lucene", k1=bm25.k1, b=bm25.b)
    with postings.counted(folder, rows) as found:
        known = vocabulary or {"\0": 0}
        # As bm25s does, a term that no row has: for queries without terms.
        index.vocab_dict = known if "" in known else known | {"": len(known)}
        nothing = np.zeros(0, dtype=np.float32)
        index.scores = {"data": nothing, "indices": nothing, "indptr": nothing, "num_docs": len(found.lengths)}
        index.nonoccurrence_array = None
        index.save(folder, show_progress=False)  # vocabulary and parameters; the arrays are written in its place
        found.write_scores(folder, bm25.k1, bm25.b)
        return len(found.lengths)


def _save_terms(folder: Path, given: Iterable[array[int]], vocabulary: dict[str, int]) -> int:
    import numpy as np

    rows = list(given)
    files.write_array(folder / "terms.npy", np.concatenate([np.asarray(row, dtype=np.int32) for row in rows]))
    files.write_array(folder / "lengths.npy", np.asarray([len(row) for row in rows], dtype=np.int64))
    files.write_json(folder / "vocabulary.json", list(vocabulary), indent=None)
    return len(rows)


def _load_terms(folder: Path) -> list[list[str]]:
    import numpy as np

    vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    ids = np.load(folder / "terms.npy", allow_pickle=False)
    ends = np.cumsum(np.load(folder / "lengths.npy", allow_pickle=False))
    return [[vocabulary[term] for term in row] for row in np.split(ids, ends[:-1])] if len(ends) else []
