"""Which statements and spans make a question that stands alone and has one answer: rules, each with the name the funnel shows."""

from __future__ import annotations

import re

from rag_vs_ft.mining.spans import Span
from rag_vs_ft.mining.statements import Statement

_SHORTEST, _LONGEST = 7, 45
_LONGEST_CELL = 25


def sentence_fault(text: str) -> str | None:
    """The first rule that a sentence breaks; None when it can be understood by itself."""
    words = text.split()
    if not _SHORTEST <= len(words) <= _LONGEST:
        return f"sentence: not {_SHORTEST} to {_LONGEST} words"
    if text[-1] != "." or not (text[0].isupper() or text[0] == "`") or text.count("`") % 2:
        return "sentence: not whole"
    if text.count("(") != text.count(")") or text.count('"') % 2 or _FRAGMENT.search(text) or text.count("`") > 8:
        return "sentence: code or a piece of something"
    verb = words[1] if words[0].endswith("ly") else words[0]
    if verb.lower().strip(",:") in _IMPERATIVES:
        return "sentence: an instruction, without a subject"
    if _NO_SUBJECT.match(text) or (verb[-1] == "s" and verb[:-1].lower() in _IMPERATIVES and words[1] in _DETERMINERS):
        return "sentence: no subject"
    if _ELSEWHERE.search(text):
        return "sentence: points elsewhere or to a time"
    if _OPENER.match(text) and not _has_own_subject(text):
        return "sentence: leans on the one before"
    if not _FINITE.search(text):
        return "sentence: no verb found"
    if _VAGUE_SUBJECT.match(text) or _vague_main_clause(text):
        return "sentence: says not what it is about"
    return None


def update_fault(text: str) -> str | None:
    """The first rule that a sentence with a changed fact breaks.

    Its document is named beside it and its old version is at hand, so it may speak of "this article", instruct, or be a piece.
    """
    if not 5 <= len(text.split()) <= _LONGEST:
        return f"sentence: not 5 to {_LONGEST} words"
    if text[-1] not in ".!" or text.count("`") % 2 or text.count("(") != text.count(")") or _FRAGMENT.search(text):
        return "sentence: not whole, or code"
    if _EXAMPLE.search(text):
        return "sentence: points elsewhere, or an example"
    if _VAGUE_SUBJECT.match(text):
        return "sentence: says not what it is about"
    return None


def cell_fault(statement: Statement, longest: int = _LONGEST_CELL) -> str | None:
    """The first rule that a table cell of at most `longest` words breaks as a question about its row and column."""
    if len(statement.text.split()) > longest:
        return "cell: long"
    if statement.text.count("`") % 2:
        return "cell: not whole"
    if not any(letter.isalpha() for letter in statement.row) or len(statement.row.split()) > 12:
        return "cell: its row has no short name"
    if not any(letter.isalpha() for letter in statement.column) or len(statement.key) < 2:
        return "cell: its column has no name"
    if _FRAGMENT.search(statement.text + statement.row) or _ELSEWHERE.search(f"{statement.text} {statement.row}"):
        return "cell: code, or points elsewhere"
    if re.search(r"(?i)example|sample", f"{statement.column} {statement.section}"):
        return "cell: an example"
    return None


def span_fault(statement: Statement, span: Span, title: str) -> str | None:
    """The first rule that a span breaks as the gap of its statement."""
    before, after = statement.text[: span.start], statement.text[span.end :]
    around = f"{title} {statement.section} {statement.row} {statement.column} {before} {after}"
    number = re.search(r"\d+(?:[.,]\d+)*", span.text) if span.size is not None else None
    if span.text.casefold() in around.casefold() or (
        number and re.search(rf"(?<![\d.]){re.escape(number[0])}(?![\d.]*\d)", around)
    ):
        return "span: stands beside the gap too"
    if span.size is not None:
        if _JOINED_NUMBER.match(after) or _NUMBER_JOINED.search(before):
            return "span: one of a list"
        if after[:1] not in (*" .,;:)`", ""):
            return "span: part of something longer"
        return "span: about, or one of a list" if _OPEN_LIST.search(before[-30:]) else None
    if span.rule != "sku" and stems(span.text) - {"azure", "micro", "az"} <= stems(around):
        return "span: its words stand beside the gap"
    if _OPEN_LIST.search(before) or _JOINED.match(after) or _JOINED_BEFORE.search(before):
        return "span: one of a list"
    if after[:1] in ("-", "/"):
        return "span: part of something longer"
    if span.rule == "service" and not re.match(r"$|[.,;)]|'s ", after):
        return "span: part of a longer name"
    return None


def _has_own_subject(text: str) -> bool:
    """Whether a condition opens the sentence and a subject of its own follows: "When X runs, Azure Y keeps ..."."""
    if not _CONDITION.match(text) or text.startswith(("In addition", "In that", "In which", "For instance", "To do so")):
        return False
    _, comma, main = text.partition(", ")
    return bool(comma) and not _OPENER.match(main) and main.split()[0].lower() not in _IMPERATIVES


def _vague_main_clause(text: str) -> bool:
    _, comma, main = text.partition(", ")
    return bool(comma and _CONDITION.match(text)) and bool(_VAGUE_SUBJECT.match(main[0].upper() + main[1:]))


def stems(text: str) -> set[str]:
    """The first five letters of each word, with camelCase and kebab-case taken apart: words that look alike to a reader."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-_./]", " ", text)
    return {word.lower()[:5] for word in re.findall(r"(?<![A-Za-z])[A-Za-z]+[a-z]|\d+", apart)}


# --- the words that the rules look for -------------------------------------------------------------------------------

_FRAGMENT = re.compile(r"[{}<>$=\\]|\.\.\.|…|https?:|^\W*$|//|\|")
_ELSEWHERE = re.compile(
    r"\b(?:this|these|those|following|above|below|previous(?:ly)?|earlier|preceding|later in|latter|former|"
    r"see|refer|visit|learn (?:more|how|about)|for more|more information|described|mentioned|shown|listed|"
    r"(?:article|section|example|tutorial|quickstart|figure|diagram|screenshot|walkthrough|sample|snippet|lab|guide|scenario)s?|"
    r"(?:after|before|in) that|such (?:a|an)|in such|here|our|us|I|let's|next|now|today|recent(?:ly)?|soon|upcoming|latest|"
    r"suppose|you(?:'ve| have)? learned|one of|otherwise|the (?:first|second|third|last)|step \d+|"
    r"the (?:status|results?|output|changes|command)(?! (?:of|for|that|`)))\b|^You\b.* it\b",
    re.I,
)
_EXAMPLE = re.compile(
    r"\b(?:following|above|below|previous|preceding|example|sample|output|screenshot|e\.g\.|see|let's say|suppose|named|called|"
    r"these|those|next section|step \d)\b|"
    r"^(?:It|They|This|That|These|Those)\b(?! (?:article|tutorial|quickstart|guide|feature|document))",
    re.I,
)
_OPENER = re.compile(
    r"(?:it|its|they|their|them|he|she|that|then|so|but|and|or|also|however|therefore|thus|hence|otherwise|instead|additionally|"
    r"in addition|in (?:that|which) case|furthermore|moreover|similarly|likewise|alternatively|finally|first|second|third|lastly|"
    r"again|both|each|either|neither|another|once|after|before|when|while|if|to|for|by|as|at|on|from|with|without|because|since|"
    r"until|unless|although|though|even|only|only if|no|not|yes|none|make sure|ensure|optional(?:ly)?|note|please|"
    r"by default|default|specifically|currently|typically|usually|generally|here|there|where|what|which|how|why|who)\b",
    re.I,
)
_CONDITION = re.compile(
    r"(?:when|while|if|after|before|once|to|for|by default|as of|in|on|with|starting|beginning|because|since|from|at)\b", re.I
)
_VAGUE = (
    "value|values|parameter|setting|settings|property|command|limit|default|option|field|flag|argument|name|script|output|result|"
    "response|request|feature|process|operation|table|column|list|rule|step|number|size|time|period|date|version|file|code|"
    "template|configuration|change|issue|error|message|status|level|type|key|policy|role|solution|tool|action|method|approach|"
    "installer|image|instance|resource|service|release|update|procedure|requirement|job|test|variable|string|token|extension|add-on"
)
_VAGUE_SUBJECT = re.compile(
    rf"(?:The|A|An|Any|All|Default|Maximum|Minimum) (?:(?:default|maximum|minimum|recommended|required|supported|new|old) )*"
    rf"(?:{_VAGUE})s?\b(?! (?:of|for|in|on|to|named|from) )(?! [`A-Z])"
)
_NO_SUBJECT = re.compile(
    r"(?:Can|Cannot|Can't|Could|Is|Isn't|Are|Aren't|Was|Has|Have|Does|Doesn't|Must|Should|Will|Won't|May|Might|Not|Used|Able|"
    r"Needed|Required|Indicates?|Specifies|Sends?|Favors?|Determines?|Represents?|Allows?|Contains?|Returns?|Supports?|Requires?|"
    r"Uses|Provides|Defaults|Applies|Identifies|Whether|Be|Implemented|Recommended|Suggested|Stored)\b"
)
_FINITE = re.compile(
    r"(?<!\bto )\b(?:is|are|was|were|has|have|had|can|cannot|can't|could|must|mustn't|will|won't|would|should|may|might|does|"
    r"doesn't|do|don't|isn't|aren't|hasn't|haven't|became|becomes?|supports?|requires?|uses?|provides?|allows?|enables?|includes?|"
    r"contains?|runs?|creates?|returns?|sets?|specif(?:y|ies)|indicates?|means?|needs?|defaults|applies|takes?|starts?|stops?|"
    r"controls?|defines?|determines?|expires?|ends?|reached|retires?|began|begins?|generates?|gets?|gives?|grants?|handles?|"
    r"helps?|holds?|lets?|listens?|maps?|manages?|monitors?|offers?|performs?|points?|prevents?|receives?|replaces?|represents?|"
    r"resides?|routes?|scans?|sends?|serves?|shows?|stores?|tells?|tracks?|triggers?|works?|writes?|adds?|removes?|deletes?|"
    r"updates?|keeps?|limits?|collects?|connects?|configures?|deploys?|consists?|integrates?|refers|reports?|checks?|reads?|"
    r"exposes?|injects?|installs?|validates?|stays?|remains?|lasts?|costs?|retains?|accepts?|expects?|reserves?|consumes?|ships?|"
    r"belongs?|corresponds?|depends?|exists?|follows?|grows?|happens?|identifies|ignores?|inherits?|lives|loads?|measures?|names?|"
    r"occurs?|opens?|passes|prints?|protects?|publishes|reaches|registers?|relies|rejects?|renews?|rotates?|scales?|selects?|"
    r"separates?|signs?|starts?|takes|tests?|translates?|turns?|waits?)\b"
)
_OPEN_LIST = re.compile(
    r"\b(?:such as|like|for example|for instance|e\.g\.|i\.e\.|including|includes?|for use in|similar to|usually|typically|"
    r"can be|might|could|may|often|about|around|approximately|roughly|nearly|almost)\b[^.;:]*$",
    re.I,
)
_JOINED = re.compile(r"^`?(?:,| and | or |/| & )")
_JOINED_BEFORE = re.compile(r"(?:,| and| or|/|, and|, or) `?$")
_JOINED_NUMBER = re.compile(r"^`?(?:,| and| or| to|/| &| -|-|–) ?`?v?\d")
_NUMBER_JOINED = re.compile(r"\d`?(?:,| and| or| to|/| &| -|-|–|, and|, or) ?`?$")
_DETERMINERS = frozenset(re.findall(r"\w+", "a an the that whether how if all any your which when each every one new existing"))
# Verbs that open an instruction, and the participles that open a line of release notes.
_IMPERATIVES = frozenset(
    re.findall(
        r"[\w'-]+",
        "accept access activate add adjust allow append apply approve assign attach authorize avoid back begin bind "
        "bring browse build bypass calculate call capture change check choose clean clear click clone close collect "
        "combine compare compile complete compute configure confirm connect consider contact convert copy cover create "
        "customize decide decode decommission decrypt define delete deploy describe determine develop disable "
        "disconnect discover display do don't download drag drain echo edit enable encrypt enforce ensure enter "
        "escalate estimate evaluate examine execute expand explicitly explore export expose extend extract fetch fill "
        "filter find fix follow force fork forward gain gather generate get give go grant group have help hover "
        "identify ignore import include increase initialize inject inspect install integrate introduce investigate "
        "invoke issue join keep launch learn leave let leverage limit link list load locate log look maintain make "
        "manage map match measure meet migrate mirror mitigate modify monitor mount move name navigate note observe "
        "obtain onboard open optimize output override package paste pause perform permit persist pick pin pipe place "
        "plan point post precreate prepare press prevent print process protect prove provide provision publish pull "
        "push put query quickly read rearrange rebuild receive reconcile record recover recreate reduce refer reference "
        "refresh register regularly reimage reinstall release reload remove rename render repair repeat replace report "
        "request rerun reserve reset resize resolve respond restart restore restrict retrieve retry return review "
        "revoke right-click roll rollback rotate route run sample save scale scan schedule scroll search secure see "
        "select send separate serve set share show sign simplify simulate skip specify split stage start stop store "
        "stream submit surface switch sync tag take target tell test track train transfer trigger troubleshoot try tune "
        "turn type unassign understand uninstall unlock unregister unzip update upgrade upload urge use validate verify "
        "view visit wait watch work wrap write zoom "
        "added adding bump changed deprecated fixed removed support supports",
    )
)
