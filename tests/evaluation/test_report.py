import json
import re
import shlex
from html.parser import HTMLParser

import pytest
from manifests import MEASURED
from typer.testing import CliRunner

from rag_vs_ft import files, settings
from rag_vs_ft.cli import app
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.evaluation import plots
from rag_vs_ft.evaluation.compare import compare_all, compare_runs, read_report, require_no_regression
from rag_vs_ft.evaluation.figures import Openings, PairFigures, QuestionCounts, Summary
from rag_vs_ft.evaluation.harness import run_experiment
from rag_vs_ft.evaluation.render import Fold, Section, duration, html, intervals, markdown, percent, size, span
from rag_vs_ft.feedback import database_path, store_rating

NASTY = '<script>alert("x")</script> & | pipe'


class Checked(HTMLParser):
    """Counts tags, notes what would be fetched, and that tags are closed in order."""

    VOID = frozenset({"meta", "br", "link", "img", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.fetched = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.fetched += [value for key, value in attrs if key in ("src", "href", "xlink:href") and not value.startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def parsed(text):
    checked = Checked()
    checked.feed(text)
    assert checked.open == []
    return checked


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """The results of a run whose questions hold markup."""
    root = tmp_path_factory.mktemp("report")
    for part in ("corpora", "indexes"):
        (root / part).symlink_to(world / "home" / part, target_is_directory=True)
    records = [json.loads(line) for line in (world / "questions.jsonl").read_text().splitlines()]
    for record in records:
        record["question"] += " " + NASTY
    questions = root / "q.jsonl"
    questions.write_text("".join(json.dumps(record) + "\n" for record in records))
    return run_experiment(world / "experiment.toml", home=settings.home(root), questions=[questions]).folder


def test_the_page_is_whole_and_fetches_nothing(folder):
    text = (folder / "report.html").read_text()
    page = parsed(text)
    assert page.fetched == []
    policy = re.search(r"""<meta http-equiv="Content-Security-Policy" content="([^"]*)">""", text)
    assert policy and policy[1].startswith("default-src 'none'; ") and "script" not in policy[1]
    assert "script" not in page.seen and "link" not in page.seen
    assert not re.search(r"@import|url\((?!#)", text)
    assert page.seen.count("svg") == 5


def test_a_report_opens_with_the_verdict_then_a_picture_then_the_table(folder):
    text, summary = (folder / "report.html").read_text(), json.loads((folder / "summary.json").read_text())
    places = [
        text.index(mark) for mark in ('<p class="verdict">', "<svg", "<table", "Probes, which no user can be given: oracle")
    ]
    assert places == sorted(places)
    decision = summary["verdict"].splitlines()[0]
    assert "a guess" in decision and f"of {summary['questions']['with_choices']} questions" in decision
    plain = (folder / "report.md").read_text()
    drawn = [line for line in plain.splitlines() if line.startswith("    ") and "o" in line]
    assert plain.index(drawn[0]) < plain.index("| arm |") and any(line.startswith("    oracle (probe)  ") for line in drawn)


def test_pictures_have_the_colour_of_the_page(folder):
    text = (folder / "report.html").read_text()
    assert "currentColor" in text and "#010203" not in text and "prefers-color-scheme: dark" in text
    svg = text[text.index("<svg") : text.index("</svg>")]
    assert "currentColor" not in plots.as_image(svg, "#ffffff") and "#ffffff" in plots.as_image(svg, "#ffffff")


def test_every_section_is_there(folder):
    text = (folder / "report.html").read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles[0] == "Result" and titles[-1] == "How to repeat this"
    for title in (
        "Every pair, on the same questions",
        "By kind of question",
        "Known and unknown",
        "Calibration",
        "Cost",
        "Leaks",
    ):
        assert title in titles
    assert re.findall(r"^## (.*)", (folder / "report.md").read_text(), re.MULTILINE) == [
        title.replace("&amp;", "&") for title in titles
    ]


def test_markup_in_questions_is_shown_and_not_obeyed(folder):
    text = (folder / "report.html").read_text()
    assert "<script>" not in text and "&lt;script&gt;" in text
    for line in (folder / "report.md").read_text().splitlines():
        if line.startswith("|"):
            assert "<script>" not in line


def test_disagreements_show_prompts_that_can_be_folded(folder):
    text = (folder / "report.html").read_text()
    shown = text[text.index("Questions on which arms disagree") :]
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 < shown.count("prompt of alone") <= 10
    assert shown.count("prompt of alone") == shown.count("prompt of retrieval") == shown.count("prompt of oracle")
    assert len(summary["arms"]) == 3


def rated(folder):
    """Both reports' sections of blind ratings, as they stand in the files."""
    md = (folder / "report.md").read_text().partition("\n## Blind ratings\n")[2].partition("\n## ")[0]
    page = (folder / "report.html").read_text().partition("<h2>Blind ratings</h2>")[2].partition("<h2>")[0]
    return md, page


def test_the_report_reads_the_blind_ratings_of_its_home_at_that_moment(folder):
    place = settings.Home(folder.parents[2])
    before = (folder / "report.md").read_text()
    assert read_report(folder) == before and rated(folder) == ("", "")
    arms = {arm["arm"]: arm for arm in json.loads((folder / "summary.json").read_text())["arms"]}
    model = arms["alone"]["model"]
    for number, verdict in enumerate(("first", "first", "second", "tie", "both bad")):
        store_rating(place, f"q{number}", (f"{model} + passages", model), ("x", "y"), verdict)
    store_rating(place, "q", (model, NASTY), ("x", "y"), "first")
    said = read_report(folder)
    row = next(line for line in said.splitlines() if line.startswith("| alone | retrieval |"))
    # Wilson (1927) by hand: n=3, one win, z=1.959964.
    assert row == "| alone | retrieval | 1 | 2 | 2 | 1 | 33.3% | [6.1, 79.2] |"
    assert "1 rated pair of arms that are not both in this run" in said and NASTY not in rated(folder)[0]
    assert "<td>retrieval</td><td>1</td><td>2</td>" in rated(folder)[1]
    parsed((folder / "report.html").read_text())
    assert read_report(folder) == said, "the section is replaced and not added again"
    database_path(place).write_bytes(b"no database " * 100)
    assert "The ratings cannot be read" in read_report(folder)
    database_path(place).unlink()
    assert read_report(folder) == before


def test_ratings_are_shown_where_the_report_cannot_be_written(folder, monkeypatch):
    place = settings.Home(folder.parents[2])
    model = json.loads((folder / "summary.json").read_text())["arms"][0]["model"]
    before = (folder / "report.md").read_text()
    store_rating(place, "q", (f"{model} + passages", model), ("x", "y"), "first")

    def full(path, text):
        raise OSError(30, "Read-only file system", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("rag_vs_ft.files.write_text", full)
        assert "## Blind ratings" in read_report(folder)
    assert (folder / "report.md").read_text() == before
    database_path(place).unlink()


def test_a_question_cannot_pass_for_a_section():
    fold = Fold("What?\n## Blind ratings\nno", (("arm",),), (("prompt", "\n## Blind ratings\n"),))
    text = markdown("t", [Section("Disagreements", folded=(fold,))])
    assert "\n## Blind ratings" not in text


def test_a_report_that_is_gone_is_told(folder, tmp_path):
    lone = tmp_path / "run"
    lone.mkdir()
    (lone / "summary.json").write_text((folder / "summary.json").read_text())
    with pytest.raises(UserError, match=r"report\.md"):
        read_report(lone)


def test_the_command_at_the_end_of_a_report_repeats_the_run(folder, monkeypatch):
    root = folder.parents[2]
    monkeypatch.chdir(root)
    monkeypatch.setenv("RAG_VS_FT_HOME", str(root))
    lines = (folder / "report.md").read_text().splitlines()
    (command,) = [line for line in lines if line.startswith("rag-vs-ft eval ")]
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    summaries = [json.loads((folder.with_name(name) / "summary.json").read_text()) for name in ("small", "small-again")]
    for summary in summaries:
        del summary["run"], summary["openings"], summary[files.SEAL]  # the seal covers the name and the times
        for part in (summary, *summary["arms"]):
            for key in MEASURED:
                part.pop(key, None)
    assert summaries[0] == summaries[1]
    manifest = json.loads((folder.with_name("small-again") / "manifest.json").read_text())
    assert manifest["predictions"]["computed"] == 0


def test_markdown_is_escaped_where_it_would_be_obeyed_and_not_elsewhere():
    text = "see rag_vs_ft in [37.2, 53.6], passage [1] a.md, _so_ and *so*, [a](b) and `code`"
    (_, _, paragraph) = markdown("T", [Section("S", (text,))]).split("\n\n")
    assert paragraph.strip() == (r"see rag_vs_ft in [37.2, 53.6], passage [1] a.md, \_so\_ and \*so\*, [a\](b) and \`code\`")


def test_the_same_figures_give_the_same_picture():
    pairs = [
        PairFigures("x", "y", "choice_accuracy", 9, 0.1, (0.0, 0.2), 0.2, None, 3, 2, 4, holm_p=0.2),
        PairFigures("x", "z", "choice_accuracy", 9, -0.1, None, 0.01, None, 2, 3, 4, holm_p=0.01),
    ]
    assert plots.forest(pairs, "points") == plots.forest(pairs, "points")
    assert plots.forest(pairs, "points") != plots.forest(pairs[:1], "points")


def test_a_table_survives_pipes_in_markdown_and_tags_in_html():
    section = Section(
        "T", ("a < b | c",), (("head",), (NASTY,)), folded=(Fold(NASTY, (("h",), ("x|y",)), (("name", "<b>\n# no"),)),)
    )
    text = markdown("Title", [section])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 2 for line in rows)
    parsed(html("Title", [section]))


def test_intervals_are_drawn_to_scale():
    bare, rag, scale = intervals([("bare", 0.3, (0.2, 0.4)), ("rag", 1.0, None)], 0.25).splitlines()
    assert bare == "bare  " + " " * 10 + "|----o----|" + " " * 30 + "   30.0%"
    assert rag.index("o") == len("bare  ") + 50 and rag[len("bare  ") + 12] == ":" and rag.endswith("100.0%")
    assert scale.index("50%") + 2 == len("bare  ") + 26


def test_numbers_are_shown_as_they_are_said():
    assert (percent(0.1234), percent(None)) == ("12.3%", "–")
    assert (span((0.1, 0.25)), span((1.0, 2.0), scale=1, digits=3), span(None)) == ("[10.0, 25.0]", "[1.000, 2.000]", "–")
    assert (duration(0), duration(90), duration(600), duration(9000)) == ("–", "90.0 s", "10 min", "2.5 h")
    assert (size(2_500_000), size(3e9), size(None)) == ("2.5 MB", "3.0 GB", "–")


# --- two runs ---------------------------------------------------------------------------------------------------------


def results(folder, credit, score="pmi"):
    """A results folder with just what a comparison reads: `credit[arm]` is a text of 0 and 1, one question a letter."""
    folder.mkdir()
    counts = QuestionCounts(9, 9, 0, 0, 9, {}, 0.25, 0.3)
    summary = Summary(folder.name, "e", score, None, counts, (), (), (), "none", Openings(1, 1))
    (folder / "summary.json").write_text(json.dumps(summary.to_json()))
    rows = [
        {
            "arm": arm,
            "split": "test",
            "question_id": f"q{number}",
            "scores": {"choice_accuracy": float(value), "cluster": f"d{number}"},
        }
        for arm, values in credit.items()
        for number, value in enumerate(values)
    ]
    rows.append({"arm": "bare", "split": "dev", "question_id": "q0"})
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_regression_is_found_question_by_question(tmp_path):
    a = results(tmp_path / "a", {"bare": "1" * 10 + "0" * 10, "rag": "1" * 20, "gone": "1"})
    b = results(tmp_path / "b", {"bare": "1" * 10 + "0" * 10, "rag": "0" * 12 + "1" * 8})
    found = compare_runs(a, b)
    assert found.only_in_one == ("gone",)
    bare, rag = found.arms
    assert (bare.difference, bare.p_value, bare.regression) == (0, 1.0, False)
    assert rag.difference == pytest.approx(-0.6) and (rag.better, rag.worse, rag.same) == (0, 12, 8)
    assert rag.p_value == pytest.approx(2 / 2**12) and rag.holm_p == pytest.approx(4 / 2**12) and rag.regression
    assert [arm.arm for arm in found.regressions] == ["rag"]
    assert "REGRESSION" in found.table() and "In one run only: gone" in found.table()
    assert found.to_json()["regressions"] == ["rag"]


def test_the_gate_fails_on_a_regression_and_on_nothing_else(tmp_path):
    good = results(tmp_path / "good", {"rag": "1" * 20})
    noisy = results(tmp_path / "noisy", {"rag": "0" * 3 + "1" * 17})
    bad = results(tmp_path / "bad", {"rag": "0" * 20})
    require_no_regression(compare_all([good, noisy]))
    require_no_regression(compare_all([bad, good]))
    with pytest.raises(CheckFailed, match="significantly worse than in good: rag in bad") as error:
        require_no_regression(compare_all([good, noisy, bad]))
    assert (
        error.value.exit_code == 1 and "rag lost 20 questions: q0, q1" in error.value.message and "10 more" in error.value.message
    )


def test_the_verb_prints_both_forms_and_the_gate_needs_two_runs(tmp_path):
    good, bad = results(tmp_path / "good", {"rag": "1" * 20}), results(tmp_path / "bad", {"rag": "0" * 20})

    def said(*words):
        done = CliRunner().invoke(app, ["report", *map(str, words)])
        return done.exit_code, done.output, getattr(done.exception, "message", "")

    assert said(good, bad)[0] == 0 and "REGRESSION" in said(good, bad)[1]
    found = json.loads(said(good, bad, "--json")[1])["comparisons"][0]
    assert (found["before"], found["after"], found["regressions"]) == ("good", "bad", ["rag"])
    assert found["arms"][0]["lost"][:2] == ["q0", "q1"]
    assert "REGRESSION" in said(good, bad, "--gate")[1] and "rag in bad" in said(good, bad, "--gate")[2]
    assert "nothing to be compared with" in said(good, "--gate")[2]
    assert json.loads(said(good, "--json")[1])["primary_score"] == "pmi"


def test_only_questions_that_both_scored_are_compared(tmp_path):
    found = compare_runs(results(tmp_path / "a", {"rag": "1111"}), results(tmp_path / "b", {"rag": "11"}))
    assert found.arms[0].questions == 2


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    a = results(tmp_path / "a", {"rag": "1"})
    with pytest.raises(UserError, match="no arm in common"):
        compare_runs(a, results(tmp_path / "b", {"bare": "1"}))
    with pytest.raises(UserError, match="holds no finished run"):
        compare_runs(a, tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no finished run"):
        read_report(tmp_path / "nothing")


def test_one_run_prints_its_report(folder):
    assert read_report(folder) == (folder / "report.md").read_text()
