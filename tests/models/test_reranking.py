from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny import save_cross_encoder, save_gpt2, save_llama

from rag_vs_ft import settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.models import loading, reranking
from rag_vs_ft.records import Chunk

QUESTION = "When does the pump stop?"


def chunks(*texts: str) -> list[Chunk]:
    return [Chunk(f"c{i}", f"d{i}.md", "Pump", "Care", text, 0, len(text), 5) for i, text in enumerate(texts)]


PASSAGES = chunks("The pump stops when the tank is full.", "Press the red key twice.", "Open the valve.")


def test_a_cross_encoder_scores_as_transformers_does(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = save_cross_encoder(tmp_path / "cross")
    scores = reranking.load(str(folder), settings.home())(QUESTION, PASSAGES)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for chunk, score in zip(PASSAGES, scores, strict=True):
        pair = tokenizer(QUESTION, f"Pump > Care\n{chunk.text}", return_tensors="pt", truncation=True)
        with torch.inference_mode():
            assert score == pytest.approx(float(model(**pair).logits.sigmoid()), abs=1e-5)
    assert len(set(scores)) == 3


@pytest.mark.parametrize("save", [save_gpt2, save_llama])
def test_lm_scores_the_question_given_the_passage(tmp_path: Path, save) -> None:
    lm = loading.load(str(save(tmp_path / "model")), settings.home())
    scores = reranking.load("lm", settings.home(), lm=lm)(QUESTION, PASSAGES)
    assert scores == reranking.load(f"lm:{tmp_path / 'model'}", settings.home())(QUESTION, PASSAGES)
    for chunk, score in zip(PASSAGES, scores, strict=True):
        start = f"Passage: Pump > Care\n{chunk.text}\nPlease write a question based on this passage.\nQuestion:"
        before, ids = lm.tokenizer(start).input_ids, lm.tokenizer(f"{start} {QUESTION}").input_ids
        assert ids[: len(before)] == before
        with torch.inference_mode():
            logprobs = lm.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        asked = [float(logprobs[at - 1, ids[at]]) for at in range(len(before), len(ids))]
        assert score == pytest.approx(sum(asked) / len(asked), abs=1e-5)


def test_a_passage_that_a_small_window_cannot_hold_is_cut_at_its_start(tmp_path: Path) -> None:
    lm = loading.load(str(save_gpt2(tmp_path / "model", window=96)), settings.home())
    (score,) = reranking.by_likelihood(lm)(QUESTION, chunks("The pump stops when the tank is full. " * 40))
    assert score < 0
    with pytest.raises(UserError, match="do not fit"):
        reranking.by_likelihood(lm)("why " * 200, PASSAGES)


def test_asking_again_reads_the_new_passages_only() -> None:
    read: list[str] = []

    def score(question: str, found: list[Chunk]) -> list[float]:
        read.extend(chunk.id for chunk in found)
        return [len(chunk.text) / len(question) for chunk in found]

    remembering = reranking._remembering(score)
    first = remembering("a question", PASSAGES[:2])
    assert remembering("a question", PASSAGES[::-1]) == [score("a question", [c])[0] for c in PASSAGES[::-1]]
    assert read[:3] == ["c0", "c1", "c2"] and first == remembering("a question", PASSAGES[:2])
    del read[:]
    remembering("another", PASSAGES[:1])
    remembering("a question", PASSAGES[:1])
    assert read == ["c0", "c0"]


def test_what_cannot_rerank_is_refused_with_the_next_step(tmp_path: Path) -> None:
    def refusal(name: str) -> UserError:
        with pytest.raises(UserError) as caught:
            reranking.load(name, settings.home())
        return caught.value

    assert "models pull cross-encoder/none" in refusal("cross-encoder/none").hint
    assert "--rerank lm" in refusal("nothing").hint and "no model 'nothing'" in refusal("nothing").message
    assert f"lm:{tmp_path / 'gpt2'}" in refusal(str(save_gpt2(tmp_path / "gpt2"))).hint
    (tmp_path / "empty").mkdir()
    assert "config.json" in refusal(str(tmp_path / "empty")).message
    three = save_cross_encoder(tmp_path / "three", labels=3)
    assert "3 scores" in refusal(str(three)).message
    pickled = save_cross_encoder(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "no model.safetensors" in refusal(str(pickled)).message
    broken = save_cross_encoder(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    assert "cannot load" in refusal(str(broken)).message
    config = json.loads((three / "config.json").read_text(encoding="utf-8"))
    (three / "config.json").write_text(json.dumps(config | {"architectures": None}), encoding="utf-8")
    assert "nothing of a model" in refusal(str(three)).message
    with pytest.raises(UserError, match="no model"):
        reranking.load("lm:nothing", settings.home())
