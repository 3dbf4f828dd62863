import math
import re
from dataclasses import replace

import pytest
from tiny import make_hits

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import generation
from rag_vs_ft.models.citing import citations
from rag_vs_ft.models.generation import Sampling, answer_question, generate, generate_batch
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.prompting import Prompt, build_prompt, continue_text, encode

QUESTIONS = ("When does the pump stop?", "What now?", "Press the red key twice; wait 30 seconds. Why is the tank full?", "Why?")


def prompts(lm: LanguageModel) -> list[Prompt]:
    return [
        build_prompt(lm, question, make_hits("Open the valve.")[: len(question) % 2], max_new_tokens=40) for question in QUESTIONS
    ]


def never_ending(lm: LanguageModel) -> LanguageModel:
    return replace(lm, eos_ids=())


def test_greedy_is_what_transformers_gives(lm: LanguageModel) -> None:
    import torch

    prompt = continue_text(lm, "Open the valve before")
    stream = generate(never_ending(lm), prompt, max_new_tokens=12)
    text = "".join(stream)
    ids = torch.tensor([prompt.token_ids])
    theirs = lm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=-1)
    assert text == stream.completion.text == lm.tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)
    assert stream.completion.finish == "length" and stream.completion.completion_tokens == 12
    assert stream.completion.seconds > 0


def test_a_batch_gives_what_each_prompt_gives_alone(lm: LanguageModel) -> None:
    alone = []
    for prompt in prompts(lm):
        stream = generate(lm, prompt, max_new_tokens=40)
        assert "".join(stream) == stream.completion.text
        alone.append(stream.completion)
    assert len({len(prompt.token_ids) for prompt in prompts(lm)}) > 2, "the batch needs padding"
    for batch_size in (1, 3, 8):
        together = generate_batch(lm, prompts(lm), max_new_tokens=40, batch_size=batch_size)
        assert [replace(one, seconds=0) for one in together] == [replace(one, seconds=0) for one in alone]


def test_sampling_depends_on_the_seed_alone(lm: LanguageModel) -> None:
    import torch

    drawn = generate_batch(lm, prompts(lm), max_new_tokens=20, sampling=Sampling(temperature=1.0, seed=7))
    torch.manual_seed(99)
    again = [
        generate_batch(lm, [prompt], max_new_tokens=20, sampling=Sampling(temperature=1.0, seed=7))[0] for prompt in prompts(lm)
    ]
    other = generate_batch(lm, prompts(lm), max_new_tokens=20, sampling=Sampling(temperature=1.0, seed=8))
    assert [one.text for one in drawn] == [one.text for one in again]
    assert [one.text for one in drawn] != [one.text for one in other]
    greedy = [one.text for one in generate_batch(lm, prompts(lm), max_new_tokens=20)]
    for filtered in (Sampling(1.0, top_k=1), Sampling(1.0, top_p=1e-6)):
        assert [one.text for one in generate_batch(lm, prompts(lm), max_new_tokens=20, sampling=filtered)] == greedy


@pytest.mark.parametrize(
    ("option", "message"),
    [
        *(({"temperature": value}, f"temperature is {value}") for value in (-1.0, math.nan, math.inf, 1e-300, 1e300)),
        *(({"top_p": value}, f"top_p is {value}") for value in (0.0, -0.5, 1.5, math.nan, math.inf)),
        *(({"top_k": value}, f"top_k is {value}") for value in (-2, 10**30)),
        *(({"seed": value}, f"seed is {value}") for value in (10**22, -(10**22))),
    ],
)
def test_bad_sampling_is_refused(option: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        Sampling(**option)


@pytest.mark.parametrize(
    "sampling", [Sampling(0.001), Sampling(100.0), Sampling(1.0, seed=-(2**63)), Sampling(1.0, top_k=2**31 - 1)]
)
def test_the_ends_of_the_ranges_work(gpt2: LanguageModel, sampling: Sampling) -> None:
    (done,) = generate_batch(gpt2, [continue_text(gpt2, "Open")], max_new_tokens=5, sampling=sampling)
    assert done.completion_tokens


@pytest.mark.parametrize("count", [0, -1])
def test_an_answer_needs_a_token(gpt2: LanguageModel, count: int) -> None:
    with pytest.raises(UserError, match="no room for an answer"):
        generate(gpt2, continue_text(gpt2, "Open"), max_new_tokens=count)
    with pytest.raises(UserError, match=f"max_new_tokens is {count}"):
        build_prompt(gpt2, "Why?", None, max_new_tokens=count)


def test_the_window_bounds_the_answer(gpt2: LanguageModel) -> None:
    prompt = continue_text(gpt2, "Open the valve. " * 22)
    room = gpt2.window - len(prompt.token_ids)
    assert 0 < room < 100
    stream = generate(never_ending(gpt2), prompt, max_new_tokens=10_000)
    list(stream)
    assert stream.completion.completion_tokens <= room
    with pytest.raises(UserError, match="no room for an answer: the prompt has"):
        generate(gpt2, continue_text(gpt2, "Open the valve. " * 60))


class Script:
    """A writer fed with chosen tokens instead of a model's: what comes out piece by piece, and in the end."""

    def __init__(self, lm: LanguageModel, text: str, *, stop: tuple[str, ...] = (), end: bool = True, room: int = 10_000) -> None:
        prompt = replace(continue_text(lm, "x"), stop=stop)
        self.writer = generation._writer(replace(lm, window=20_000), prompt, room, ())
        self.pieces: list[str] = []
        sent = 0
        for token in [*encode(lm, text), *([lm.eos_ids[0]] if end else [])]:
            self.writer.push(token)
            self.pieces.append(self.writer.text[sent : self.writer.safe])
            sent = self.writer.safe
            if self.writer.finish:
                break
        self.text, self.finish = self.writer.text, self.writer.finish


@pytest.mark.parametrize(
    ("text", "stop", "expected", "finish"),
    [
        (" It stops.\nQuestion: And then?", ("\nQuestion:",), " It stops.", "stop"),
        ("\n\nIt stops.\n\nMore.", ("\n\n",), "\n\nIt stops.", "stop"),
        ("One\nTwo\nQuest", ("\nQuestion:",), "One\nTwo\nQuest", "end"),
        ("a STOP b", ("b", "STOP"), "a ", "stop"),
        ("Full – 漢字 🚰.", (), "Full – 漢字 🚰.", "end"),
        ("", ("\n\n",), "", "end"),
    ],
)
def test_stop_strings(gpt2: LanguageModel, text: str, stop: tuple[str, ...], expected: str, finish: str) -> None:
    script = Script(gpt2, text, stop=stop)
    assert (script.text, script.finish) == (expected, finish)
    assert "".join(script.pieces) == expected, "text was given out that was then taken back"
    assert not any("\ufffd" in piece for piece in script.pieces)


def test_a_stop_string_may_be_given_with_the_call(gpt2: LanguageModel) -> None:
    whole = generate(never_ending(gpt2), continue_text(gpt2, "Open the valve"), max_new_tokens=12)
    text = "".join(whole)
    mark = text[5:7]
    stream = generate(never_ending(gpt2), continue_text(gpt2, "Open the valve"), max_new_tokens=12, stop=[mark])
    assert "".join(stream) == text[: text.index(mark)] and stream.completion.finish == "stop"


def test_a_loop_is_ended_after_its_first_round(gpt2: LanguageModel) -> None:
    script = Script(gpt2, "Run it. " + "Then wait for the tank. " * 30)
    assert script.finish == "loop"
    assert script.text.startswith("Run it. Then wait for the tank") and script.text.count("wait") == 1
    assert "".join(script.pieces) == script.text
    assert len(script.writer.ids) < 60


def test_a_phrase_that_comes_again_is_no_loop(gpt2: LanguageModel) -> None:
    text = "Run pump start --name red --wait 30 --valve open. Then run pump start --name red --wait 30 --valve shut, and wait."
    script = Script(gpt2, text)
    assert (script.text, script.finish) == (text, "end") and "".join(script.pieces) == text
    assert Script(gpt2, "| - | - | - |\n| 1 | 2 | 3 |").finish == "end"


def test_tokens_beyond_the_tokenizer_are_never_chosen(gpt2_folder, tmp_path) -> None:
    import shutil

    from transformers import AutoModelForCausalLM

    from rag_vs_ft.models.loading import load

    folder = shutil.copytree(gpt2_folder, tmp_path / "padded")
    model = AutoModelForCausalLM.from_pretrained(folder)
    size = model.config.vocab_size
    model.resize_token_embeddings(size + 64)
    model.get_output_embeddings().weight.data[size:] = 5.0 * model.get_output_embeddings().weight.data[5]
    model.save_pretrained(folder)
    padded = never_ending(load(str(folder), settings.home(), device="cpu"))
    stream = generate(padded, continue_text(padded, "Open the"), max_new_tokens=30)
    list(stream)
    assert max(stream._writer.ids) < size


def test_an_answer_tells_all_that_made_it(llama: LanguageModel) -> None:
    hits = make_hits(*["Open the valve before you start the pump. " * 12] * 5)
    pieces: list[str] = []
    answer = answer_question(llama, QUESTIONS[0], hits, max_new_tokens=30, on_text=pieces.append, index_generation="g1")
    assert "".join(pieces).strip() == answer.answer
    assert answer.hits == tuple(hits) and 0 < answer.dropped_hits < 5
    assert answer.prompt_tokens == len(build_prompt(llama, QUESTIONS[0], hits, max_new_tokens=30).token_ids)
    assert answer.prompt.count("[1] Pump manual") == 1 and answer.index_generation == "g1"
    assert any("did not fit" in notice for notice in answer.notices)
    again = answer_question(llama, QUESTIONS[0], hits, max_new_tokens=30)
    assert again.answer == answer.answer and again.finish == answer.finish


def test_an_answer_without_passages_says_so(gpt2: LanguageModel) -> None:
    assert "no passages were found: the model answered by itself" in answer_question(gpt2, "Why?", [], max_new_tokens=5).notices
    assert not any("no passages" in notice for notice in answer_question(gpt2, "Why?", None, max_new_tokens=5).notices)


def test_citations_named_by_the_answer() -> None:
    hits = make_hits("a", "b", "c")
    assert citations("It stops [2].", hits) == (2,)
    assert citations("[3, 1] and [2][3]", hits) == (1, 2, 3)
    assert citations("See [9] or [2024].", hits) == ()
    assert citations("", hits) == () and citations("Anything.", []) == ()


def test_a_number_that_was_echoed_does_not_outweigh_the_passage_that_was_copied() -> None:
    hits = make_hits("The pump has ten valves.", "A deleted vault is kept for 90 days.")
    assert citations("[1] A deleted vault is kept for 90 days.", hits, "How long?") == (2,)
    assert citations("[1, 2] A deleted vault is kept for 90 days.", hits, "How long?") == (1, 2)
    assert citations("[1] Nobody knows.", hits, "How long?") == (1,)


def test_citations_by_words() -> None:
    hits = make_hits(
        "The retention period is 90 days for every vault.",
        "Use az pump start --name red.",
        "A vault holds keys and nothing more.",
    )
    assert citations("It is kept for 90 days.", hits, "How long is a vault kept?") == (1,)
    assert citations("Run az pump start.", hits, "How do I start it?") == (2,)
    assert citations("Elephants live in Africa.", hits, "Where do elephants live?") == ()
    assert citations("Yes.", hits, "Is it so?") == ()
