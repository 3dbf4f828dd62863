"""A run's figures -> report.md and report.html, both rendered from the same sections."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rag_vs_ft import files
from rag_vs_ft.evaluation import plots, ratings
from rag_vs_ft.evaluation.figures import UPDATES, AgainstBaseline, ArmFigures, ContextQuality, PairFigures, Summary, TagFigures
from rag_vs_ft.evaluation.heuristics import HEURISTICS
from rag_vs_ft.evaluation.leaks import LeakReport
from rag_vs_ft.evaluation.manifest import FinishedManifest, ModelUsed
from rag_vs_ft.evaluation.measures import ACCURACY, BITS, F1, FACTS, LETTER, MEASURES, PAIRED, SCORES, Measure, chosen
from rag_vs_ft.evaluation.render import (
    NONE,
    Fold,
    Section,
    count,
    duration,
    html,
    intervals,
    large,
    markdown,
    number,
    p_value,
    percent,
    plural,
    size,
    span,
)
from rag_vs_ft.evaluation.settling import Frozen, Tried
from rag_vs_ft.evaluation.summary import Table
from rag_vs_ft.evaluation.verdict import can_be_given, named, why_wrong
from rag_vs_ft.records import Question

T = TypeVar("T")
Columns = Sequence[tuple[str, Callable[[T], str]]]
"""Heads of columns, and what each shows of a row's record."""
DISAGREEMENTS = 10
MANY_PAIRS = 12
"""With more, pairs of probes and rules with one another are left to summary.json, and the picture shows the baseline's."""


def write(folder: Path, summary: Summary, manifest: FinishedManifest, table: Table) -> None:
    """Write report.md and report.html of a run into its folder."""
    written = sections(summary, manifest, table)
    title = f"{summary.experiment}: run {summary.run}"
    for name, text in (("report.md", markdown(title, written)), ("report.html", html(title, written))):
        files.write_text(folder / name, text)
    ratings.update(folder, summary)


def _rows(columns: Columns[T], records: Sequence[T]) -> tuple[tuple[str, ...], ...]:
    """A table with its heads, without columns that say nothing; empty without records."""
    cells = [(head, *(show(record) for record in records)) for head, show in columns]
    kept = [column for column in cells if any(cell != NONE for cell in column[1:])]
    return tuple(zip(*kept, strict=True)) if records else ()


# --- what a report says -----------------------------------------------------------------------------------------------


def sections(summary: Summary, manifest: FinishedManifest, table: Table | None) -> list[Section]:
    """What a report says, the result first; without `table`, which holds predictions, all but the questions themselves."""
    arms, scored = summary.arms, summary.scored
    result = [_main(summary)]
    result += [_pairs(summary, pairs, by) for by in (ACCURACY, LETTER) if (pairs := summary.pairs_by(by))]
    if scored and scored[0].by_tag:
        result.append(_tags(summary, scored))
    result.append(_scores(summary))
    if any(arm.answered for arm in arms):
        result.append(_answers(arms))
    if any(arm.context_quality for arm in arms):
        result.append(_contexts(summary))
    if any(arm.known for arm in arms):
        result.append(_known(summary))
    result.append(_abstention(summary, manifest))
    if any(arm.model not in HEURISTICS for arm in scored):
        result.append(
            Section(
                "Calibration",
                (
                    "How often a choice is right, against the probability that the model gave it among the choices. Error: "
                    "expected calibration error. The area of a mark grows with its questions.",
                ),
                svg=plots.reliability([arm for arm in scored if arm.model not in HEURISTICS]),
                figure_says="Reliability of each arm's confidence",
            )
        )
    result += [_cost(summary), _models(manifest.models), _settled(manifest.frozen), _leaks(summary, manifest.leaks)]
    if scored and table is not None:
        result.append(_disagreements(summary, table))
    result.append(_repeat(summary, manifest))
    return result


def _main(summary: Summary) -> Section:
    decision, _, grounds = summary.verdict.partition("\n")
    counts, scored = summary.questions, summary.scored
    notes = [grounds] if grounds else []
    notes.append(
        f"{counts.n} test questions, {counts.with_choices} of them with choices: a question is right when the right choice is "
        f"the likeliest by the score {SCORES[summary.primary_score]}. What is scored is about "
        f"{_groups(counts.clusters, counts.effective_clusters)}. A guess is right in {percent(counts.chance)}, always taking the "
        f"longest choice in {percent(counts.longest_choice)}. Intervals are 95%, BCa bootstrap over groups; where all groups "
        "agree, none can be given."
    )
    notes.append(
        f"The test questions have been opened {plural(summary.openings.times, 'time')} here, by "
        f"{plural(summary.openings.configurations, 'frozen configuration')}."
    )
    notes += [f"SKIPPED {arm}: {reason}" for arm, reason in summary.skipped.items()]
    notes += [f"FAILED {arm}: {reason}" for arm, reason in summary.failed.items()]
    if errors := [f"{arm.name} {arm.errors}" for arm in summary.arms if arm.errors]:
        notes.append(f"Questions that did not fit into the model's window and count as wrong: {', '.join(errors)}.")
    columns: Columns[ArmFigures] = [
        ("arm", lambda arm: named(arm) + (" (baseline)" if arm.name == summary.baseline else "")),
        ("model", lambda arm: arm.model + (f" + {arm.adapter}" if arm.adapter else "")),
        ("context", _context),
        (ACCURACY.title, lambda arm: ACCURACY.show(arm.accuracy.value)),
        ("95% interval", lambda arm: ACCURACY.show_interval(arm.accuracy.interval)),
        *((one.title, lambda arm, one=one: one.show(arm.of(one).value)) for one in MEASURES if one is not ACCURACY),
        ("s/question", lambda arm: number(arm.seconds_per_question)),
        ("s/right answer", lambda arm: number(arm.seconds_per_right_answer)),
        ("tokens/question", lambda arm: count(arm.tokens_per_question)),
    ]
    return Section(
        "Result",
        (decision,),
        _rows(columns, summary.arms),
        plots.accuracies(scored, counts.chance) if scored else "",
        "Questions right by each way of answering and each probe, with 95% intervals",
        notes=tuple(notes),
        drawing=intervals([(named(arm), arm.right, arm.accuracy.interval) for arm in scored], counts.chance) if scored else "",
    )


def _groups(clusters: int, effective: float | None) -> str:
    worth = f", worth {effective:.1f} equally large ones" if effective and effective < clusters - 0.05 else ""
    return f"{plural(clusters, 'group')} of documents{worth}"


def _context(arm: ArmFigures) -> str:
    details = [arm.retriever] if arm.retriever and arm.k else []
    details += [f"k={arm.k}"] if arm.k else []
    return arm.context + (f" ({', '.join(details)})" if details else "")


def _pairs(summary: Summary, pairs: Sequence[PairFigures], by: Measure) -> Section:
    others = {(pair.measure, pair.a, pair.b): pair for pair in summary.pairs}
    columns: Columns[PairFigures] = [
        ("pair", lambda pair: f"{pair.b} − {pair.a}" + (" *" if pair.planned else "")),
        ("difference", lambda pair: ACCURACY.show_difference(pair.difference)),
        ("95% interval", lambda pair: span(pair.interval)),
        ("p", lambda pair: p_value(pair.p_value)),
        ("Holm p", lambda pair: p_value(pair.holm_p)),
        ("smallest difference", lambda pair: NONE if pair.detectable is None else f"{pair.detectable * 100:.1f}"),
        ("McNemar p", lambda pair: p_value(pair.mcnemar_p)),
        ("better / worse / same", lambda pair: f"{pair.better} / {pair.worse} / {pair.same}"),
        *(
            (one.title, lambda pair, one=one: _difference(others.get((one.name, pair.a, pair.b)), one))
            for one in PAIRED
            if one not in (ACCURACY, LETTER)
        ),
    ]
    if len(pairs) > MANY_PAIRS:
        pairs = [pair for pair in pairs if pair.holm_p is not None or summary.baseline in (pair.a, pair.b)]
    drawn = [pair for pair in pairs if summary.baseline in (pair.a, pair.b)] if len(pairs) > MANY_PAIRS else pairs
    text = (
        "Difference in questions right, in points. p: signs of whole groups flipped at random. Holm p: corrected for all "
        "contrasts with the baseline, which were planned (*), or for all pairs of ways to answer; pairs with a probe have none. "
        "Smallest difference: what questions of this kind show four times in five, after the correction."
    )
    if len(pairs) < len(summary.pairs_by(by)):
        text += " Other pairs of probes and rules are in summary.json."
    if any(pair.mcnemar_p is not None for pair in pairs):
        text += " McNemar: exact, for independent questions."
    return Section(
        "Every pair, on the same questions"
        if by is ACCURACY
        else "Every pair of those asked for a letter, on the same questions",
        (text, "Other measures with their Holm p; of bits per byte less is better."),
        _rows(columns, pairs),
        plots.forest(drawn or pairs, "difference in questions right, points (filled: Holm p < 0.05)"),
        "Paired differences with 95% intervals",
    )


def _difference(pair: PairFigures | None, measure: Measure) -> str:
    return (
        NONE
        if pair is None
        else f"{measure.show_difference(pair.difference)} (p {p_value(pair.holm_p if pair.holm_p is not None else pair.p_value)})"
    )


def _tags(summary: Summary, arms: Sequence[ArmFigures]) -> Section:
    tags = list(arms[0].by_tag)
    guess = summary.freshness
    columns: Columns[str] = [
        ("tag", lambda tag: tag),
        ("n", lambda tag: str(arms[0].by_tag[tag].n)),
        *((arm.name, lambda tag, arm=arm: _tagged(arm.by_tag[tag])) for arm in arms),
        ("the larger number", lambda tag: percent(guess.larger_number) if tag == UPDATES and guess else NONE),
    ]
    text = [_freshness(summary, arms)] if UPDATES in tags else []
    text.append("Small groups have wide intervals; none of these differences is tested.")
    models = [arm for arm in arms if arm.model not in HEURISTICS]
    svg = plots.by_tag(models, summary.questions.chance) if models and len(tags) <= 12 else ""
    return Section("By kind of question", tuple(text), _rows(columns, tags), svg, "Questions right by tag")


def _freshness(summary: Summary, arms: Sequence[ArmFigures]) -> str:
    fresh = ", ".join(f"{arm.name} {_tagged(arm.by_tag[UPDATES])}" for arm in arms)
    found = summary.freshness
    if found is None:  # a run of before this was counted
        return f"Freshness, the new fact preferred to the old one in the questions tagged {UPDATES}: {fresh}."
    return (
        f"Freshness, the new fact preferred to the old one in {plural(found.n, 'question')} tagged {UPDATES}, about "
        f"{_groups(found.clusters, found.effective_clusters)}: {fresh}. Without a model, taking the larger number is right in "
        f"{percent(found.larger_number)} ({found.with_numbers} have different numbers; for the others a coin is tossed)."
    )


def _tagged(found: TagFigures) -> str:
    return f"{percent(found.choice_accuracy)} {span(found.choice_accuracy_ci)}".strip()


def _scores(summary: Summary) -> Section:
    columns: Columns[ArmFigures] = [
        ("arm", named),
        *((title, lambda arm, score=score: percent(arm.choice_accuracy_by_score.get(score))) for score, title in SCORES.items()),
        ("without flagged questions", lambda arm: percent(arm.choice_accuracy_clean)),
        (f"{BITS.title} 95% interval", lambda arm: BITS.show_interval(arm.of(BITS).interval)),
    ]
    return Section(
        "Does the score matter?",
        (
            "Questions right by three scores of the same log-likelihoods. The primary one is "
            f"{SCORES[summary.primary_score]}. Bits per byte are of the gold answer. The margin is what the wrong choices cost "
            "more: an arm that only learned to expect such texts has fewer bits and no margin.",
        ),
        _rows(columns, summary.arms),
    )


def _answers(arms: Sequence[ArmFigures]) -> Section:
    columns: Columns[ArmFigures] = [
        ("arm", named),
        ("answers", lambda arm: str(arm.answered)),
        (FACTS.title, lambda arm: FACTS.show(arm.of(FACTS).value)),
        ("95% interval", lambda arm: FACTS.show_interval(arm.of(FACTS).interval)),
        (F1.title, lambda arm: F1.show(arm.of(F1).value)),
        ("95% interval", lambda arm: F1.show_interval(arm.of(F1).interval)),
        ("cites", lambda arm: percent(arm.citations.citing if arm.citations else None)),
        ("cited passage holds the answer", lambda arm: percent(arm.citations.precision if arm.citations else None)),
        ("ended by", lambda arm: ", ".join(f"{name or '?'} {times}" for name, times in sorted(arm.finish.items())) or NONE),
    ]
    return Section(
        "Free answers",
        (
            "Greedy answers on a fixed sample of the questions, against the gold answer. Facts held: of the gold answer's "
            "numbers, flags and names, or of its words where it has none of these, the share that the answer has. F1 punishes "
            "whole sentences where the gold answer is two words: compare arms with each other, not with other publications.",
        ),
        _rows(columns, arms),
    )


def _contexts(summary: Summary) -> Section:
    columns: Columns[tuple[str, ContextQuality]] = [
        ("arm", lambda row: row[0]),
        ("gold document in prompt", lambda row: percent(row[1].gold_in_prompt)),
        ("answer in prompt", lambda row: percent(row[1].answer_in_prompt)),
        ("recall", lambda row: number(row[1].recall)),
        ("MRR", lambda row: number(row[1].mrr)),
        ("nDCG", lambda row: number(row[1].ndcg)),
        ("passages left out per question", lambda row: number(row[1].dropped)),
    ]
    text = ["Of the passages that got into the prompt: what the search missed or the window had no room for, no model can read."]
    text += [
        f"{retriever} to depth 10, {found.questions} questions: recall@5 {found.recall_at_5:.3f}, recall@10 "
        f"{found.recall_at_10:.3f}, MRR@10 {found.mrr_at_10:.3f}, nDCG@10 {found.ndcg_at_10:.3f}."
        for retriever, found in summary.retrieval.items()
    ]
    text += [
        f"{gain.arm}: what the search finds gives {percent(gain.share)} {span(gain.interval)} of what the right passage gives, "
        f"in bits per byte of the gold answer ({gain.n} questions)."
        for gain in summary.context_gains
    ]
    rows = [(arm.name, arm.context_quality) for arm in summary.arms if arm.context_quality]
    return Section("What was in the prompt", tuple(text), _rows(columns, rows))


def _known(summary: Summary) -> Section:
    columns: Columns[tuple[str, AgainstBaseline]] = [
        ("arm", lambda row: row[0]),
        ("right of known", lambda row: percent(row[1].accuracy_on_known)),
        ("destroyed", lambda row: f"{row[1].destroyed} of {row[1].known}"),
        ("right of unknown", lambda row: percent(row[1].accuracy_on_unknown)),
        ("gained", lambda row: f"{row[1].gained} of {row[1].unknown}"),
    ]
    return Section(
        "Known and unknown",
        (
            f"Known: what {summary.baseline} had right. Some of that was luck, which any change destroys, and "
            "some of the rest is gained by luck: compare arms with each other.",
        ),
        _rows(columns, [(arm.name, arm.known) for arm in summary.arms if arm.known]),
    )


def _abstention(summary: Summary, manifest: FinishedManifest) -> Section:
    columns: Columns[ArmFigures] = [
        ("arm", named),
        ("area under risk-coverage", lambda arm: number(arm.abstention.risk_coverage_area)),
        ("search refuses unanswerable", lambda arm: percent(arm.abstention.refused_unanswerable_by_search)),
        ("search refuses answerable", lambda arm: percent(arm.abstention.refused_answerable_by_search)),
        ("answer refuses unanswerable", lambda arm: percent(arm.abstention.refused_unanswerable_by_answer)),
        ("answer refuses answerable", lambda arm: percent(arm.abstention.refused_answerable_by_answer)),
    ]
    return Section(
        "Knowing what it does not know",
        (
            f"{summary.questions.unanswerable} questions cannot be answered from the documents. The search refuses "
            f"when its best cosine is under {manifest.frozen.refuse_below}; whether an answer refuses is judged by its "
            "wording. Area under risk-coverage: mean share of errors among the most confident (lower is better; it is the "
            "error rate when confidence says nothing).",
        ),
        _rows(columns, summary.arms),
    )


def _cost(summary: Summary) -> Section:
    arms = summary.arms
    columns: Columns[ArmFigures] = [
        ("arm", named),
        ("parameters", lambda arm: f"{arm.cost.parameters / 1e6:,.1f} M" if arm.cost.parameters else NONE),
        ("weights", lambda arm: size(arm.cost.model_bytes)),
        ("index", lambda arm: size(arm.cost.index_bytes)),
        ("index built in", lambda arm: duration(arm.cost.index_seconds)),
        ("trained in", lambda arm: duration(arm.cost.training_seconds)),
        ("training FLOPs", lambda arm: large(arm.cost.training_flops)),
        ("s/question", lambda arm: number(arm.seconds_per_question)),
        ("s/right answer", lambda arm: number(arm.seconds_per_right_answer)),
        ("FLOPs/question", lambda arm: large(arm.flops_per_question)),
        ("peak memory", lambda arm: size(arm.cost.peak_memory_bytes)),
    ]
    text = [
        f"Seconds per question are of {arms[0].seconds_are_of}, as measured when the question was first asked; those of a right "
        "answer count the wrong ones too. FLOPs are 2 x parameters x tokens. Memory is of the whole process, the index included."
    ]
    right = {arm.name: percent(arm.accuracy.value) for arm in arms}
    text += [
        f"{one.finetuning} ({right[one.finetuning]} right) against {one.retrieval} ({right[one.retrieval]}): training has paid "
        f"for itself after {_after(one.questions_by_seconds)} by time, {_after(one.questions_by_flops)} by operations."
        for one in summary.break_even
    ]
    if any(arm.cost.index_seconds is None for arm in arms):
        text.append(
            "How long the index took is not known, as it was updated by a version that did not add that up: no time of training "
            "is set against it. Building it anew under another name tells."
        )
    chance = summary.questions.chance
    if guessing := [arm.name for arm in summary.scored if can_be_given(arm) and arm.is_a_guess(chance)]:
        text.append(f"Not shown to be better than a guess, so that nothing is paid back: {', '.join(guessing)}.")
    timed = [arm for arm in summary.scored if arm.seconds_per_question]
    return Section(
        "Cost",
        tuple(text),
        _rows(columns, arms),
        plots.quality_and_cost(timed) if timed else "",
        "Questions right against seconds per question; the dotted line joins the ways that no other beats in both",
    )


def _after(questions: int | None) -> str:
    return "no number of questions" if questions is None else f"{questions:,} questions"


def _settled(frozen: Frozen) -> Section:
    text = (
        f"Frozen before the test questions were opened: k={frozen.k}, retriever {frozen.retriever}, primary score "
        f"{SCORES[frozen.score]}, by {plural(frozen.tried_questions, 'dev question')}; the search refuses below "
        f"{frozen.refuse_below}, by {plural(frozen.dev_questions, 'dev question')}, each of which costs one search."
    )
    columns: Columns[Tried] = [
        ("arm", lambda row: row.arm),
        ("retriever", lambda row: row.retriever or NONE),
        ("k", lambda row: str(row.k or NONE)),
        *((title, lambda row, score=score: percent(row.scores.get(score))) for score, title in SCORES.items()),
    ]
    return Section("Settled on dev questions", (text,), _rows(columns, frozen.dev))


def _leaks(summary: Summary, found: LeakReport) -> Section:
    text = (
        f"{len(found.flagged)} of {summary.questions.n} test questions share a run of {found.run_of_words} "
        "words with a document or with training text; accuracies without them are in the table of scores. "
        f"{found.answers_in_documents} of {found.answers} answers stand word for word in their gold document, which "
        f"is the point. {plural(len(found.duplicated_gold_documents), 'gold document')} with near duplicates."
    )
    columns: Columns[tuple[str, Sequence[str]]] = [
        ("flagged question", lambda row: row[0]),
        ("why", lambda row: "; ".join(row[1][:2])),
    ]
    return Section("Leaks", (text,), _rows(columns, list(found.flagged.items())[:10]))


def _disagreements(summary: Summary, table: Table) -> Section:
    right = {arm.name: found for arm in table.arms if (found := table.values(arm.name, ACCURACY))}
    names = list(right)
    split = [
        question for question in table.with_choices() if 0 < sum(right[name][question.id] > 0.5 for name in names) < len(names)
    ]
    base = summary.baseline if summary.baseline in right else names[0]
    real = [arm for arm in summary.arms if arm.name in right and arm.name != base and can_be_given(arm)]
    rival = max(real, key=lambda arm: arm.right).name if real else base
    lost = [question for question in split if right[base][question.id] > right[rival][question.id]]
    won = [question for question in split if right[rival][question.id] > right[base][question.id]]
    half = DISAGREEMENTS // 2
    # Both directions, so that nobody is shown wins alone.
    shown = won[: max(half, DISAGREEMENTS - len(lost))] + lost[: max(half, DISAGREEMENTS - len(won))]
    shown += [question for question in split if question not in shown][: DISAGREEMENTS - len(shown)]
    return Section(
        "Questions on which arms disagree",
        (
            f"{len(split)} questions are answered rightly by some arms only. Here are {len(shown)} of them, from both "
            f"directions of {rival} against {base} ({len(won)} gained, {len(lost)} lost).",
        ),
        folded=tuple(_fold(question, table) for question in shown),
    )


def _fold(question: Question, table: Table) -> Fold:
    rows: list[tuple[str, ...]] = [("arm", "chose", "right", "why", "free answer", "passages in the prompt (* holds the answer)")]
    texts = []
    for arm in table.arms:
        prediction = table.rows[arm.name][question.id]
        passages = [
            f"[{passage.rank}] {passage.document_id}{' *' if passage.holds_answer else ''}"
            for passage in prediction.passages
            if passage.in_prompt
        ]
        choice = chosen(prediction, question, table.score) or NONE
        gold = (question.choices or ())[question.answer_index or 0]
        right = choice == gold
        why = NONE if right else why_wrong(prediction, arm.model)
        answer = prediction.outcome.answer or NONE
        rows.append((arm.name, choice, "yes" if right else "no", why, answer, ", ".join(passages) or NONE))
        texts.append((f"prompt of {arm.name} ({prediction.prompt_tokens} tokens)", prediction.prompt or prediction.error))
    choices = " | ".join(question.choices or ())
    return Fold(f"{question.question} [{choices}]", tuple(rows), tuple(texts))


def _models(models: Mapping[str, ModelUsed]) -> Section:
    columns: Columns[tuple[str, ModelUsed]] = [
        ("model", lambda row: row[0]),
        ("parameters", lambda row: f"{row[1].parameters / 1e6:,.1f} M"),
        ("bits per byte of held-out documents", lambda row: _held_out(row[1])),
        ("window", lambda row: str(row[1].window)),
        ("precision", lambda row: row[1].dtype),
        ("device", lambda row: row[1].device),
        ("weights SHA-256", lambda row: row[1].weights_sha256[:16]),
    ]
    text = ["Every model that arms use, by the hash of its weights and adapter."]
    if scored := [model.validation for model in models.values() if model.validation]:
        text.append(
            f"Bits per byte of {plural(scored[0].documents, 'document')} that training holds out by its defaults: how well a "
            "model expects such text, whatever its tokenizer. Lower is better."
        )
    return Section("Models", tuple(text), _rows(columns, list(models.items())))


def _held_out(model: ModelUsed) -> str:
    found = number(model.validation.bits_per_byte if model.validation else None)
    return found + (" (it may have been trained on them)" if model.trained_on_validation else "")


def reproduce(summary: Summary, manifest: FinishedManifest) -> str:
    """The command that runs this experiment again under another name, from the home that holds the run."""
    options = [f"--limit {manifest.identity.limit}"] if manifest.identity.limit else []
    options += [f"--questions {shlex.quote(entry.path)}" for entry in manifest.identity.questions]
    options += ["--skip-missing"] if summary.skipped else []
    # Training texts are named relative to the file that was read; the copy stands elsewhere.
    file = manifest.experiment_file if manifest.training_text else f"eval/results/{summary.run}/experiment.toml"
    return " ".join(["rag-vs-ft eval", shlex.quote(file), f"--run {summary.run}-again", *options])


def _repeat(summary: Summary, manifest: FinishedManifest) -> Section:
    machine, index, predictions = manifest.machine, manifest.index, manifest.predictions
    accelerators = f", {', '.join(machine.accelerators)}" if machine.accelerators else ""
    embedder = f" by {index.embedder} in {index.precision}" if index.embedder else ""
    text = (
        reproduce(summary, manifest),
        "in the working folder of this run. Predictions that are there are used again; with --home and another folder (with "
        "corpus and index of these names) all are computed anew.",
        f"Machine: {machine.processor}, {machine.threads} threads, {size(machine.memory_bytes)}, {machine.system}{accelerators}. "
        f"Seed {manifest.seed}. Corpus {manifest.corpus.name} {manifest.corpus.sha256[:12]}, index generation {index.generation}"
        f"{embedder}. Commit {manifest.git_commit or 'none'}. "
        + ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
        + ".",
        f"{predictions.computed} predictions computed, {predictions.reused} reused from equal prompts to equal weights. "
        "Everything else is in manifest.json, every prompt and score in predictions.jsonl.",
    )
    return Section(ratings.STANDS_BEFORE, text)
