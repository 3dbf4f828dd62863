"""The folder of a sentence-transformers model, read without loading the model: modules, dimension, window, prompts, tokenizer.

Known are the layouts of sentence-transformers 2 to 6 and of model2vec. Everything comes from the model's own files, but for the
prompts of families whose files state none; a file that is damaged is an error that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import catalogue, files
from rag_vs_ft.errors import CheckFailed, UserError
from rag_vs_ft.index.lazy import loaded_once

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONGEST_WINDOW = 8_192
"""Tokens of a text that are read at most, also by a model without a window of its own."""

_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer")
"""Architectures whose positions begin behind the padding token's number."""

_PROMPTS = (
    (
        r"e5-mistral|multilingual-e5-.*-instruct",
        {"query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "},
    ),
    (r"(?:multilingual-)?e5-(?:small|base|large)", {"query": "query: ", "passage": "passage: "}),
    (r"bge-(?:micro|small|base|large)-en", {"query": "Represent this sentence for searching relevant passages: "}),
    (r"bge-(?:small|base|large)-zh", {"query": "为这个句子生成表示以用于检索相关文章："}),
    (r"nomic-embed-text", {"query": "search_query: ", "passage": "search_document: "}),
)
"""Families of models -> the prompts that their model cards say they were trained with, for folders that state none."""


@dataclass(frozen=True, slots=True)
class Module:
    """One step of a model: the last part of its type ("Transformer", "Pooling", "Dense", ...), its folder and configuration."""

    kind: str
    folder: Path
    config: dict[str, Any]


@dataclass(frozen=True)
class SentenceModel:
    """A model's folder, as read by `read`."""

    name: str
    folder: Path
    modules: tuple[Module, ...]
    prompts: dict[str, str]
    default_prompt: str

    @staticmethod
    def read(name: str, folder: Path) -> SentenceModel:
        """The embedding model `name` in `folder`.

        Raises UserError when it is not an embedding model and CheckFailed, naming the file, when one of its files is damaged.
        """
        if not (folder / "modules.json").is_file():
            raise UserError(
                f"{name} is not a sentence-transformers model: {folder} has no modules.json",
                "name an embedding model, for example all-minilm-l6-v2 (see `rag-vs-ft models list`)",
            )
        model = SentenceModel(name, folder, (), {}, "")._opened()
        _ = model.dimension, model.window  # so that what is wrong with them is said at once
        return model

    def _opened(self) -> SentenceModel:
        try:
            listed = json.loads(self._text(self.folder / "modules.json"))
            entries = [(str(entry["type"]).rpartition(".")[2], self.folder / str(entry["path"])) for entry in listed]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._damaged(self.folder / "modules.json", f"it does not list modules ({error})") from error
        if not entries or any(self.folder not in (path, *path.parents) or ".." in path.parts for _, path in entries):
            raise self._damaged(self.folder / "modules.json", "it does not list modules in this folder")
        modules = tuple(Module(kind, path, self._json(path / "config.json")) for kind, path in entries)
        prompting = self._json(self.folder / "config_sentence_transformers.json")
        prompts = prompting.get("prompts") or {}
        if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
            raise self._damaged(self.folder / "config_sentence_transformers.json", "`prompts` is not a table of texts")
        stated = {key: text or "" for key, text in prompts.items()}
        return SentenceModel(
            self.name,
            self.folder,
            modules,
            stated if any(stated.values()) else self._trained_with(),
            str(prompting.get("default_prompt_name") or ""),
        )

    def _trained_with(self) -> dict[str, str]:
        """The prompts of the family that the model is of, by its name; none for any other."""
        name = self.name.replace("\\", "/").rstrip("/").rpartition("/")[2].rpartition("--")[2].lower()
        return next((prompts for pattern, prompts in _PROMPTS if re.match(pattern, name)), {})

    @property
    def is_static(self) -> bool:
        """Whether a text's vector is the mean of its tokens' vectors, without a network."""
        first, *rest = (module.kind for module in self.modules)
        return first == "StaticEmbedding" and set(rest) <= {"Normalize"}

    @loaded_once
    def dimension(self) -> int:
        """Numbers in a vector: what the last module that changes it says."""
        for module in reversed(self.modules):
            if module.kind == "Dense":
                return self._number(module, "out_features")
            if module.kind == "Pooling":
                width = self._number(module, "embedding_dimension", "word_embedding_dimension")
                return width * self._pooled(module)
            if module.kind == "StaticEmbedding":
                return self._static_shape()[1]
        return self._number(self.modules[0], "hidden_size", "dim", "d_model")

    def _pooled(self, module: Module) -> int:
        """How many ways of pooling a vector joins."""
        modes = module.config.get("pooling_mode")
        if isinstance(modes, list):
            return max(1, len(modes))
        return max(1, sum(value is True for key, value in module.config.items() if key.startswith("pooling_mode_")))

    @loaded_once
    def window(self) -> int:
        """Tokens that the model reads of a text, special tokens included."""
        transformer = self.modules[0]
        if transformer.kind == "StaticEmbedding":
            return LONGEST_WINDOW
        settings = self._json(transformer.folder / "sentence_bert_config.json")
        tokenizer = self._json(transformer.folder / "tokenizer_config.json")
        positions = transformer.config.get("max_position_embeddings")
        if isinstance(positions, int) and transformer.config.get("model_type") in _OFFSET_POSITIONS:
            positions -= int(transformer.config.get("pad_token_id") or 0) + 1
        said = [settings.get("max_seq_length") or tokenizer.get("model_max_length"), positions, LONGEST_WINDOW]
        window = int(min(number for number in said if isinstance(number, int | float) and number > 0))
        if window < 16:
            raise self._damaged(transformer.folder / "config.json", f"a window of {window} tokens")
        return window

    @property
    def query_prompt(self) -> str:
        """The text put before a query."""
        return self.prompts.get("query", self._default())

    @property
    def passage_prompt(self) -> str:
        """The text put before a passage: the prompt that sentence-transformers calls document, passage or corpus."""
        named = [self.prompts[key] for key in ("document", "passage", "corpus") if key in self.prompts]
        return next((text for text in named if text), "" if named else self._default())

    def _default(self) -> str:
        return self.prompts.get(self.default_prompt, "")

    @property
    def includes_prompt(self) -> bool:
        """Whether the prompt's tokens take part in the pooling; few models leave them out."""
        return all(module.config.get("include_prompt", True) for module in self.modules if module.kind == "Pooling")

    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, without truncation or padding."""
        from tokenizers import Tokenizer

        path = self.modules[0].folder / "tokenizer.json"
        if path.is_file():
            self._check(path)
            try:
                tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:  # the library raises plain Exception
                raise self._damaged(path, str(error)) from error
        else:  # a vocabulary or a SentencePiece model, which transformers converts
            from transformers import AutoTokenizer

            try:
                loaded = AutoTokenizer.from_pretrained(str(path.parent), local_files_only=True, trust_remote_code=False)
            except Exception as error:  # whatever a foreign folder makes the library raise
                raise self._damaged(path, f"missing, and no other tokenizer can be read ({error})") from error
            tokenizer = Tokenizer.from_str(loaded.backend_tokenizer.to_str())
        if self._json(path.with_name("sentence_bert_config.json")).get("do_lower_case") is True:
            from tokenizers import normalizers

            own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
            tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @loaded_once
    def weights_sha256(self) -> str:
        """SHA-256 over all weights: as recorded when the model was pulled, else computed."""
        if (recorded := catalogue.manifest(self.folder)) and recorded.weights_sha256:
            return recorded.weights_sha256
        paths = sorted(self.folder.rglob("*.safetensors"))
        if not paths:
            raise UserError(f"{self.name} has no weights: no .safetensors file in {self.folder}", self._hint())
        try:
            hashes = {path.relative_to(self.folder).as_posix(): files.sha256_file(path) for path in paths}
        except OSError as error:
            raise UserError(f"cannot read the weights in {self.folder}: {error}", self._hint()) from error
        return catalogue.fingerprint(hashes)

    @loaded_once
    def layout(self) -> str:
        """Hash of what decides a vector beside the weights: modules, prompts, tokenizer."""
        transformer = self.modules[0].folder
        texts = {
            "tokenizer": files.sha256_text(self.tokenizer().to_str()),
            "window": self.window,
            "prompts": [self.query_prompt, self.passage_prompt],
            "modules": [[module.kind, module.config] for module in self.modules],
            "settings": self._json(transformer / "sentence_bert_config.json"),
        }
        return files.sha256_text(json.dumps(texts, sort_keys=True))[:16]

    def check_weights(self) -> None:
        """Compare the weights of a pulled model with what was recorded; CheckFailed when a file has changed."""
        for path in sorted(self.folder.rglob("*.safetensors")):
            self._check(path)

    def _static_shape(self) -> tuple[int, int]:
        from safetensors import SafetensorError, safe_open

        path = self.modules[0].folder / "model.safetensors"
        try:
            with safe_open(path, framework="numpy") as weights:
                key = next(name for name in ("embedding.weight", "embeddings") if name in weights.keys())  # noqa: SIM118
                rows, width = weights.get_slice(key).get_shape()
        except (OSError, SafetensorError, StopIteration, ValueError) as error:
            raise self._damaged(path, f"no table of embeddings ({error})") from error
        return rows, width

    def _number(self, module: Module, *keys: str) -> int:
        found = next((module.config[key] for key in keys if key in module.config), None)
        if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= 1_000_000:
            raise self._damaged(module.folder / "config.json", f"{keys[0]} is {found!r}")
        return found

    def _json(self, path: Path) -> dict[str, Any]:
        """The object in a configuration file; empty when the model has none."""
        if not path.is_file():
            if path.relative_to(self.folder).as_posix() in self._recorded:
                raise self._damaged(path, "it is missing")
            return {}
        return files.json_object(self._text(path), str(path), self._hint())

    def _text(self, path: Path) -> str:
        self._check(path)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._damaged(path, str(error)) from error

    @loaded_once
    def _recorded(self) -> Mapping[str, Mapping[str, Any]]:
        """Size and SHA-256 of each file, where the model was pulled."""
        recorded = catalogue.manifest(self.folder)
        return recorded.files if recorded else {}

    def _check(self, path: Path) -> None:
        recorded = self._recorded.get(path.relative_to(self.folder).as_posix())
        if recorded and recorded["sha256"] != files.sha256_file(path):
            raise self._damaged(path, "its content has changed since it was pulled")

    def _damaged(self, path: Path, reason: str) -> CheckFailed:
        return CheckFailed(f"the model {self.name} is damaged: {path}: {reason}", self._hint())

    def _hint(self) -> str:
        if self._recorded:
            return f"remove {self.folder}, then: rag-vs-ft models pull {self.name}"
        return "copy the model's files into the folder again"
