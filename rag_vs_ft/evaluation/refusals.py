"""Whether a free answer declines to answer, by its wording: in English here, in other languages by `languages.toml`.

"The text field is not required" states a fact and "The text does not say" declines: what counts is whether the author, or what
the author was given to read, is said not to tell. `tests/evaluation/refusals.txt` holds answers judged by hand; its test measures
the agreement.
"""

from __future__ import annotations

import re

from rag_vs_ft.language import language, languages, split_sentences

_NOT = r"(?:(?:do|does|did|is|are|was|were|could|would|has|have)(?: not|n't)|can(?:not| not|'t)|never|fails? to)"
_GIVEN = (
    r"(?:(?:the|these|this|those|my|your|any|both|provided|given|available) )+(?:\w+ )?"
    r"(?:passages?|contexts?|texts?|excerpts?|documents?|documentation|articles?|sources?|information|material|content)"
)
"""What the author was given to read: always a certain text, never texts in general."""
_TELL = (
    r"(?:say|state|mention|tell|explain|describe|discuss|address|answer|cover|specify|indicate|clarify|reveal|detail|contain|"
    r"provide|give|include|offer|have(?! to\b)|list|show|"
    r"go into|get to|lack)"
)
_TOLD = (
    r"(?:stated|mentioned|given|provided|specified|described|discussed|covered|addressed|explained|found|included|available|clear|"
    r"answered|determined|inferred|known|said|told|listed|shown|documented)"
)
_SAID = r"(?:mentioned|stated|answered|clear|known|discussed|addressed|described|covered|explained)"
_FACTS = r"(?:information|mention|answers?|details?|indication|evidence|data)"
_THERE_IS = r"\bthere(?:'s| is| was| are| were)"
_KNOW = (
    r"(?:know|say|tell|answer|determine|help|find|see|confirm|be (?:sure|certain)"
    r"|have (?:\w+ ){0,2}(?:information|context|details|answer|knowledge|access))"
)

_REFUSAL = re.compile(
    "|".join(
        (
            # The author does not know.
            rf"\b(?:I|we) (?:{_NOT}|(?:am|are|was|were) unable to) (?:\w+ )?{_KNOW}\b",
            r"\b(?:I am|I'm|we are|we're) unsure\b",
            r"\b(?:I am|I'm|we are|we're) (?:not|unable)(?: \w+)? (?:sure|certain|aware|to (?:answer|say|tell|find|help))\b",
            r"\b(?:I|we) (?:have|had|found|find|see) (?:no|nothing|not enough|insufficient)\b",
            r"^(?:I'm |I am )?(?:sorry|afraid)\b(?! pages?)",
            # What was given does not tell.
            rf"\b{_GIVEN}(?: (?!that\b|which\b|who\b)\w+){{0,3}}? {_NOT} (?:\w+ )?{_TELL}\b",
            rf"\b{_GIVEN}(?: \w+){{0,3}}? (?:{_TELL}s?|has|makes?) (?:\w+ )?(?:no|nothing|neither)\b",
            rf"\b{_GIVEN}(?: \w+){{0,2}}? only {_TELL}s?\b|\b{_GIVEN} talks? about [^.]* not\b",
            rf"\b(?:none|neither|nothing|no \w+)\b[^.;]{{0,30}}? (?:of|in) {_GIVEN}",
            r"\bneither (?:[\w ]+ )?(?:passage|text|document|source)\b",
            rf"\bno (?:passage|text|document|source) {_TELL}s?\b|\bnot (?:some|any)thing (?:that )?{_GIVEN} {_TELL}",
            rf"\b{_GIVEN} (?:lacks?|is silent|are silent)\b|\b(?:outside|beyond) the scope of {_GIVEN}",
            rf"\b(?:not|n't|cannot) (?:be )?(?:\w+ )?{_TOLD}\b[^.;]{{0,20}}? (?:in|by|from|with) (?:{_GIVEN}|what is given)",
            rf"\b(?:unclear|impossible to \w+) from {_GIVEN}",
            rf"\b{_GIVEN}\b[^.;]{{0,20}} (?:one|you|nobody|it) {_NOT} (?:be )?(?:say|tell|know)",
            # It is not told.
            rf"^(?:\w+,? )?(?:it|this|that)(?: \w+)? (?:is|was)(?: not|n't) (?:\w+ )?{_SAID}\b(?! (?:by|to)\b)",
            rf"\b(?:answer|question|information)\b[^.;]{{0,30}}? (?:is|was|are)(?: not|n't) (?:\w+ )?{_TOLD}\b",
            rf"\b(?:it|this|that|answer|question)\b(?: \w+){{0,3}}? (?:cannot|can't|could not) be {_TOLD}\b(?! by\b)",
            rf"{_THERE_IS} (?:no|not enough|insufficient|not any) (?:\w+ )?(?:{_FACTS}|context)\b(?! (?:to fill|loss|is|are))",
            rf"\bno (?:\w+ )?{_FACTS} (?:is|are|was|were|can be|could be) {_TOLD}|\bno mention of\b",
            rf"{_THERE_IS} nothing (?:about|on|regarding)\b|\b(?:unanswerable|nothing relevant)\b",
            r"\banswer (?:to (?:the|this|your|that) question )?(?:is|remains) (?:unknown|not known|unclear)\b",
            r"\b(?:impossible|not possible) to (?:say|tell|answer|determine|know)\b",
            r"\bmore (?:information|context|details) (?:is|are) needed to (?:answer|say|tell)\b",
            rf"^(?:cannot|can't|could not) be {_TOLD}",
            r"^(?:it is|it's|that is|that's) unclear\W*$|^(?:not enough|insufficient) (?:\w+ )?(?:information|context|details)\b",
            rf"^(?:unknown|n/a|unclear|no (?:idea|answer|information)|not (?:sure|{_TOLD[3:]})\W*$",
            r"\b(?:is|are|was|were) not (?:stated|mentioned|specified|known)\W*$",
        )
    ),
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"(?:if|when|whenever|unless|where|in case|as long as|wenn|falls|sofern|sobald|si|s'il|lorsque|quand|cuando|en caso|se|quando"
    r"|caso|qualora|nel caso|als|wanneer|indien|если|когда)\b|如果|若|当",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"\b(?:but|however|yet|aber|jedoch|doch|sondern|mais|pero|sino|mas|ma|però|maar|но|однако),? (?:\w+ ){2}|ですが、|但",
    re.IGNORECASE,
)
_PATTERNS = (_REFUSAL, *(found for spoken in languages().values() if (found := spoken.refusals)))


MAX_SENTENCE = 1_000
"""Characters of a sentence that are looked at: the phrases take time with the square of it, and a loop of words has no end."""


def is_refusal(answer: str) -> bool:
    """Whether an answer declines: a sentence of it says that its author, or what was given to read, does not tell.

    An empty answer declines. A sentence that goes on ("I am not sure, but it is 90 days") answers.
    """
    text = " ".join(answer.replace("’", "'").split())
    return not text or any(_declines(sentence[:MAX_SENTENCE]) for sentence in split_sentences(text, language()))


def _declines(sentence: str) -> bool:
    return not _CONDITION.match(sentence) and any(_declines_by(pattern, sentence) for pattern in _PATTERNS)


def _declines_by(pattern: re.Pattern[str], sentence: str) -> bool:
    found = pattern.search(sentence)
    if not found:
        return False
    rest = sentence[found.end() :]
    return not _GOES_ON.search(rest) or bool(pattern.search(rest))
