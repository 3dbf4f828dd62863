"""A run's figures -> report.md and report.html, both rendered from the same sections."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rag_vs_ft.evaluation import plots, ratings
from rag_vs_ft.evaluation.predictions import Prediction
from rag_vs_ft.evaluation.render import (
    NONE,
    Fold,
    Section,
    count,
    duration,
    html,
    large,
    markdown,
    number,
    p_value,
    percent,
    plural,
    size,
    span,
)
from rag_vs_ft.evaluation.summary import Table, choice_scores
from rag_vs_ft.records import Question

DISAGREEMENTS = 10


def write(folder: Path, summary: Mapping[str, Any], manifest: Mapping[str, Any], table: Table) -> None:
    """Write report.md and report.html of a run into its folder."""
    sections = _sections(summary, manifest, table)
    title = f"{summary['experiment']}: run {summary['run']}"
    for name, text in (("report.md", markdown(title, sections)), ("report.html", html(title, sections))):
        (folder / name).write_text(text, encoding="utf-8")
    ratings.update(folder, summary)


# --- what a report says -----------------------------------------------------------------------------------------------


def _sections(summary: Mapping[str, Any], manifest: Mapping[str, Any], table: Table) -> list[Section]:
    arms, pairs = summary["arms"], [pair for pair in summary["pairs"] if pair["measure"] == "choice_accuracy"]
    scored = [arm for arm in arms if arm["choice_accuracy"] is not None]
    sections = [_main(summary, manifest)]
    if pairs:
        sections.append(_pairs(summary, pairs))
    if scored and scored[0]["by_tag"]:
        sections.append(_tags(summary, scored))
    sections.append(_scores(summary, arms))
    if any(arm["answered"] for arm in arms):
        sections.append(_answers(arms))
    if any(arm["context_quality"] for arm in arms):
        sections.append(_contexts(summary, arms))
    if any(arm["known"] for arm in arms):
        sections.append(_known(summary, arms))
    sections.append(_abstention(summary, arms, manifest))
    if scored:
        sections.append(
            Section(
                "Calibration",
                (
                    "How often a choice is right, against the probability that the model gave it among the choices. Error: "
                    "expected calibration error. The area of a mark grows with its questions.",
                ),
                svg=plots.reliability(scored),
                figure_says="Reliability of each arm's confidence",
            )
        )
    sections += [_cost(summary, arms, scored), _models(manifest), _settled(manifest), _leaks(summary, arms, manifest)]
    if scored:
        sections.append(_disagreements(summary, table))
    sections.append(_repeat(summary, manifest))
    return sections


def _main(summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> Section:
    counts, found = summary["questions"], summary["detectable_difference"]
    text = [summary["verdict"]]
    about = (
        f"{counts['n']} test questions in {counts['clusters']} groups by document, {counts['with_choices']} of them with choices"
    )
    if counts["chance"] is not None:
        about += (
            f" (a guess is right in {counts['chance']:.1%}, always taking the longest choice in {counts['longest_choice']:.1%})"
        )
    text.append(
        f"{about}. Primary score: {summary['primary_score']}. Intervals are 95%, BCa bootstrap over groups; there is none "
        "where all groups are alike."
    )
    if found:
        text.append(
            f"Stated before the test questions were opened: with {counts['with_choices']} questions a planned pair is told "
            f"apart with 80% power from {found['one_pair'] * 100:.1f} points on, and from {found['all_pairs'] * 100:.1f} "
            f"points on after correction for all {found['pairs']} pairs, if a third of the questions are answered rightly "
            "by just one of the two and questions are independent. A p-value over 0.05 does not exclude smaller "
            "differences."
        )
    openings = summary["openings"]
    text.append(
        f"The test questions have been opened {plural(openings['times'], 'time')} here, by "
        f"{plural(openings['configurations'], 'frozen configuration')}."
    )
    for arm, reason in summary["skipped"].items():
        text.append(f"SKIPPED {arm}: {reason}")
    for arm, reason in summary["failed"].items():
        text.append(f"FAILED {arm}: {reason}")
    rows: list[tuple[str, ...]] = [
        (
            "arm",
            "model",
            "context",
            "right",
            "95% interval",
            "bits per byte",
            "F1",
            "exact",
            "ROUGE-L",
            "s/question",
            "tokens/question",
        )
    ]
    for arm in summary["arms"]:
        rows.append(
            (
                arm["arm"] + (" (baseline)" if arm["arm"] == summary["baseline"] else ""),
                arm["model"] + (f" + {arm['adapter']}" if arm["adapter"] else ""),
                _context(arm),
                percent(arm["choice_accuracy"]),
                span(arm["choice_accuracy_ci"]),
                number(arm["bits_per_byte"]),
                number(arm["f1"]),
                number(arm["em"]),
                number(arm["rouge_l"]),
                number(arm["seconds_per_question"]),
                count(arm["tokens_per_question"]),
            )
        )
    rows = _without_empty(rows)
    if errors := [f"{arm['arm']} {arm['errors']}" for arm in summary["arms"] if arm["errors"]]:
        text.append(f"Questions that did not fit into the model's window and count as wrong: {', '.join(errors)}.")
    return Section("Result", tuple(text), tuple(rows))


def _without_empty(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The table without columns that say nothing."""
    kept = [at for at in range(len(rows[0])) if any(row[at] != NONE for row in rows[1:])]
    return [tuple(row[at] for at in kept) for row in rows]


def _context(arm: Mapping[str, Any]) -> str:
    details = [arm["retriever"]] if arm["retriever"] and arm["context"] != "oracle" else []
    details += [f"k={arm['k']}"] if arm["k"] else []
    return arm["context"] + (f" ({', '.join(details)})" if details else "")


def _pairs(summary: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> Section:
    rows: list[tuple[str, ...]] = [
        ("pair", "difference", "95% interval", "p", "Holm p", "McNemar p", "better / worse / same", "bits per byte", "F1")
    ]
    others = {(pair["measure"], pair["a"], pair["b"]): pair for pair in summary["pairs"]}
    for pair in pairs:
        rows.append(
            (
                f"{pair['b']} − {pair['a']}",
                f"{pair['difference'] * 100:+.1f}",
                span(pair["interval"]),
                p_value(pair["p_value"]),
                p_value(pair["holm_p"]),
                p_value(pair["mcnemar_p"]),
                f"{pair['better']} / {pair['worse']} / {pair['same']}",
                *(_difference(others.get((measure, pair["a"], pair["b"]))) for measure in ("bits_per_byte", "f1")),
            )
        )
    rows = _without_empty(rows)
    shown = pairs
    if len(pairs) > 12 and summary["baseline"]:
        shown = [pair for pair in pairs if summary["baseline"] in (pair["a"], pair["b"])]
    return Section(
        "Every pair, on the same questions",
        (
            "Difference in questions right, in points. p: signs of whole documents flipped at random; Holm: corrected for "
            "all pairs; McNemar: exact, but takes questions for independent. Bits per byte (lower is better) and F1 with "
            "their Holm p.",
        ),
        tuple(rows),
        plots.forest(shown, "difference in questions right, points (filled: Holm p < 0.05)"),
        "Paired differences with 95% intervals",
    )


def _tags(summary: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> Section:
    tags = list(arms[0]["by_tag"])
    rows: list[tuple[str, ...]] = [("tag", "n", *(arm["arm"] for arm in arms))]
    for tag in tags:
        found = [arm["by_tag"][tag] for arm in arms]
        cells = [f"{percent(one['choice_accuracy'])} {span(one['choice_accuracy_ci'])}".strip() for one in found]
        rows.append((tag, str(found[0]["n"]), *cells))
    text = ["Small groups have wide intervals; none of these differences is tested."]
    if "updates" in tags:
        fresh = ", ".join(f"{arm['arm']} {percent(arm['by_tag']['updates']['choice_accuracy'])}" for arm in arms)
        text.insert(0, f"Freshness, the new fact preferred to the old one in the questions tagged updates: {fresh}.")
    svg = plots.by_tag(arms, summary["questions"]["chance"]) if len(tags) <= 12 else ""
    return Section("By kind of question", tuple(text), tuple(rows), svg, "Questions right by tag")


def _scores(summary: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> Section:
    rows: list[tuple[str, ...]] = [("arm", "sum", "per byte", "PMI", "without flagged questions", "bits per byte 95% interval")]
    for arm in arms:
        by_score = arm["choice_accuracy_by_score"]
        cells = [percent(by_score[score]) for score in ("sum", "per_byte", "pmi")]
        rows.append((arm["arm"], *cells, percent(arm["choice_accuracy_clean"]), span(arm["bits_per_byte_ci"], scale=1, digits=3)))
    return Section(
        "Does the score matter?",
        (
            f"Questions right by three scores of the same log-likelihoods; the primary one is {summary['primary_score']}. "
            "Bits per byte are of the gold answer.",
        ),
        tuple(rows),
    )


def _answers(arms: Sequence[Mapping[str, Any]]) -> Section:
    rows: list[tuple[str, ...]] = [
        ("arm", "answers", "F1", "95% interval", "cites", "cited passage holds the answer", "ended by")
    ]
    for arm in arms:
        cited = arm["citations"] or {}
        ends = ", ".join(f"{name or '?'} {count}" for name, count in sorted(arm["finish"].items()))
        rows.append(
            (
                arm["arm"],
                str(arm["answered"]),
                number(arm["f1"]),
                span(arm["f1_ci"], scale=1, digits=3),
                percent(cited.get("citing")),
                percent(cited.get("precision")),
                ends or NONE,
            )
        )
    return Section(
        "Free answers",
        (
            "Greedy answers on a fixed sample of the questions, against the gold answer. F1 punishes whole sentences where the "
            "gold answer is two words: compare arms with each other, not with other publications.",
        ),
        tuple(rows),
    )


def _contexts(summary: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> Section:
    rows: list[tuple[str, ...]] = [
        ("arm", "gold document in prompt", "answer in prompt", "recall", "MRR", "nDCG", "passages left out per question")
    ]
    for arm in arms:
        if found := arm["context_quality"]:
            keys = ("gold_in_prompt", "answer_in_prompt", "recall", "mrr", "ndcg")
            rows.append(
                (
                    arm["arm"],
                    *(percent(found[key]) for key in keys[:2]),
                    *(number(found[key]) for key in keys[2:]),
                    number(found["dropped"]),
                )
            )
    text = ["Of the passages that got into the prompt: what the search missed or the window had no room for, no model can read."]
    for retriever, found in summary["retrieval"].items():
        text.append(
            f"{retriever} to depth 10, {found['questions']} questions: recall@5 {found['recall_at_5']:.3f}, recall@10 "
            f"{found['recall_at_10']:.3f}, MRR@10 {found['mrr_at_10']:.3f}, nDCG@10 {found['ndcg_at_10']:.3f}."
        )
    return Section("What was in the prompt", tuple(text), tuple(rows) if len(rows) > 1 else ())


def _known(summary: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> Section:
    rows: list[tuple[str, ...]] = [("arm", "right of known", "destroyed", "right of unknown", "gained")]
    for arm in arms:
        if found := arm["known"]:
            rows.append(
                (
                    arm["arm"],
                    percent(found["accuracy_on_known"]),
                    f"{found['destroyed']} of {found['known']}",
                    percent(found["accuracy_on_unknown"]),
                    f"{found['gained']} of {found['unknown']}",
                )
            )
    return Section(
        "Known and unknown",
        (
            f"Known: what {summary['baseline']} had right. Some of these were lucky guesses, which any change destroys, and "
            "some of the others are gained by luck: compare arms with each other.",
        ),
        tuple(rows),
    )


def _abstention(summary: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any]) -> Section:
    keys = [f"refused_{kind}_by_{way}" for way in ("search", "answer") for kind in ("unanswerable", "answerable")]
    rows: list[tuple[str, ...]] = [
        (
            "arm",
            "area under risk-coverage",
            "search refuses unanswerable",
            "search refuses answerable",
            "answer refuses unanswerable",
            "answer refuses answerable",
        )
    ]
    for arm in arms:
        found = arm["abstention"]
        rows.append((arm["arm"], number(found["risk_coverage_area"]), *(percent(found[key]) for key in keys)))
    return Section(
        "Knowing what it does not know",
        (
            f"{summary['questions']['unanswerable']} questions cannot be answered from the documents. The search refuses "
            f"when its best cosine is under {manifest['frozen']['refuse_below']}; whether an answer refuses is told by its "
            "wording. Area under risk-coverage: mean share of errors among the most confident (lower is better; it is the "
            "error rate when confidence says nothing).",
        ),
        tuple(_without_empty(rows)),
    )


def _cost(summary: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]) -> Section:
    rows: list[tuple[str, ...]] = [
        (
            "arm",
            "parameters",
            "weights",
            "index",
            "index built in",
            "trained in",
            "training FLOPs",
            "s/question",
            "FLOPs/question",
            "peak memory",
        )
    ]
    for arm in arms:
        cost = arm["cost"]
        rows.append(
            (
                arm["arm"],
                f"{cost['parameters'] / 1e6:,.1f} M",
                size(cost["model_bytes"]),
                size(cost["index_bytes"]),
                duration(cost["index_seconds"]),
                duration(cost["training_seconds"]),
                large(cost["training_flops"]),
                number(arm["seconds_per_question"]),
                large(arm["flops_per_question"]),
                size(arm["peak_memory_bytes"]),
            )
        )
    text = [
        f"Seconds per question are of {arms[0]['seconds_are_of']}, as measured when the question was first asked; FLOPs are "
        "2 x parameters x tokens. Memory is of the whole process, the index included."
    ]
    right = {arm["arm"]: percent(arm["choice_accuracy"]) for arm in arms}
    for one in summary["break_even"]:
        text.append(
            f"{one['finetuning']} ({right[one['finetuning']]} right) against {one['retrieval']} ({right[one['retrieval']]}): "
            f"training has paid for itself after {_break(one['questions_by_seconds'])} by time, "
            f"{_break(one['questions_by_flops'])} by operations."
        )
    timed = [arm for arm in scored if arm["seconds_per_question"]]
    return Section("Cost", tuple(text), tuple(rows), plots.quality_and_cost(timed) if timed else "", "Quality against time")


def _break(questions: int | None) -> str:
    return "no number of questions" if questions is None else f"{questions:,} questions"


def _settled(manifest: Mapping[str, Any]) -> Section:
    frozen = manifest["frozen"]
    text = (
        f"Frozen before the test questions were opened: k={frozen['k']}, retriever {frozen['retriever']}, primary score "
        f"{frozen['score']}, by {plural(frozen['tried_questions'], 'dev question')}; the search refuses below "
        f"{frozen['refuse_below']}, by {plural(frozen['dev_questions'], 'dev question')}, which cost no more than a search each."
    )
    rows: list[tuple[str, ...]] = []
    if frozen["dev"]:
        scores = [key for key in frozen["dev"][0] if key not in ("arm", "retriever", "k")]
        rows = [("arm", "retriever", "k", *scores)]
        rows += [
            (row["arm"], row["retriever"] or NONE, str(row["k"] or NONE), *(percent(row[score]) for score in scores))
            for row in frozen["dev"]
        ]
    return Section("Settled on dev questions", (text,), tuple(rows))


def _leaks(summary: Mapping[str, Any], arms: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any]) -> Section:
    found = manifest["leaks"]
    text = [
        f"{len(found['flagged'])} of {summary['questions']['n']} test questions share a run of {found['run_of_words']} "
        "words with a document or with training text; accuracies without them are in the table of scores. "
        f"{found['answers_in_documents']} of {found['answers']} answers stand word for word in their gold document, which "
        f"is the point. {plural(len(found['duplicated_gold_documents']), 'gold document')} with near duplicates."
    ]
    rows: list[tuple[str, ...]] = [("flagged question", "why")]
    rows += [(name, "; ".join(reasons[:2])) for name, reasons in list(found["flagged"].items())[:10]]
    return Section("Leaks", tuple(text), tuple(rows) if len(rows) > 1 else ())


def _disagreements(summary: Mapping[str, Any], table: Table) -> Section:
    right = {arm.name: table.values(arm.name, "choice_accuracy") for arm in table.arms}
    names = [arm.name for arm in table.arms]
    split = [
        question for question in table.with_choices() if 0 < sum(right[name][question.id] > 0.5 for name in names) < len(names)
    ]
    base = summary["baseline"] or names[0]
    real = [arm for arm in summary["arms"] if arm["arm"] != base and arm["context"] in ("none", "retrieved")]
    rival = max(real, key=lambda arm: arm["choice_accuracy"])["arm"] if real else base
    lost = [question for question in split if right[base][question.id] > right[rival][question.id]]
    won = [question for question in split if right[rival][question.id] > right[base][question.id]]
    half = DISAGREEMENTS // 2
    # Both directions, so that nobody is shown wins alone.
    chosen = won[: max(half, DISAGREEMENTS - len(lost))] + lost[: max(half, DISAGREEMENTS - len(won))]
    chosen += [question for question in split if question not in chosen][: DISAGREEMENTS - len(chosen)]
    return Section(
        "Questions on which arms disagree",
        (
            f"{len(split)} questions are answered rightly by some arms only. Here are {len(chosen)} of them, from both "
            f"directions of {rival} against {base} ({len(won)} gained, {len(lost)} lost).",
        ),
        folded=tuple(_fold(question, table) for question in chosen),
    )


def _fold(question: Question, table: Table) -> Fold:
    rows: list[tuple[str, ...]] = [("arm", "chose", "right", "free answer", "passages in the prompt (* holds the answer)")]
    texts = []
    for arm in table.arms:
        prediction = table.rows[arm.name][question.id]
        passages = [
            f"[{passage.rank}] {passage.document_id}{' *' if passage.holds_answer else ''}"
            for passage in prediction.passages
            if passage.in_prompt
        ]
        choice = _chosen(prediction, question, table)
        gold = (question.choices or ())[question.answer_index or 0]
        rows.append(
            (arm.name, choice, "yes" if choice == gold else "no", prediction.outcome.answer or NONE, ", ".join(passages) or NONE)
        )
        texts.append((f"prompt of {arm.name} ({prediction.prompt_tokens} tokens)", prediction.prompt or prediction.error))
    choices = " | ".join(question.choices or ())
    return Fold(f"{question.question} [{choices}]", tuple(rows), tuple(texts))


def _chosen(prediction: Prediction, question: Question, table: Table) -> str:
    scores = choice_scores(prediction, question, table.score)
    return NONE if scores is None or question.choices is None else question.choices[scores.index(max(scores))]


def _models(manifest: Mapping[str, Any]) -> Section:
    rows: list[tuple[str, ...]] = [
        ("model", "parameters", "bits per byte of held-out documents", "window", "precision", "device", "weights SHA-256")
    ]
    text = ["Every model that arms use, by the hash of its weights and adapter."]
    for name, model in manifest["models"].items():
        found = model["validation"]
        held = number(found["bits_per_byte"]) if found else NONE
        held += " (it may have been trained on them)" if model["trained_on_validation"] else ""
        size_ = f"{model['parameters'] / 1e6:,.1f} M"
        rows.append((name, size_, held, str(model["window"]), model["dtype"], model["device"], model["weights_sha256"][:16]))
    if scored := [model["validation"] for model in manifest["models"].values() if model["validation"]]:
        text.append(
            f"Bits per byte of {plural(scored[0]['documents'], 'document')} that training holds out by its defaults: how well a "
            "model expects such text, whatever its tokenizer. Lower is better."
        )
    return Section("Models", tuple(text), tuple(_without_empty(rows)))


def reproduce(summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """The command that runs this experiment again under another name, from the home that holds the run."""
    options = [f"--limit {manifest['limit']}"] if manifest["limit"] else []
    options += [f"--questions {shlex.quote(entry['path'])}" for entry in manifest["questions"]]
    options += ["--skip-missing"] if summary["skipped"] else []
    # Training texts are named relative to the file that was read; the copy stands elsewhere.
    file = manifest["experiment_file"] if manifest["training_text"] else f"eval/results/{summary['run']}/experiment.toml"
    return " ".join(["rag-vs-ft eval", shlex.quote(file), f"--run {summary['run']}-again", *options])


def _repeat(summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> Section:
    machine, versions = manifest["machine"], manifest["versions"]
    text = (
        reproduce(summary, manifest),
        "in the working folder of this run. Predictions that are there are taken over; with --home and another folder (with "
        "corpus and index of these names) all are computed anew.",
        f"Machine: {machine['processor']}, {machine['threads']} threads, {size(machine['memory_bytes'])}, {machine['system']}"
        + (f", {', '.join(machine['accelerators'])}" if machine["accelerators"] else "")
        + f". Seed {manifest['seed']}. Corpus {manifest['corpus']['name']} {manifest['corpus']['sha256'][:12]}, index generation "
        f"{manifest['index']['generation']}. Commit {manifest['git_commit'] or 'none'}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        f"{manifest['predictions']['computed']} predictions computed, {manifest['predictions']['reused']} taken over from equal "
        "prompts to equal weights. Everything else is in manifest.json, every prompt and score in predictions.jsonl.",
    )
    return Section(ratings.STANDS_BEFORE, text)


def _difference(pair: Mapping[str, Any] | None) -> str:
    return NONE if pair is None else f"{pair['difference']:+.3f} (p {p_value(pair['holm_p'])})"
