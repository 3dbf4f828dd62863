"""What a language decides: its words, their stems, which of them say nothing, where a sentence ends, and how a model is asked.

The languages are entries of `languages.toml`; a new one is a new entry. English is what everything else falls back to, since
text in a language that is not in the table is still cut into words by the same rules.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import UserError

HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ebef"
KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d"
HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"
THAI = "\u0e01-\u0e3a\u0e40-\u0e4e"
UNSPACED = HAN + KANA + HANGUL + THAI
"""Letters of scripts in which spaces do not part the words that a search needs, as a range for regular expressions."""
MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963"
"""Combining marks that belong to a word and that Python's \\w leaves out: accents, and the vowels of Hebrew, Arabic and Hindi."""

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_NAME = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+(?:[._-]+[^\W_{UNSPACED}]+)*")
_SENTENCE_END = re.compile(r"[.!?؟।۔][\"')\]»”’]?(?P<space>\s+)(?=\S)|[。！？｡]+[」』）”’]?(?=\S)")
_BREAK = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[。！？｡])(?=.)")
_OPENERS = "\"'(`[«“„‘¿¡"


@dataclass(frozen=True, slots=True)
class PromptWords:
    """The words of a prompt: the task with passages, the labels of its parts, and two examples (passage, question, answer).

    `cite` asks for the numbers of the passages that an answer rests on. `nothing_relevant` is said where no passage is close
    enough to a question.
    """

    task: str
    cite: str
    passages: str
    question: str
    answer: str
    nothing_relevant: str
    examples: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Language:
    """One entry of the table.

    `stemmer` is an algorithm of Snowball ("" without one). `stop_words` are function words, which the analyzer drops;
    `asking_words` are those that say how something is asked and not what. `articles` go before answers are compared.
    `abbreviations` end with a full stop that ends no sentence; with `ordinal_dot`, neither does one after a number ("3. Mai").
    `script` is the one that it is written in. `unspaced`: words are not parted by spaces, so pairs of letters are terms.
    `prompt` has the words of a prompt, English ones where the table has none. `refusals` finds sentences that decline to answer;
    those of English are in `evaluation.refusals`.
    """

    code: str
    name: str
    prompt: PromptWords
    stemmer: str = ""
    stop_words: frozenset[str] = frozenset()
    asking_words: frozenset[str] = frozenset()
    articles: frozenset[str] = frozenset()
    abbreviations: tuple[str, ...] = ()
    ordinal_dot: bool = False
    script: str = "latin"
    unspaced: bool = False
    refusals: re.Pattern[str] | None = None


@cache
def languages() -> Mapping[str, Language]:
    """All languages by ISO 639-1 code."""

    def words_of(entry: dict[str, str], name: str) -> list[str]:
        return entry.get(name, "").split()

    def prompt_of(entry: dict[str, Any]) -> PromptWords:
        words = entry.get("prompt", table["en"]["prompt"])
        return PromptWords(**{**words, "examples": tuple(map(tuple, words["examples"]))})

    def refusals_of(entry: dict[str, str]) -> re.Pattern[str] | None:
        lines = entry.get("refusals", "").replace("{given}", entry.get("given", "")).split("\n")
        return re.compile("|".join(filter(None, lines)), re.IGNORECASE) if any(lines) else None

    with Path(__file__).with_name("languages.toml").open("rb") as file:
        table = tomllib.load(file)
    return {
        code: Language(
            code=code,
            name=entry["name"],
            prompt=prompt_of(entry),
            stemmer=entry.get("stemmer", ""),
            stop_words=frozenset(words_of(entry, "stop_words")),
            asking_words=frozenset(words_of(entry, "asking_words")),
            articles=frozenset(words_of(entry, "articles")),
            abbreviations=tuple(words_of(entry, "abbreviations")),
            ordinal_dot=entry.get("ordinal_dot", False),
            script=entry.get("script", "latin"),
            unspaced=entry.get("unspaced", False),
            refusals=refusals_of(entry),
        )
        for code, entry in table.items()
    }


def language(code: str = "en") -> Language:
    """The language of this ISO 639-1 code; English for "" (not known). Raises UserError for a code that the table lacks."""
    found = languages().get(code or "en")
    if found is None:
        raise UserError(f"there is no language {code!r}", f"known are {', '.join(languages())}")
    return found


# --- words ------------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, lower case, not stemmed. In scripts without spaces each letter is a word."""
    return _WORD.findall(text.lower())


def content_words(text: str, spoken: Language) -> set[str]:
    """The words that say what a text is about, lower case: no stop words, no words of asking, no single letters.

    Names stay whole: "v1.27", "node-pool".
    """
    dropped = spoken.stop_words | spoken.asking_words
    return {
        word
        for word in _NAME.findall(text.lower())
        if word not in dropped and (len(word) > 1 or word.isdigit() or re.match(f"[{UNSPACED}]", word))
    }


def stemmer(spoken: Language) -> Callable[[str], str]:
    """The function that gives the stem of a lower-case word; it gives the word itself where Snowball has no algorithm."""
    if not spoken.stemmer:
        return lambda word: word
    from Stemmer import Stemmer

    stem: Callable[[str], str] = Stemmer(spoken.stemmer).stemWord
    return stem


# --- sentences --------------------------------------------------------------------------------------------------------

_LABEL = re.compile(r"(?:Note|Tip|Important|Caution|Warning):\s+")
"""What a document's reader puts before the text of an alert."""


def split_sentences(text: str, spoken: Language) -> list[str]:
    """The sentences of one paragraph, in order. A label such as "Note:" before the first goes; inline code is not cut."""
    if label := _LABEL.match(text):
        text = text[label.end() :]
    parts: list[list[str]] = []
    start, inside_code = 0, False
    for end, after in [*_sentence_ends(text, spoken), (len(text), len(text))]:
        part, start = text[start:end], after
        if inside_code:
            parts[-1].append(part)
        elif part:
            parts.append([part])
        inside_code ^= part.count("`") % 2 == 1
    return [" ".join(part) for part in parts]


def breaks(text: str) -> list[int]:
    """Where a text may be cut off with the least harm: after each sentence or line but the last, in characters."""
    return [match.start() for match in _BREAK.finditer(text)]


def _sentence_ends(text: str, spoken: Language) -> Iterator[tuple[int, int]]:
    """Where each sentence but the last ends, and where the next one begins."""
    for match in _SENTENCE_END.finditer(text):
        if match["space"] is None:
            yield match.end(), match.end()
            continue
        place = match.end() + (text[match.end()] in _OPENERS)
        following = text[place : place + 1]
        # A letter that has no case (Arabic, Hindi) begins a sentence; one in lower case goes on with it.
        if not (following == "-" or following.isdigit() or (following.isalpha() and not following.islower())):
            continue
        before = text[max(0, match.start("space") - 20) : match.start("space")]
        if any(before.endswith(short) and not before[: -len(short)][-1:].isalnum() for short in spoken.abbreviations):
            continue
        if spoken.ordinal_dot and re.search(r"(?<!\w)\d{1,2}\.$", before):
            continue
        yield match.start("space"), match.end()


# --- which language a text is in --------------------------------------------------------------------------------------

_SCRIPTS = {
    "japanese": KANA,
    "han": HAN,
    "hangul": HANGUL,
    "thai": THAI,
    "cyrillic": "\u0400-\u052f",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "arabic": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff",
    "devanagari": "\u0900-\u097f",
    "latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
}
_LETTERS = {script: re.compile(f"[{letters}]") for script, letters in _SCRIPTS.items()}
_CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]+`|(?<!\S)\S*(?:://|[_/\\@])\S*", re.M | re.S)
_EVIDENCE = 10_000
"""Characters of a text that are looked at."""
_LEAST, _LEAST_SHARE = 3, 0.06
"""Function words that a text must have before its language is believed; of prose they are a fifth and more."""
_OWN = 2
"""Different ones that English does not have, before a text is taken for another language in Latin letters."""


def detect(text: str) -> str:
    """The ISO 639-1 code of the language that most of a text is in; "" when there is too little to tell.

    The script decides where only one language of the table is written in it, and else the function words. Code, commands and
    addresses do not count.
    """
    text = _CODE.sub(" ", text[:_EVIDENCE]).lower()
    letters = {script: len(pattern.findall(text)) for script, pattern in _LETTERS.items()}
    # A letter of these scripts says as much as several of an alphabet: names in Latin letters occur in every text.
    for script in ("japanese", "han", "hangul"):
        letters[script] *= 3
    if letters["japanese"] * 20 > letters["han"]:
        letters["japanese"], letters["han"] = letters["japanese"] + letters["han"], 0
    for script in sorted(letters, key=lambda name: -letters[name]):
        if letters[script] and (code := _of_script(script, text)):
            return code
    return ""


def _of_script(script: str, text: str) -> str:
    """The language that a lower-case text in this script is in; "" when its words do not tell."""
    candidates = [spoken for spoken in languages().values() if spoken.script == script]
    if len(candidates) < 2:
        return candidates[0].code if candidates else ""
    said = Counter(_PROSE_WORD.findall(text))
    counts = dict.fromkeys((spoken.code for spoken in candidates), 0)
    own: Counter[str] = Counter()
    speakers = _speakers(script)
    for word, count in said.items():
        spoken_in = speakers.get(word, ())
        for code in spoken_in:
            counts[code] += count
        if len(word) > 1 and "en" not in spoken_in:
            own.update(spoken_in)
    # English names and commands occur in every language, and some are function words of another: "pod" is Czech for "under".
    likely = {code: count for code, count in counts.items() if code == "en" or script != "latin" or own[code] >= _OWN}
    best = max(likely, key=lambda code: likely[code])
    return best if likely[best] >= max(_LEAST, _LEAST_SHARE * said.total()) else ""


_PROSE_WORD = re.compile(rf"(?<![\d'’])[^\W\d_{MARKS}](?:[^\W\d_]|[{MARKS}])*+(?!\d)")
"""A word of letters alone; not the "s" of "10s", "k8s" and "Pod's"."""


def _function_words(spoken: Language) -> frozenset[str]:
    # The English list of stop words is a short one; its other function words are words of asking.
    return spoken.stop_words | spoken.asking_words if spoken.code == "en" else spoken.stop_words


@cache
def _speakers(script: str) -> Mapping[str, list[str]]:
    """Function word -> the languages written in this script that have it."""
    found: dict[str, list[str]] = {}
    for spoken in languages().values():
        for word in _function_words(spoken) if spoken.script == script else ():
            found.setdefault(word, []).append(spoken.code)
    return found
