"""Follow-up questions -> questions that can be understood, and searched, on their own.

"And in one of 150?" finds nothing by itself. Where a question seems to depend on the one before, that is put in front of it. A
model can also rewrite it. Those that were measured do it no better than not at all (docs/decisions.md), so only the benchmark
asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rag_vs_ft.language import content_words, language
from rag_vs_ft.models.chat import frame
from rag_vs_ft.models.generation import generate
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.prompting import Prompt, continue_text, encode

_TASK = "Rewrite the last question so that it can be understood without the ones before it. Write only the rewritten question."
_EXAMPLES = (
    ("How long is a backup kept?", "And who may delete it?", "Who may delete a backup?"),
    ("Which sizes of disk are there?", "What is the largest one?", "What is the largest size of disk?"),
    ("How do I restart the service?", "Can I do that in the portal?", "Can I restart the service in the portal?"),
)
MAX_TOKENS = 48


_REFERS = re.compile(
    r"^(?:and|or|but|so|then|also|what about|how about)\b"
    r"|\b(?:it|its|they|them|their|theirs|that|this|these|those|one|ones|others?|another|instead|either|neither|both|same)\b",
    re.IGNORECASE,
)
MOST_WORDS = 12
"""A longer question says what it is about, even with "it" in it."""


def depends(question: str) -> bool:
    """Whether a question refers to an earlier one: a short one with a pronoun, or one without a word that names anything."""
    refers = bool(_REFERS.search(question)) or not content_words(question, language())
    return refers and len(question.split()) <= MOST_WORDS


def joined(earlier: Sequence[str], question: str) -> str:
    """`question`, behind the last one of `earlier` (oldest first) that stands on its own, where it depends on that."""
    if not earlier or not depends(question):
        return question
    return f"{next((one for one in reversed(earlier) if not depends(one)), earlier[-1])} {question}"


def standalone(lm: LanguageModel | None, earlier: Sequence[str], question: str) -> str:
    """`question` as it is searched and asked: rewritten by `lm` where it depends on an earlier one, or, without a model and
    where the model writes no question, joined with that one."""
    if lm is None or not earlier or not depends(question):
        return joined(earlier, question)
    return rewrite(lm, earlier, question) or joined(earlier, question)


def rewrite(lm: LanguageModel, earlier: Sequence[str], question: str) -> str:
    """`question` as `lm` rewrites it, given the questions before it, oldest first; "" when what it writes is no question."""
    shown = "".join(f"Question: {one}\nQuestion: {two}\nRewritten: {three}\n\n" for one, two, three in _EXAMPLES)
    asked = shown + "".join(f"Question: {one}\n" for one in (*earlier[-2:], question)) + "Rewritten:"
    stream = generate(lm, _prompt(lm, asked), max_new_tokens=MAX_TOKENS, stop=("\n",))
    for _ in stream:
        pass
    found = re.sub(r"^\s*(?:Rewritten|Question)\s*:", "", stream.completion.text).strip().strip('"')
    return found if found.endswith("?") and len(found.split()) > 2 else ""


def _prompt(lm: LanguageModel, asked: str) -> Prompt:
    if lm.server:  # it puts its own template around the message
        return Prompt(f"{_TASK}\n\n{asked}", (), (), (), (), (), "chat")
    if not lm.chat:
        return continue_text(lm, f"{_TASK}\n\n{asked}")
    before, after = frame(lm)
    text = f"{_TASK}\n\n{asked}"
    ids = (*encode(lm, before, control=True), *encode(lm, text), *encode(lm, after, control=True))
    return Prompt(before + text + after, ids, (), (), (), (), "chat")
