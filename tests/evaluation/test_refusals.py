from pathlib import Path

import pytest

from rag_vs_ft.evaluation.refusals import is_refusal
from rag_vs_ft.language import language

LINES = Path(__file__).with_name("refusals.txt").read_text(encoding="utf-8").splitlines()
JUDGED = [(line[2:], line[0] == "+") for line in LINES if line[:2] in ("+ ", "- ")]


def test_agreement_with_the_judge_is_as_published():
    """180 answers, half of them refusals: Cohen's kappa 0.97; the pattern that it replaced had 0.12."""
    said = [is_refusal(answer) for answer, _ in JUDGED]
    judged = [refuses for _, refuses in JUDGED]
    assert len(JUDGED) == 180 and sum(judged) == 90
    agreed = sum(one == other for one, other in zip(said, judged, strict=True)) / len(judged)
    chance = sum(said) / 180 * 0.5 + (1 - sum(said) / 180) * 0.5
    assert (agreed - chance) / (1 - chance) >= 0.96
    wrong = {answer for (answer, refuses), found in zip(JUDGED, said, strict=True) if refuses != found}
    assert wrong == {
        "30 days; the passages say nothing of a longer period.",
        "I would need more information.",
        "The answer isn't there.",
    }


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("", True),
        (" \n", True),
        ("I don\u2019t know.", True),
        ("The text field is not required.", False),
        ("The information is stored for 30 days, not 90.", False),
        ("Azure has three tiers. The passages do not say which is best.", True),
        ("I am not sure, but it is 90 days by default.", False),
        ("If the passage does not mention a tier, the basic one is used.", False),
    ],
)
def test_refusals_are_known_by_who_does_not_tell(answer, refuses):
    assert is_refusal(answer) is refuses


def test_a_long_answer_takes_no_longer_than_reading_it():
    assert is_refusal("the passages " * 20_000) is False


IN_OTHER_LANGUAGES = {
    part[:2]: part[4:].splitlines()
    for part in Path(__file__).with_name("refusals_in_other_languages.txt").read_text(encoding="utf-8").split("\n[")[1:]
}


@pytest.mark.parametrize("code", IN_OTHER_LANGUAGES)
def test_refusals_in_other_languages(code: str) -> None:
    assert [line for line in IN_OTHER_LANGUAGES[code] if is_refusal(line[2:]) != line.startswith("+")] == []
    assert is_refusal(language(code).prompt.nothing_relevant)
