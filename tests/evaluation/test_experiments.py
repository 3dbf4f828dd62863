from pathlib import Path

import pytest

from rag_vs_ft.errors import UserError
from rag_vs_ft.evaluation.experiments import load_experiment, question_paths
from rag_vs_ft.evaluation.harness import DEMO
from rag_vs_ft.evaluation.questions import sample_questions_path

SHIPPED = sorted((Path(__file__).parents[2] / "eval" / "experiments").glob("*.toml"))
GOOD = """
name = "good"
corpus = "c"
index = "c"
questions = ["sample", "mine.jsonl"]
baseline = "a"
[[arms]]
name = "a"
model = "m"
context = "none"
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", [*SHIPPED, DEMO], ids=lambda path: path.stem)
def test_what_comes_with_the_project_is_sound(path):
    experiment, _ = load_experiment(path)
    assert experiment.name == path.stem
    for arm in experiment.arms:  # a model that has to be trained comes with the command
        if arm.model in experiment.train:
            assert f"--run {arm.model}" in experiment.train[arm.model]


def test_the_shipped_set_is_whole():
    assert {"azure", "gpt2", "openllama", "quick"} <= {path.stem for path in SHIPPED}


def test_a_good_file_is_read_with_defaults(tmp_path):
    path = write(tmp_path / "e.toml", GOOD)
    experiment, text = load_experiment(path)
    assert text == GOOD
    assert experiment.choose.k == (5,) and not experiment.choose.open
    assert question_paths(experiment, path) == [sample_questions_path(), tmp_path / "mine.jsonl"]


def test_all_faults_are_named_at_once(tmp_path):
    path = write(
        tmp_path / "e.toml",
        """
name = "bad name"
corpus = 3
questions = []
baseline = "nobody"
colour = "red"
[choose]
k = [0, 3]
score = ["magic"]
[answers]
max_new_tokens = 0
[[arms]]
name = "a"
model = "m"
context = "everything"
[[arms]]
name = "a"
context = "none"
model = "m"
k = 3
retriever = "hybrid"
""",
    )
    with pytest.raises(UserError) as error:
        load_experiment(path)
    message = error.value.message
    for expected in (
        "name: 'bad name'",
        "corpus: 3",
        "index: missing",
        "questions: ()",
        "baseline: 'nobody' is not an arm; there are: a",
        "colour: there is no such key",
        "choose.k: [0, 3]",
        "choose.score.1: 'magic'",
        "answers.max_new_tokens: 0",
        "arms.1.context: 'everything'",
        "2 arms are named 'a'",
        "k has no meaning with context 'none'",
        "retriever has no meaning with context 'none'",
    ):
        assert expected in message, expected
    assert error.value.exit_code == 2


def test_arms_that_are_all_faulty_are_not_said_to_be_missing(tmp_path):
    path = tmp_path / "all.toml"
    path.write_text(
        'name = "x"\ncorpus = "c"\nindex = "i"\nquestions = ["q"]\nbaseline = "a"\n'
        '[[arms]]\nname = "a"\nmodel = "m"\ncontext = "bad"\n',
        encoding="utf-8",
    )
    with pytest.raises(UserError, match=r"1 fault\n  arms\.1\.context: 'bad'"):
        load_experiment(path)


def test_equal_arms_are_a_fault(tmp_path):
    twice = GOOD + '[[arms]]\nname = "b"\nmodel = "m"\ncontext = "none"\n'
    with pytest.raises(UserError, match="the same but for their names"):
        load_experiment(write(tmp_path / "e.toml", twice))


@pytest.mark.parametrize("arms", ["arms = 3\n", 'arms = ["x"]\n', "arms = []\n"])
def test_arms_of_another_shape_are_a_fault_and_no_traceback(tmp_path, arms):
    with pytest.raises(UserError, match="arms"):
        load_experiment(write(tmp_path / "e.toml", arms + GOOD.partition("[[arms]]")[0]))


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "{a=" * 100_000, f"[{'.'.join('a' * 3_000)}]\nb = 1\n"])
def test_what_is_nested_too_deep_is_named(tmp_path, text):
    with pytest.raises(UserError, match=r"e\.toml is nested too deep"):
        load_experiment(write(tmp_path / "e.toml", text))


def test_a_long_wrong_value_is_shown_in_part(tmp_path):
    with pytest.raises(UserError) as error:
        load_experiment(write(tmp_path / "e.toml", f"baseline = {[1] * 10_000}\n{GOOD}"))
    assert len(error.value.message) < 2_000


def test_what_is_no_toml_is_named(tmp_path):
    with pytest.raises(UserError, match=r"e\.toml is not TOML: .*line 1"):
        load_experiment(write(tmp_path / "e.toml", "name = = 3"))
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not TOML"):
        load_experiment(tmp_path / "b.toml")
    with pytest.raises(UserError, match="cannot read"):
        load_experiment(tmp_path / "nothing.toml")
