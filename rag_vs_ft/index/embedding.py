"""Texts -> unit vectors, by a sentence-transformers model, as fast as the machine allows.

Three precisions give the same interface:

    fp32    the model as it is
    int8    weights and activations in 8 bits, on a CPU
    fp16    half precision in batches on a GPU; elsewhere the same model in fp32, which differs in the last digits that are kept

On a CPU the model runs under onnxruntime, exported once and checked (`index.export`); a model that cannot be exported runs under
sentence-transformers. A static model is a table of vectors and needs neither. What made an index is in its manifest, and its
queries and updates go the same way, on whatever machine.

On a CPU each text goes through the model alone. A batch would scale the activations of all its texts together: the same text
would have another vector, at a cosine of 0.99, in each batch, and an updated index would not be that of a build from nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rag_vs_ft import catalogue, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import export, processor
from rag_vs_ft.index.lazy import loaded_once
from rag_vs_ft.index.sentence_model import SentenceModel
from rag_vs_ft.index.sessions import OnnxSession, Session, StaticSession, Tell, TorchSession

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

PRECISIONS = ("auto", "int8", "fp32", "fp16")
VERSION = 3
"""Raised whenever the same text and model would give another vector: 1 embedded int8 in batches, 2 normalised in another way."""

QUERY_CACHE = 1_024
"""Query vectors kept in memory (384 floats each): repeated questions cost nothing."""


@dataclass(frozen=True, slots=True)
class EmbedderId:
    """What decides a vector: the model's name, the SHA-256 of its weights, its dimension, its window, precision and engine.

    `engine` is "onnxruntime", "torch" or "static"; `layout` the hash of the model's modules, prompts and tokenizer. Manifests of
    earlier versions have neither: they name no layout, and their engine follows from the precision.
    """

    name: str
    sha256: str
    dimension: int
    max_tokens: int
    precision: str
    engine: str = ""
    layout: str = ""

    def __post_init__(self) -> None:
        if not self.engine:
            object.__setattr__(self, "engine", "onnxruntime" if self.precision == "int8" else "torch")

    def to_json(self) -> dict[str, Any]:
        """What an index manifest records of the embedder."""
        return asdict(self)

    def differences(self, other: EmbedderId) -> list[str]:
        """Names of the fields in which `other` would give other vectors; the name of the model alone decides nothing."""
        mine, others = asdict(self), asdict(other)
        unknown = {"name"} | ({"layout"} if not (self.layout and other.layout) else set())
        return [key for key in mine if key not in unknown and mine[key] != others[key]]


def accelerator() -> str:
    """The device of torch that computes faster than the CPU: "cuda", "mps" or "" (none)."""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else ""


class Embedder:
    """An embedding model. Weights are read on first use; all methods may be called from several threads.

    `precision` "auto" is half precision on a GPU, int8 on a CPU with the instructions for it, else fp32. `dimension` keeps the
    first numbers of each vector, for models that were trained for it (Matryoshka). Raises UserError for a model that is not there
    or is not an embedding model, CheckFailed for one whose files are damaged.
    """

    def __init__(
        self,
        name: str = settings.EMBEDDER,
        *,
        precision: str = "auto",
        dimension: int | None = None,
        threads: int | None = None,
        recorded: EmbedderId | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"precision {precision!r} is not known", f"use one of {', '.join(PRECISIONS)}")
        self.name = name
        self.model = SentenceModel.read(name, catalogue.locate(name))
        self.folder = self.model.folder
        self.threads = threads or settings.threads()
        self._wanted = precision
        self._recorded = recorded
        self._dimension = dimension
        if dimension is not None and not 1 <= dimension <= self.model.dimension:
            raise UserError(f"dimension {dimension} is out of range", f"{name} gives {self.model.dimension} numbers a text")
        self._remembering = threading.Lock()
        self._queries: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    @staticmethod
    def of(recorded: EmbedderId, threads: int | None = None) -> Embedder:
        """The embedder that made the vectors of an index, from the record in its manifest."""
        embedder = Embedder(recorded.name, precision=recorded.precision, threads=threads, recorded=recorded)
        if recorded.dimension < embedder.model.dimension:
            embedder._dimension = recorded.dimension
        return embedder

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._dimension or self.model.dimension

    @property
    def precision(self) -> str:
        """int8, fp32 or fp16."""
        return self._way[0]

    @loaded_once
    def id(self) -> EmbedderId:
        """Identity of the vectors this embedder makes; the model is loaded only where its precision has to be tried."""
        precision, engine = self._way
        return EmbedderId(
            name=self.name,
            sha256=self.model.weights_sha256,
            dimension=self.dimension,
            max_tokens=self.model.window,
            precision=precision,
            engine=engine,
            layout=self.model.layout,
        )

    @loaded_once
    def _way(self) -> tuple[str, str]:
        """Precision and engine: those on record, else the best that this model and machine can do."""
        if self._recorded is not None:
            return self._recorded.precision, self._recorded.engine
        if self.model.is_static:
            return "fp32", "static"
        wanted = self._wanted
        if wanted == "auto":
            wanted = "fp16" if accelerator() else "int8" if processor.has_int8() else "fp32"
        if wanted == "fp16":
            return "fp16", "torch"
        for precision in dict.fromkeys((wanted, "fp32")):
            try:
                with settings.MODEL_LOADING:
                    export.exported(self.model, precision)
                return precision, "onnxruntime"
            except export.CannotExport as error:
                fallback = "fp32 is used" if precision == "int8" else "sentence-transformers is used, which is slower"
                logging.getLogger("rag_vs_ft").warning("%s has no %s export: %s; %s", self.name, precision, error, fallback)
        return "fp32", "torch"

    @loaded_once
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer without truncation or padding, for measuring."""
        return self.model.tokenizer()

    @loaded_once
    def around(self) -> int:
        """Tokens of the window that are not the passage's: special tokens and those of the passage prompt."""
        special = 0 if self.model.is_static else self.tokenizer.num_special_tokens_to_add(False)
        return special + len(self.offsets(self.model.passage_prompt))

    def offsets(self, text: str) -> Sequence[tuple[int, int]]:
        """Character range of each token of `text`, special tokens left out."""
        return self.tokenizer.encode(text, add_special_tokens=False).offsets

    def encode(self, texts: Sequence[str], progress: Tell | None = None) -> NDArray[np.float32]:
        """Embed passages -> array (len(texts), dimension), rows of length 1; a text over the window is cut by the model."""
        return self._encode(list(texts), self.model.passage_prompt, progress or (lambda _: None))

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """Embed one query -> array (dimension,); the last queries are remembered."""
        if (known := self._queries.get(text)) is not None:
            return known
        vector = self._encode([text], self.model.query_prompt, lambda _: None)[0]
        with self._remembering:
            self._queries[text] = vector
            while len(self._queries) > QUERY_CACHE:
                self._queries.popitem(last=False)
        return vector

    def _encode(self, texts: list[str], prompt: str, progress: Tell) -> NDArray[np.float32]:
        import numpy as np

        vectors = self._session.encode(texts, prompt, progress)[:, : self.dimension]
        if self.dimension < self.model.dimension:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    @loaded_once
    def _session(self) -> Session:
        precision, engine = self._way
        if engine == "static":
            return StaticSession(self.model)
        with settings.MODEL_LOADING:
            if precision == "fp16" and (device := accelerator()):
                return TorchSession(self.model, device, threads=self.threads, half=True)
            if engine == "onnxruntime" or precision == "fp16":
                kind = "int8" if precision == "int8" else "fp32"
                try:
                    return OnnxSession(export.exported(self.model, kind), self.model, self.threads)
                except export.CannotExport as error:
                    if precision != "fp16":
                        raise UserError(
                            f"{self.name} cannot be exported to {kind} here: {error}",
                            "build the index again with --precision fp32",
                        ) from error
            return TorchSession(self.model, "cpu", threads=self.threads, half=False)
