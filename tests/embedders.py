"""Tiny random embedding models of each architecture, in the layouts of the hub; imported by the tests as `embedders`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEXTS = [
    "upgrade the node pool",
    "key vault",
    "The surge default is one node; the limit is five days. " * 6,
    "",
    "upgrade the node pool",
    "kubectl get policy, restore 5 disks",
]
POSITIONS = 80
HIDDEN = 48
ARCHITECTURES = ("bert", "mpnet", "roberta", "xlm-roberta", "distilbert", "modernbert")


def save(
    folder: Path,
    architecture: str = "bert",
    *,
    pooling: str = "mean",
    dense: int = 0,
    prompts: dict[str, str] | None = None,
    default_prompt: str | None = None,
    window: int | None = None,
) -> str:
    """A random model of two layers in sentence-transformers' layout; returns its folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
    from transformers import AutoConfig, AutoModel

    base = folder / "base"
    tokenizer = _tokenizer(architecture)
    tokenizer.save_pretrained(base)
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    sizes: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": POSITIONS,
    }
    if architecture == "distilbert":
        sizes = {"dim": HIDDEN, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": POSITIONS}
    if architecture == "modernbert":
        # A narrow window of the local layers, so that the texts of the tests are longer than it.
        sizes |= {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3}
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(architecture, **common, **sizes))
    for parameter in model.parameters():  # wide enough that the attention of the texts differs
        if parameter.dim() > 1:
            parameter.data *= 3
    model.save_pretrained(base)
    modules: list[Any] = [Transformer(str(base), max_seq_length=window), Pooling(HIDDEN, pooling_mode=pooling)]
    if dense:
        modules.append(Dense(HIDDEN, dense, activation_function=torch.nn.Tanh()))
    saved = SentenceTransformer(
        modules=[*modules, Normalize()], device="cpu", prompts=prompts, default_prompt_name=default_prompt
    )
    target = folder / "model"
    saved.save(str(target))
    return str(target)


def _tokenizer(architecture: str) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if architecture in ("roberta", "xlm-roberta", "mpnet"):
        special = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    else:
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    names = list(special.values())
    text = ["abcdefghijklmnopqrstuvwxyz 0123456789 . , ; : -", *TEXTS] * 3
    if architecture in ("roberta", "modernbert"):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(vocab_size=330, special_tokens=names, initial_alphabet=alphabet)
    elif architecture == "xlm-roberta":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=names, unk_token="<unk>")
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token=special["unk_token"]))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=names)
    tokenizer.train_from_iterator(text, trainer)
    ids = [(name, tokenizer.token_to_id(name)) for name in (special["cls_token"], special["sep_token"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{ids[0][0]} $A {ids[1][0]}", pair=f"{ids[0][0]} $A {ids[1][0]} $B {ids[1][0]}", special_tokens=ids
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=10**30, **special)


def save_static(folder: Path, *, dimension: int = 24) -> str:
    """A random static model as sentence-transformers saves it."""
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, StaticEmbedding

    tokenizer = _tokenizer("bert")
    table = np.random.default_rng(0).normal(size=(len(tokenizer), dimension)).astype(np.float32)
    target = folder / "static"
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table), Normalize()], device="cpu").save(
        str(target)
    )
    return str(target)


def save_model2vec(folder: Path, *, dimension: int = 24) -> str:
    """A random static model as model2vec saves it: half precision, shared rows and a weight for each token."""
    import numpy as np
    from safetensors.numpy import save_file

    tokenizer = _tokenizer("bert")
    random = np.random.default_rng(0)
    target = folder / "model2vec"
    target.mkdir(parents=True)
    rows = len(tokenizer) // 2
    save_file(
        {
            "embeddings": random.normal(size=(rows, dimension)).astype(np.float16),
            "mapping": random.integers(0, rows, len(tokenizer)).astype(np.int64),
            "weights": random.uniform(0.1, 2, len(tokenizer)).astype(np.float64),
        },
        target / "model.safetensors",
    )
    tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"))
    (target / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True, "hidden_dim": dimension}))
    modules = [("StaticEmbedding", "."), ("Normalize", "1_Normalize")]
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(modules)
    ]
    (target / "modules.json").write_text(json.dumps(listed))
    (target / "1_Normalize").mkdir()
    return str(target)
