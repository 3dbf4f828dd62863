"""Which passages an answer rests on, and whether the numbers and the commands that it gives are those of the passages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag_vs_ft.language import content_words, language, split_sentences
from rag_vs_ft.records import Hit

CITED_SHARE = 0.5
"""Share of an answer's content words that a passage must hold for the answer to rest on it."""
MOST_SHOWN = 200
"""Characters of a command that a note repeats."""
_FLAG = re.compile(r"(?<!\S)--?[a-zA-Z][\w-]*")
_CONTINUED = re.compile(r"[\\`^][ \t]*\n\s*")
"""The end of a line that goes on, in Bash, PowerShell and the command prompt of Windows."""
_COMMAND = re.compile(r"(?:[$>#] )?([a-z][\w.-]*(?: [a-z][\w-]*){0,2})(?= )")
"""A program and the first two words after it, at the beginning of a line."""
_CITATION = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")


def citations(answer: str, hits: Sequence[Hit], question: str = "") -> tuple[int, ...]:
    """Ranks of the passages that `answer` rests on, in order.

    By words: of the answer's content words (no stop words; those that the question does not have, if there are any), the
    passages that hold the greatest share, when it is at least `CITED_SHARE`. Those it names itself as [n] count instead where
    one of them is among these, or no passage holds so much: a small model echoes the "[1]" of its prompt while it copies another
    passage. This says where to look, not that the answer is right.
    """
    numbers = {int(number) for found in _CITATION.findall(answer) for number in found.split(",")}
    named = numbers & {hit.rank for hit in hits}
    spoken = language(hits[0].chunk.language if hits else "")
    said = content_words(_CITATION.sub(" ", answer), spoken)
    said = said - content_words(question, spoken) or said
    held = {hit.rank: content_words(f"{hit.chunk.breadcrumb} {hit.chunk.text}", spoken) for hit in hits}
    shares = {rank: len(said & words) / len(said) for rank, words in held.items()} if said else {}
    best = max(shares.values(), default=0.0)
    by_words = {rank for rank, share in shares.items() if share == best >= CITED_SHARE}
    return tuple(sorted(named if named & by_words or not by_words else by_words))


def faults(answer: str, hits: Sequence[Hit]) -> list[str]:
    """What is wrong with the [n] of an answer: numbers of no passage, and passages that do not hold the sentence before them;
    and commands that are in no passage.

    A passage holds a sentence when it has `CITED_SHARE` of its content words: a sign of where to look, and no proof.
    """
    shown = {hit.rank: hit for hit in hits}
    spoken = language(hits[0].chunk.language if hits else "")
    unknown: set[int] = set()
    unheld: set[int] = set()
    # A mark after the full stop belongs to the sentence before it.
    for sentence in split_sentences(re.sub(r"([.!?])(\s*(?:\[[\d,\s]+\]\s*)+)", r"\2\1 ", answer), spoken):
        said = content_words(_CITATION.sub(" ", sentence), spoken)
        for number in {int(number) for found in _CITATION.findall(sentence) for number in found.split(",")}:
            if number not in shown:
                unknown.add(number)
            elif said:
                held = content_words(f"{shown[number].chunk.breadcrumb} {shown[number].chunk.text}", spoken)
                if len(said & held) < CITED_SHARE * len(said):
                    unheld.add(number)
    told = []
    if unknown:
        told.append(f"the answer cites {_listed(unknown)}: the model was shown no such passage")
    if unheld:
        told.append(f"the answer cites {_listed(unheld)} for words that are not there")
    told += [
        f"no passage has this command with these options: {command[:MOST_SHOWN]}" for command in unknown_commands(answer, hits)
    ]
    return told


def unknown_commands(answer: str, hits: Sequence[Hit]) -> list[str]:
    """The commands of an answer whose options no command of the passages has together: joined from several, or made up.

    A command is a line of a passage that begins with a word in small letters and has an option ("az lock list --output table").
    One of the answer is compared with those of the same program and first words. Programs that no passage uses are not judged.
    """
    known = []
    for hit in hits:
        for line in _CONTINUED.sub(" ", hit.chunk.text).splitlines():
            if (start := _COMMAND.match(line.strip())) and (flags := set(_FLAG.findall(line))):
                known.append((start[1].split(), flags))
    if not known:
        return []
    programs = sorted({words[0] for words, _ in known})
    begins = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, programs))}) [^`\n]*")
    found = []
    for said in begins.findall(_CONTINUED.sub(" ", answer)):
        command = " ".join(re.split(r"[.;:] ", said)[0].rstrip(".").split())
        flags, start = set(_FLAG.findall(command)), _COMMAND.match(command)
        if flags and start:
            words = start[1].split()
            alike = (others for beginning, others in known if all(a == b for a, b in zip(words, beginning, strict=False)))
            if not any(flags <= others for others in alike):
                found.append(command)
    return found


def _listed(numbers: set[int]) -> str:
    first = sorted(numbers)[:5]
    return ", ".join(f"[{number}]" for number in first) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
