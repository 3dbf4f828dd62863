"""What a run's figures allow to be said, in sentences: for who decides, and for who doubts."""

from __future__ import annotations

from collections.abc import Sequence

from rag_vs_ft.evaluation.contexts import CONTEXTS, WAYS
from rag_vs_ft.evaluation.figures import ArmFigures, PairFigures, QuestionCounts, ScoreFigures
from rag_vs_ft.evaluation.heuristics import HEURISTICS, is_way
from rag_vs_ft.evaluation.measures import ACCURACY, LETTER, SCORES
from rag_vs_ft.evaluation.predictions import Prediction
from rag_vs_ft.evaluation.render import percent, points, span

LEVEL = 0.05
"""Of a Holm p, up to which a difference is called one."""


def can_be_given(arm: ArmFigures) -> bool:
    """Whether the arm is a way to answer that a user could be given: no probe, and no rule without a language model."""
    return is_way(arm.model, arm.context)


def named(arm: ArmFigures) -> str:
    """The arm's name, with what it is unless it is a way to answer."""
    kinds = ["no model"] if arm.model in HEURISTICS else []
    kinds += [] if arm.context in WAYS else ["probe"]
    return f"{arm.name} ({', '.join(kinds)})" if kinds else arm.name


def verdict(
    arms: Sequence[ArmFigures],
    pairs: Sequence[PairFigures],
    scores: Sequence[ScoreFigures],
    counts: QuestionCounts,
    baseline: str | None,
) -> str:
    """The verdict in two lines: the decision, then what it rests on. It says no more than the intervals do.

    Arms whose context is a probe, and those without a language model, are no candidates: they are named as what they are.
    """
    scored = [arm for arm in arms if arm.accuracy.value is not None]
    letters = _by_letter([arm for arm in arms if arm.of(LETTER).value is not None], pairs, counts)
    ways = [arm for arm in scored if can_be_given(arm)]
    rules = [arm for arm in scored if arm.model in HEURISTICS and arm.context in WAYS]
    if not scored:
        return letters or "No arm answered a question with choices."
    probes = _probes([arm for arm in scored if arm.context not in WAYS and arm.model not in HEURISTICS])
    if not ways:
        none = "No arm that a user could be given answered a question with choices by likelihood."
        return "\n".join(filter(None, (none, f"{probes} {letters}".strip())))
    best = max(ways, key=lambda arm: arm.right)
    mine = [pair for pair in pairs if pair.measure == ACCURACY.name and best.name in (pair.a, pair.b)]
    apart = {pair.b if pair.a == best.name else pair.a: pair for pair in mine}
    others = [arm.name for arm in ways if arm is not best]
    decision = [_headline(best, counts), *_comparison(best, others, apart, baseline), _beaten(best, rules)]
    details = [
        _smallest([apart[name] for name in ([baseline] if baseline in others else others)]),
        _scores(scores, baseline),
        _without_model(rules),
        probes,
        letters,
    ]
    return "\n".join(" ".join(filter(None, sentences)) for sentences in (decision, details)).strip()


def why_wrong(prediction: Prediction, model: str) -> str:
    """Why an answer of this model (or rule) may have been wrong, as far as passages and prompt tell."""
    who = "the rule" if model in HEURISTICS else "the model"
    if prediction.error:
        return "the question did not fit into the window"
    if not prediction.passages:
        return (
            "a rule that looks at no passage was wrong"
            if model in HEURISTICS
            else "asked without passages, the model did not know"
        )
    holding = [passage for passage in prediction.passages if passage.holds_answer]
    if shown := [passage for passage in holding if passage.in_prompt]:
        return f"{who} misread: passage [{shown[0].rank}] holds the answer"
    if holding:
        return f"the window had no room for passage [{holding[0].rank}], which holds the answer"
    return "the search missed: no passage holds the answer"


def _headline(best: ArmFigures, counts: QuestionCounts) -> str:
    share = f"{percent(best.accuracy.value)} of {counts.with_choices} questions right"
    share += f" {span(best.accuracy.interval)}" if best.accuracy.interval else ""
    if best.is_a_guess(counts.chance):
        return f"No way is shown to answer better than a guess ({percent(counts.chance)}). The best, {best.name}, has {share}."
    return f"{best.name} answers best: {share}; a guess has {percent(counts.chance)}."


def _comparison(best: ArmFigures, others: Sequence[str], apart: dict[str, PairFigures], baseline: str | None) -> list[str]:
    if not others:
        return ["There is no other way to compare it with."]
    unclear = [name for name in others if (apart[name].holm_p or 0.0) > LEVEL]
    if not unclear:
        return [f"It is ahead of every other way ({_holm(max(apart[name].holm_p or 0.0 for name in others))})."]
    said = []
    if baseline is not None and baseline in others:
        pair = apart[baseline]
        chance = ", which chance can explain" if baseline in unclear else ""
        lead = f"{points(pair.against(baseline))} points"
        said.append(f"Against {baseline}, the baseline, that is {lead} ({_holm(pair.holm_p)}){chance}.")
    if rest := [name for name in unclear if name != baseline]:
        said.append(f"These questions cannot separate it from {', '.join(rest)}.")
    return said


def _smallest(pairs: Sequence[PairFigures]) -> str:
    if not pairs:
        return ""
    found = [pair.detectable for pair in pairs]
    if any(one is None or one > 1 for one in found):
        return "The questions are too few, or the answers too alike, for a difference to show."
    largest = max(one for one in found if one is not None)
    return f"These questions miss a true difference of less than {largest * 100:.1f} points more than one time in five."


def _scores(scores: Sequence[ScoreFigures], baseline: str | None) -> str:
    if not scores:
        return ""
    same = len({(one.best, one.holm_p is not None and one.holm_p <= LEVEL) for one in scores}) == 1
    told = ", ".join(_by_score(one, baseline, named=not same) for one in scores)
    return f"All three scores agree on {scores[0].best}: {told}." if same else f"THE SCORES DISAGREE: {told}."


def _by_score(found: ScoreFigures, baseline: str | None, *, named: bool) -> str:
    best = f"{found.best} " if named else ""
    lead = "" if found.difference is None else f" ({points(found.difference)} points over {baseline}, {_holm(found.holm_p)})"
    return f"{SCORES[found.score]} {best}{percent(found.choice_accuracy)}{lead}"


def _beaten(best: ArmFigures, rules: Sequence[ArmFigures]) -> str:
    """What takes the weight from a verdict: a rule that does not read does as well."""
    ahead = [rule for rule in rules if rule.right >= best.right]
    if not ahead:
        return ""
    rule = max(ahead, key=lambda arm: arm.right)
    return (
        f"BUT {rule.name}, a rule without a language model, has {percent(rule.accuracy.value)}: as many of these questions "
        "can be answered without reading."
    )


def _without_model(rules: Sequence[ArmFigures]) -> str:
    if not rules:
        return ""
    ranked = sorted(rules, key=lambda arm: -arm.right)
    return f"Without a language model: {', '.join(f'{arm.name} {percent(arm.accuracy.value)}' for arm in ranked)}."


def _probes(probes: Sequence[ArmFigures]) -> str:
    if not probes:
        return ""
    shown = [
        f"{arm.name} {percent(arm.accuracy.value)} ({CONTEXTS[arm.context].shows})" for arm in probes if arm.context in CONTEXTS
    ]
    return f"Probes, which no user can be given: {'; '.join(shown)}."


def _by_letter(arms: Sequence[ArmFigures], pairs: Sequence[PairFigures], counts: QuestionCounts) -> str:
    """The arms that were shown the choices and named one. Their shares stand apart from those by likelihood."""
    if not arms:
        return ""
    ranked = sorted(arms, key=lambda arm: -(arm.of(LETTER).value or 0.0))
    shares = ", ".join(f"{named(arm)} {percent(arm.of(LETTER).value)} {span(arm.of(LETTER).interval)}".strip() for arm in ranked)
    tested = [pair for pair in pairs if pair.measure == LETTER.name and pair.holm_p is not None]
    apart = "; ".join(f"{pair.b} against {pair.a} {points(pair.difference)} points ({_holm(pair.holm_p)})" for pair in tested[:6])
    said = f"By letter, which is another measure than likelihood and is not compared with it: {shares} of {counts.with_choices}"
    return f"{said} questions; a guess has {percent(counts.chance)}." + (f" {apart}." if apart else "")


def _holm(p: float | None) -> str:
    return "p not tested" if p is None else f"Holm p {p:.3f}" if p >= 0.001 else "Holm p < 0.001"
