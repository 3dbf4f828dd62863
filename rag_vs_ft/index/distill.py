"""An embedding model -> a static one: a table of token vectors, whose mean over a text is the text's vector.

Model2Vec's recipe (Tulkens and van Dongen, 2024): every token goes through the model alone, principal components shorten the
vectors, and rare tokens weigh more. Two things come from the corpus: the frequent words that the model's tokenizer would cut into
pieces become tokens, and the weights follow how often each token is used (SIF: Arora, Liang and Ma, 2017).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files, settings
from rag_vs_ft.corpus.store import Corpus
from rag_vs_ft.errors import UserError
from rag_vs_ft.index.embedding import Embedder
from rag_vs_ft.index.sessions import load_sentence_transformer
from rag_vs_ft.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

DIMENSION = 256
WORDS = 20_000
"""Words of the corpus that become tokens, at most."""
LEAST_USES = 3
"""Uses of a word in the corpus under which it stays in pieces."""
SIF = 1e-3
"""Frequency at which a token has half the weight of one that the corpus never uses."""
BATCH = 256


@dataclass(frozen=True, slots=True)
class Distilled:
    """A static model that was made: its folder, its tokens, how many of them are words of the corpus, and its dimension."""

    folder: Path
    tokens: int
    words: int
    dimension: int


def distill(
    folder: Path,
    corpus: Corpus,
    embedder: str = settings.EMBEDDER,
    *,
    dimension: int = DIMENSION,
    progress: Progress = silent,
) -> Distilled:
    """Make the static model `folder` from the embedding model `embedder` over the words of `corpus`.

    A model whose tokenizer is not WordPiece keeps its own tokens. Raises UserError when `folder` is there already, when the
    embedding model is static itself, or when the corpus has no words.
    """
    if folder.exists():
        raise UserError(f"{folder} exists already", "give the name of a new folder, or remove that one")
    teacher = Embedder(embedder, precision="fp32").model
    if teacher.is_static:
        raise UserError(f"{embedder} is a static model already", "distill a model with a network, such as all-minilm-l6-v2")
    if not 1 <= dimension <= teacher.dimension:
        raise UserError(f"dimension {dimension} is out of range", f"{embedder} gives {teacher.dimension} numbers a text")
    own = teacher.tokenizer()
    texts = [f"{document.title}\n{document.text}" for document in corpus.documents()]
    words = _frequent_words(own, texts)
    tokenizer = _with_words(own, words)
    pieces = _pieces(own, tokenizer, words)
    with settings.MODEL_LOADING:
        network = load_sentence_transformer(teacher, "cpu")
    vectors = _shorter(_embed(network, pieces, progress), dimension)
    uses = _uses(tokenizer, texts)
    if not uses.sum():
        raise UserError(f"corpus {corpus.name!r} has no words", "distill over a corpus with text")
    vectors *= (SIF / (SIF + uses / uses.sum()))[:, None]
    vectors[_special(tokenizer)] = 0
    _save(folder, tokenizer, vectors)
    return Distilled(folder, len(vectors), len(words), dimension)


def _frequent_words(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Words, as the tokenizer divides texts into them, that it would cut into pieces; the most frequent first."""
    if type(tokenizer.model).__name__ != "WordPiece" or tokenizer.pre_tokenizer is None:
        return []
    counts: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer is not None else text
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    known = tokenizer.get_vocab()
    wanted = [
        (-count, word)
        for word, count in counts.items()
        if count >= LEAST_USES and word not in known and 1 < len(word) <= 40 and any(letter.isalpha() for letter in word)
    ]
    return [word for _, word in sorted(wanted)[:WORDS]]


def _with_words(own: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """The tokenizer with `words` as tokens: WordPiece takes the longest beginning that it knows, so it takes them whole."""
    from tokenizers import Tokenizer

    content = json.loads(own.to_str())
    content["post_processor"] = None
    if words:
        vocabulary = content["model"]["vocab"]
        free = max(vocabulary.values()) + 1
        vocabulary |= {word: number for number, word in enumerate(words, start=free)}
    return Tokenizer.from_str(json.dumps(content))


def _pieces(own: Tokenizer, tokenizer: Tokenizer, words: Sequence[str]) -> list[list[int]]:
    """What the network reads for each token: the token itself or a word's pieces, between its special tokens."""
    new = set(words)
    frame = own.encode("")
    rows: list[list[int]] = []
    names = {number: token for token, number in tokenizer.get_vocab().items()}
    # What is read stands where a text would stand between the special tokens.
    marked = own.encode("a")
    before = next((at for at, (a, b) in enumerate(zip(marked.ids, frame.ids, strict=False)) if a != b), len(frame.ids))
    start, end = frame.ids[:before], frame.ids[before:]
    for number in range(max(names) + 1):
        token = names.get(number, "")
        inner = own.encode(token, add_special_tokens=False).ids if token in new else [number] if token else [0]
        rows.append([*start, *inner, *end])
    return rows


def _embed(network: Any, rows: Sequence[Sequence[int]], progress: Progress) -> NDArray[np.float32]:
    """Vector of each row of token ids; rows of one length go through the network together."""
    import numpy as np
    import torch

    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    vectors = np.zeros((len(rows), network.get_embedding_dimension()), dtype=np.float32)
    torch.set_num_threads(settings.threads())
    done = 0
    while done < len(by_length):
        length = len(rows[by_length[done]])
        batch = [row for row in by_length[done : done + BATCH] if len(rows[row]) == length]
        ids = torch.tensor([rows[row] for row in batch])
        with torch.inference_mode():
            features = network({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        vectors[batch] = features["sentence_embedding"].float().numpy()
        done += len(batch)
        progress("distill", done, len(rows))
    return vectors


def _shorter(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """The first principal components, largest first."""
    import numpy as np

    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.ascontiguousarray(centred @ axes[:, ::-1][:, :dimension])


def _uses(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.float32]:
    """How often the corpus uses each token."""
    import numpy as np

    uses = np.zeros(max(tokenizer.get_vocab().values()) + 1)
    for start in range(0, len(texts), 64):
        for encoding in tokenizer.encode_batch_fast(list(texts[start : start + 64]), add_special_tokens=False):
            np.add.at(uses, encoding.ids, 1)
    return uses.astype(np.float32)


def _special(tokenizer: Tokenizer) -> list[int]:
    """Tokens that stand for no text, the unknown one among them."""
    names = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    numbers = {tokenizer.token_to_id(name) for name in (*names, getattr(tokenizer.model, "unk_token", None)) if name}
    return sorted(number for number in numbers if number is not None)


def _save(folder: Path, tokenizer: Tokenizer, vectors: NDArray[np.float32]) -> None:
    """The layout of sentence-transformers' StaticEmbedding, which it reads too."""
    from safetensors.numpy import save

    kinds = ("StaticEmbedding", "Normalize")
    modules = [
        {"idx": at, "name": str(at), "path": f"{at}_{kind}", "type": f"sentence_transformers.models.{kind}"}
        for at, kind in enumerate(kinds)
    ]
    try:
        with files.publishing(folder) as made:
            for module in modules:
                (made / str(module["path"])).mkdir()
            inside = made / str(modules[0]["path"])
            files.write_bytes(inside / "model.safetensors", save({"embedding.weight": vectors}))
            files.write_text(inside / "tokenizer.json", tokenizer.to_str())
            files.write_text(made / "modules.json", json.dumps(modules))
    except OSError as error:
        raise files.unusable(error) from error
