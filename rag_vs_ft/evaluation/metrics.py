"""Scores of one ranking and of one answer, as pure functions; all lie in 0..1 and higher is better.

A ranking is a sequence of distinct document ids, best first. Its relevance judgements map a document id to a grade: 1 and
above is relevant, 0 and below is not, and a document that is not named is not. The formulas are trec_eval's.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from rag_vs_ft.language import UNSPACED, Language, content_words, detect, language, split_sentences, stemmer
from rag_vs_ft.overlap import rouge_l as rouge_l

Judgements = Mapping[str, int]


def distinct(ids: Iterable[str]) -> list[str]:
    """Each id once, in the order of first appearance: the documents of a list of chunks."""
    return list(dict.fromkeys(ids))


def _relevant(judgements: Judgements) -> dict[str, int]:
    relevant = {name: grade for name, grade in judgements.items() if grade > 0}
    if not relevant:
        raise ValueError("no document is judged relevant: such a query has no score")
    return relevant


def _top(ranking: Sequence[str], k: int) -> Sequence[str]:
    top = ranking[:k]
    if len(set(top)) < len(top):
        raise ValueError("a document occurs twice in the ranking: see metrics.distinct")
    return top


def recall_at(ranking: Sequence[str], judgements: Judgements, k: int) -> float:
    """Share of the relevant documents that are among the first `k` (trec_eval's recall.k)."""
    relevant = _relevant(judgements)
    return sum(name in relevant for name in _top(ranking, k)) / len(relevant)


def reciprocal_rank_at(ranking: Sequence[str], judgements: Judgements, k: int) -> float:
    """1 / rank of the first relevant document among the first `k`, else 0 (trec_eval's recip_rank with -M k)."""
    relevant = _relevant(judgements)
    return next((1 / rank for rank, name in enumerate(_top(ranking, k), start=1) if name in relevant), 0.0)


def ndcg_at(ranking: Sequence[str], judgements: Judgements, k: int) -> float:
    """Normalised discounted cumulative gain of the first `k` (trec_eval's ndcg_cut.k; Jarvelin and Kekalainen, 2002).

    The gain is the grade itself, not 2^grade - 1; the discount is log2(rank + 1); the ideal ranking holds every relevant
    document, retrieved or not.
    """
    relevant = _relevant(judgements)
    ideal = sorted(relevant.values(), reverse=True)[:k]
    return _gain([relevant.get(name, 0) for name in _top(ranking, k)]) / _gain(ideal)


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))


def mean_over_queries(
    metric: Callable[[Sequence[str], Judgements, int], float],
    run: Mapping[str, Sequence[str]],
    judged: Mapping[str, Judgements],
    k: int,
) -> float:
    """Mean of a metric over every judged query that has a relevant document; one that the run lacks counts as 0.

    trec_eval's -c: leaving a missing query out would raise the score of a system that answers only easy ones. Raises
    ValueError when no query has a relevant document.
    """
    scores = [
        metric(run.get(query, ()), judgements, k)
        for query, judgements in judged.items()
        if any(grade > 0 for grade in judgements.values())
    ]
    if not scores:
        raise ValueError("no query has a relevant document")
    return sum(scores) / len(scores)


_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,]|\.\d*,)")
_BARE_POINT = re.compile(r"(?<![\w.])\.(?=\d)")
_DROPPED = re.compile(
    rf"(?!(?<=\d)[.,:/-](?=\d))(?!(?<![\w)-])-(?=\d))[{re.escape(string.punctuation)}]",
)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_TOKEN = re.compile(rf"(?:(?<![\w)-])-)?\d+(?:[.,]\d+)*|[{UNSPACED}]|[^\W\d_{UNSPACED}]+(?:['’][^\W\d_{UNSPACED}]+)*")


def normalise_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and the articles a, an and the, single spaces (SQuAD's official script).

    Unlike there, numbers stay what they are: "v1.27" is not "v12.7", "1.5" not "15", "-1" not "1", and "10:30" not "1030".
    """
    return " ".join(_ARTICLES.sub(" ", _DROPPED.sub("", _numbers(text.lower()))).split())


def holds(text: str, answer: str) -> bool:
    """Whether a text contains an answer: its words and numbers in a row, each of them whole.

    "5 GB" is in "up to 5GB." and "1-5 GB", but not in "15 GB" or "1.5 GB"; "no" is not in "node"; "v1.2" is not in "v1.27". Case,
    punctuation, articles and the comma between thousands do not count. An answer without a word or number is in no text.
    """
    wanted = _answer_tokens(answer)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(_answer_tokens(text))} "


def _answer_tokens(text: str) -> list[str]:
    return _TOKEN.findall(_ARTICLES.sub(" ", _numbers(text.lower())))


def _numbers(text: str) -> str:
    """The text with its numbers written one way: "1,000" as 1000 and ".5" as 0.5."""
    return _BARE_POINT.sub("0.", _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text))


def exact_match(prediction: str, reference: str) -> float:
    """1 when the two are the same after `normalise_answer`, else 0 (Rajpurkar et al., 2016)."""
    return float(normalise_answer(prediction) == normalise_answer(reference))


def token_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the words, counted with repeats, after `normalise_answer` (SQuAD 2.0).

    When either has no word left, 1 if neither has, else 0.
    """
    predicted, expected = normalise_answer(prediction).split(), normalise_answer(reference).split()
    if not predicted or not expected:
        return float(predicted == expected)
    common = (Counter(predicted) & Counter(expected)).total()
    return 2 * common / (len(predicted) + len(expected))


_FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
_NUMBER = re.compile(r"-?\d[\d.,]*")
_EDGES = "`'\"“”‘’()[]{}<>.,;:!?*"
_NAME = re.compile(r"[a-z][A-Z]|[A-Z]{2}|[_/@=]|(?<=[a-z])\.(?=[a-z])|(?<=\d)[-:](?=\d)")
"""What an ordinary word does not have: humps, capitals in a row, marks of paths, fields and addresses."""


def fact_recall(prediction: str, reference: str, question: str = "") -> float:
    """Share of the reference's facts that an answer has: 0 when it has other numbers in place of the reference's.

    Facts are what cannot be said in other words: numbers, flags, and names of the kind of `TokenRequest`, `HTTP`, `/etc/hosts`
    and `spec.replicas`. A reference without any has its content words (stemmed) for facts. What the question already says is
    none, unless the reference says nothing else.
    """
    spoken = _language_of(f"{question}\n{reference}")
    wanted = _facts(reference, question, spoken)
    held = wanted & (_hard(prediction, every=True) | _stems(prediction, spoken))
    said, meant = _numbers_in(prediction) - _numbers_in(question), wanted & _numbers_in(reference)
    if meant and said and not said & _numbers_in(reference):
        return 0.0
    return len(held) / len(wanted) if wanted else 0.0


HELD_SHARE = 0.6
"""Share of a claim's words that a passage must have to hold it."""
_LIST_MARK = re.compile(r"(?:[-*+•]|\d{1,3}[.)])\s+")
_CITATION = re.compile(r" ?\[\d{1,3}(?:, ?\d{1,3})*\]")


def groundedness(answer: str, passages: Sequence[str], question: str = "") -> float | None:
    """Share of the claims of an answer that one of the passages holds; None where it claims nothing or nothing was shown.

    A claim is a sentence, or an item of a list, that says more than the question. A passage holds it when it has each number,
    flag and name that the claim adds, and `HELD_SHARE` of the other words that it adds (stemmed). Like `fact_recall` it reads no
    negations: a claim that denies what the passage says counts as held.
    """
    spoken = _language_of("\n".join((question, *passages)))
    texts = [_CITATION.sub("", passage) for passage in passages]  # as from the answer: spec.volumes[1] is not one
    held = [(_hard(text, every=True), _stems(text, spoken)) for text in texts]
    known, asked = _hard(question, every=True), _stems(question, spoken)
    added = [(_hard(sentence) - known, _stems(sentence, spoken) - asked) for sentence in _sentences(answer, spoken)]
    claims = [claim for claim in added if any(claim)]
    if not claims or not held:
        return None
    return sum(any(_holds_claim(*claim, *passage) for passage in held) for claim in claims) / len(claims)


def _sentences(answer: str, spoken: Language) -> list[str]:
    sentences = []
    for line in _CITATION.sub("", answer).splitlines():
        mark = _LIST_MARK.match(line := line.strip())
        sentences += split_sentences(line[mark.end() :] if mark else line, spoken)
    return sentences


def _holds_claim(hard: set[str], words: set[str], facts: set[str], stems: set[str]) -> bool:
    return hard <= facts and len(words & stems) >= HELD_SHARE * len(words)


def _hard(text: str, *, every: bool = False) -> set[str]:
    return _numbers_in(text) | _named(text, every=every)


def _facts(reference: str, question: str, spoken: Language) -> set[str]:
    hard, known = _hard(reference), _hard(question, every=True)
    words = _stems(reference, spoken)
    return (hard - known) or (words - _stems(question, spoken)) or hard or words


def _numbers_in(text: str) -> set[str]:
    return {token for token in _answer_tokens(text) if _NUMBER.fullmatch(token)}


def _named(text: str, *, every: bool = False) -> set[str]:
    """Flags and the words that look like names in code, lower case; `every` word, for a text that is searched for them."""
    words = (word.strip(_EDGES).removesuffix("'s") for word in text.split())
    return {flag.lower() for flag in _FLAG.findall(text)} | {
        word.lower().removesuffix("s") for word in words if word and (every or _NAME.search(word)) and not word.startswith("-")
    }


def _stems(text: str, spoken: Language) -> set[str]:
    stem = stemmer(spoken)
    return {stem(word) for word in content_words(text, spoken)}


def _language_of(text: str) -> Language:
    """One for all texts that are compared: the same word has other stems in other languages."""
    return language(detect(text) or "en")
