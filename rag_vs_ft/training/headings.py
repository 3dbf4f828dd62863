"""Alpaca records from the documents alone: what title and heading name is asked, the section's first sentences answer.

Rules, each with the name that the funnel shows, decide which sections begin with sentences that can be understood by themselves.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from rag_vs_ft.funnel import Funnel
from rag_vs_ft.language import language, split_sentences, words
from rag_vs_ft.overlap import HeldOut
from rag_vs_ft.records import Document
from rag_vs_ft.training.instructions import Built, Record, is_dropped, leak

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

ANSWER_WORDS = (8, 80)
"""Fewest and most words of an answer."""
ANSWER_SENTENCES = 3


@dataclass(frozen=True, slots=True)
class HeadedText:
    """The text under one heading ("" below the title): its sentences up to the first list of steps, code or table.

    `sentences` are plain text on one line each, inline code in backticks; `whole` says that nothing follows them.
    """

    document: Document
    heading: str
    sentences: tuple[str, ...]
    whole: bool


def sections(document: Document) -> Iterator[HeadedText]:
    """The sections of a document in order; a heading that has only other headings under it is left out."""
    heading = ""
    sentences: list[str] = []
    whole, empty = True, True
    depth = 0
    tokens = _parser().parse(document.text)
    for position, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0:
            if not empty:
                yield HeadedText(document, heading, tuple(sentences), whole)
            title = _plain(tokens[position + 1])
            heading = "" if token.tag == "h1" and title == document.title else title
            sentences, whole, empty = [], True, True
        elif token.type in ("bullet_list_open", "bullet_list_close"):
            depth += token.nesting
            empty = False
        elif token.type == "paragraph_open" and token.level <= 2 * depth:
            empty = False
            if whole:
                sentences += split_sentences(_plain(tokens[position + 1]), language(document.language))
        elif token.type in ("ordered_list_open", "fence", "code_block", "table_open", "blockquote_open", "html_block"):
            whole = empty = False
    if not empty:
        yield HeadedText(document, heading, tuple(sentences), whole)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _plain(inline: Token) -> str:
    """The text of an inline token on one line, emphasis and links without their marks, code in backticks."""
    parts = [
        f"`{child.content}`" if child.type == "code_inline" else child.content or " "
        for child in inline.children or []
        if child.content or child.type in ("softbreak", "hardbreak")
    ]
    return " ".join("".join(parts).split())


_ELSEWHERE = re.compile(
    r"\b(?:the following|as follows|below|above|previous|earlier|preceding|see|refer to|for more|learn more|described|shown|"
    r"continue with|go to|in this|here's|here are|here is|let's|"
    r"(?:this|these|next|last) (?:\w+ )?(?:article|section|page|example|table|step|tutorial|quickstart|command|procedure|guide|"
    r"document)s?)\b",
    re.I,
)
_LEANING = re.compile(
    r"(?:it|its|they|their|them|that|this|these|those|then|so|but|and|or|also|however|therefore|thus|otherwise|instead|again|"
    r"additionally|furthermore|moreover|similarly|alternatively|finally|both|each of|either|neither|another|such|once done|"
    r"in (?:this|that|which|these) cases?|in addition|for example|for instance|the (?:former|latter|same|other|others)|"
    r"first|second|third)\b",
    re.I,
)
_BOILERPLATE = re.compile(
    r"(?:next steps?|related (?:content|articles|links|topics|information)|see also|learn more|more information|"
    r"additional resources|resources|references?|feedback|contents|in this (?:article|section)|get help|support|"
    r"clean ?up(?: resources)?|(?:code )?(?:examples?|samples?)|(?:example )?output|changelog|revision history)",
    re.I,
)
_OPENING = re.compile(r"(?:overview|introduction|about|summary|description|what is it|background)", re.I)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.S)
_NUMBERING = re.compile(
    r"(?:(?:step|part|task|option|method) *|(?<! ) *)(?<![\d.])\d+(?:\.\d+)*[.:)-]? +|(?:step|part) [a-z][.:)] +", re.I
)
_WH = re.compile(r"(?:how|what|why|when|where|which|who)\b", re.I)
_AUXILIARY = re.compile(r"(?:can|could|do|does|did|is|are|was|were|should|will|would|may|must|has|have)(?:n't)?\b", re.I)
_WH_DIRECT = re.compile(
    r"(?:how|what|why|when|where|which \w+|who) (?:can|could|do|does|did|is|are|should|will|would|must)\b", re.I
)
_VERBS = frozenset(
    re.findall(
        r"\w+",
        "access activate add adjust allow analyze apply approve assign attach audit authenticate authorize automate back "
        "backup block bring build bypass call cancel change check choose clean clear clone close collect combine compare "
        "compute configure confirm connect consume control convert copy create customize debug decide define delegate "
        "delete deny deploy detach detect determine diagnose disable disconnect discover distribute do download drain "
        "edit enable encrypt enforce ensure estimate evaluate examine exclude execute expand export expose extend fetch "
        "filter find fix force generate get give grant handle identify ignore import improve include increase inspect "
        "install integrate investigate invoke isolate keep launch limit list load locate lock look maintain make manage "
        "map measure migrate mitigate modify monitor mount move name navigate observe open opt optimize organize override "
        "pause perform pin place plan plug prepare prevent preview protect provision publish pull purge push query raise "
        "read rebuild recover recreate reduce regenerate register reimage remove rename renew reorder repair replace "
        "request require reset resize resolve restart restore restrict retrieve reuse review revoke roll rotate route run "
        "save scale schedule search secure select send separate serve set share show shrink sign size skip specify split "
        "start stop store stream submit switch sync tag taint target test track transfer trigger troubleshoot try tune "
        "turn undo uninstall unlock unregister update upgrade upload use validate verify view wait watch work write",
    )
)
_ALSO_NOUNS = frozenset(
    re.findall(
        r"\w+",
        "access audit backup block change control delegate display export filter force grant import install limit load "
        "lock monitor name open pause place plan preview process provision pull push query release request require reset "
        "resolve restart restore review schedule search set share show sign size split start stop store stream support "
        "switch sync test transfer undo update upgrade upload view work",
    )
)
_AFTER_VERB = re.compile(
    r"(?:an?|the|your|its|all|any|each|every|one|two|multiple|existing|new|from|with|to|up|off|on|in|for|by|as|using)\b"
)


def from_headings(documents: Iterable[Document], held_out: HeldOut, *, seed: int) -> Built:
    """One record for each section that begins with sentences which can be understood by themselves.

    The instruction asks, in one of several wordings chosen by `seed`, what title and heading name; the output is the section's
    first sentences. A heading that occurs twice with different text gives no record.
    """
    funnel = Funnel()
    found: dict[str, Record] = {}
    contradicted: set[str] = set()
    for document in documents:
        for section in sections(document):
            funnel.candidates += 1
            answer, reason = _answer(section)
            if reason:
                funnel.drop(reason)
                continue
            asked = _ask(document, section.heading, random.Random(f"{seed} {document.id} {section.heading}"))
            record = Record(asked, "", answer, f"headings:{section.heading or document.title}", (document.id,))
            key = " ".join(words(f"{document.title} {section.heading}"))
            if is_dropped(leak(record, held_out), funnel):
                continue
            if key not in found:
                found[key] = record
            elif found[key].output == answer:
                funnel.drop("repeated: the same section in another place")
            else:
                funnel.drop("repeated: the same title and heading with other text")
                contradicted.add(key)
    if contradicted:
        funnel.drop("repeated: the same title and heading with other text", len(contradicted))
    records = tuple(record for key, record in found.items() if key not in contradicted)
    return Built(records, funnel.counts(len(records)))


def _answer(section: HeadedText) -> tuple[str, str | None]:
    """The output of a section, or the rule by which it gives none."""
    low, high = ANSWER_WORDS
    if _BOILERPLATE.fullmatch(section.heading):
        return "", "heading: says nothing of the topic (Next steps, Examples)"
    if not section.sentences:
        return "", "section: does not begin with prose"
    taken: list[str] = []
    for sentence in section.sentences[:ANSWER_SENTENCES]:
        if sum(len(one.split()) for one in (*taken, sentence)) > high or _fault(sentence, first=not taken):
            break
        taken.append(sentence)
    if not taken:
        return "", f"section: {_fault(section.sentences[0], first=True) or f'its first sentence has over {high} words'}"
    answer = " ".join(taken)
    return (answer, None) if len(answer.split()) >= low else ("", f"section: under {low} words of prose")


def _fault(sentence: str, *, first: bool) -> str | None:
    """The rule that a sentence breaks as a part of an answer that stands alone."""
    if sentence[-1] not in ".!?\"')" or not (sentence[0].isupper() or sentence[0] in "`\"'(" or sentence[0].isdigit()):
        return "its first sentence is not whole"
    if sentence.count("`") % 2 or sentence.count("(") != sentence.count(")"):
        return "its first sentence is not whole"
    if _ELSEWHERE.search(sentence) or re.search(r"https?:|\bclick\b|!\[", sentence):
        return "its first sentence points elsewhere"
    if first and _LEANING.match(sentence):
        return "its first sentence leans on the heading"
    return None


def _ask(document: Document, heading: str, rng: random.Random) -> str:
    """A question for a title and a heading under it, in one of several wordings that fit the grammar of the heading."""
    title = document.title.strip().rstrip(".:?") or document.id
    topic = _NUMBERING.sub("", heading, count=1).strip().rstrip(".:?")
    if not topic or _OPENING.fullmatch(topic):
        own = _lowered(title, document)
        return rng.choice(
            {
                "question": (f"{title}?",),
                "indirect question": (f"Explain {own}.", f"Can you explain {own}?"),
                "task": (f"What should I know when I {own}?", f"What do I have to know to {own}?"),
                "task or name": (f'What is "{title}" about?', f'Give a short introduction to "{title}".'),
                "name": (f"What should I know about {own}?", f'What is "{title}" about?', f"Give a short introduction to {own}."),
            }[_form(title)]
        )
    own = _lowered(topic, document)
    return rng.choice(
        {
            "question": (f"{title}: {own}?", f"{topic}? ({title})", f'{topic}? My question is about "{title}".'),
            "indirect question": (f'Explain {own} ("{title}").', f"{title}: can you explain {own}?"),
            "task": (
                f"{title}: what should I know when I {own}?",
                f"What do I have to know to {own}? ({title})",
                f'What does "{title}" say about how to {own}?',
            ),
            "task or name": (f'What does "{title}" say about "{topic}"?', f'{title}: what is said about "{topic}"?'),
            "name": (
                f"{title}: what should I know about {own}?",
                f'What does "{title}" say about {own}?',
                f'Tell me about {own} ("{title}").',
            ),
        }[_form(topic)]
    )


def _form(text: str) -> str:
    """What a heading is: a question, the same without its verb's inversion, a task ("Add a pool"), or the name of something."""
    if _WH_DIRECT.match(text) or _AUXILIARY.match(text):
        return "question"
    if _WH.match(text):
        return "indirect question"
    first, _, rest = text.lower().partition(" ")
    if first not in _VERBS or re.match(r"cases?\b", rest):
        return "name"
    return "task" if first not in _ALSO_NOUNS or _AFTER_VERB.match(rest) else "task or name"


def _lowered(text: str, document: Document) -> str:
    """`text` with a small first letter, where the document's prose shows that its first word is not a name."""
    first = text.split()[0]
    if first[1:] != first[1:].lower() or not first[0].isupper():
        return text
    small = first.lower()
    ordinary = small in _VERBS or _WH.match(small) or _AUXILIARY.match(small)
    if not ordinary and not re.search(rf"(?<=\s){re.escape(small)}(?=[\s,.;:])", _CODE.sub("", document.text)):
        return text
    return small[0] + text[1:]
