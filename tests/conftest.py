"""Fixtures shared by all tests: a home of its own for each test, and tiny but real models made here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import examples
import hypothesis
import pytest

os.environ["RAG_VS_FT_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAG_VS_FT_ENGINE"] = "transformers"  # the other one's tests ask for it, with a cache of their own

from rag_vs_ft import settings

if examples.LONG:
    hypothesis.settings.register_profile("long", max_examples=examples.LONG, deadline=None)
    hypothesis.settings.load_profile("long")

LONG = ("test_benchmarks.py",)
"""Files whose slow tests take minutes together: `make long` runs them, and CI does not yet."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and item.path.as_posix().endswith(LONG):
            item.add_marker(pytest.mark.long)


WORDS = """
the a of to in is and for with cluster node pool upgrade surge vault key secret port default limit days network policy storage
disk file image registry scale zone region backup restore delete create list update identity role access az aks kubectl get
apply one two three four five six seven eight nine ten ##s ##ing ##ed . , : - ` # | > 0 1 2 3 4 5 6 7 8 9
"""


OURS = ("RAG_VS_FT_", "HF_HUB_", "XDG_", "PYTHON")
"""Variables that decide what the product does. Libraries change others when they are imported or started."""
NOT_OURS = {"PYTHONBREAKPOINT"}
"""Ray sets it."""


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail a test that changes a variable, the working folder or a loaded module for good: the next one in its process has it."""
    variables, folder, modules = dict(os.environ), Path.cwd(), dict(sys.modules)
    yield
    names = {name for name in {*os.environ, *variables} if name.startswith(OURS)} - NOT_OURS
    changed = [name for name in sorted(names) if os.environ.get(name) != variables.get(name)]
    for name in changed:
        os.environ.pop(name, None)
        if name in variables:
            os.environ[name] = variables[name]
    if Path.cwd() != folder:
        os.chdir(folder)
        changed.append("the working folder")
    sys.modules["__main__"] = modules["__main__"]  # Streamlit's own test runner leaves a page in its place
    # Of other packages some put another module in their own place when they are imported.
    ours = {name: module for name, module in modules.items() if name.startswith("rag_vs_ft")}
    changed += [f"the module {name}" for name, module in ours.items() if sys.modules.get(name) is not module]
    assert not changed, "the test leaves these changed behind: use monkeypatch"


@pytest.fixture
def home(tmp_path: Path) -> settings.Home:
    return settings.home(tmp_path / "home")


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random BERT of 32 dimensions and a window of 64 tokens, in sentence-transformers' layout."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("embedder")
    bert = folder / "bert"
    bert.mkdir()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *letters, *(f"##{letter}" for letter in letters)]
    (bert / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=str(bert / "vocab.txt"), model_max_length=64)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(bert)
    tokenizer.save_pretrained(bert)
    transformer = Transformer(str(bert), max_seq_length=64)
    model = SentenceTransformer(modules=[transformer, Pooling(32), Normalize()], device="cpu")
    target = folder / "model"
    model.save(str(target))
    return str(target)
