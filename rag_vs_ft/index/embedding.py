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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from rag_vs_ft import catalogue, settings
from rag_vs_ft.errors import UserError
from rag_vs_ft.index import export, processor
from rag_vs_ft.index.sentence_model import SentenceModel

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

PRECISIONS = ("auto", "int8", "fp32", "fp16")
VERSION = 2
"""Raised whenever the same text and model would give another vector; 1 embedded int8 in batches."""

QUERY_CACHE = 1_024
"""Query vectors kept in memory (384 floats each): repeated questions cost nothing."""

Tell = Callable[[int], None]
"""Called with the number of texts that were embedded since the last call."""


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
        self._loading = threading.RLock()
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

    @cached_property
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

    @cached_property
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

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer without truncation or padding, for measuring."""
        return self.model.tokenizer()

    @cached_property
    def around(self) -> int:
        """Tokens of the window that are not the passage's: special tokens and those of the passage prompt."""
        special = 0 if self.model.is_static else self.tokenizer.num_special_tokens_to_add(False)
        return special + len(self.offsets(self.model.passage_prompt))

    def offsets(self, text: str) -> Sequence[tuple[int, int]]:
        """Character range of each token of `text`, special tokens left out."""
        return self.tokenizer.encode(text, add_special_tokens=False).offsets

    def encode(self, texts: Sequence[str], progress: Tell | None = None) -> NDArray[np.float32]:
        """Embed passages -> array (len(texts), dimension), rows of length 1; a text over the window is cut by the model."""
        prompt = self.model.passage_prompt
        return self._encode([prompt + text for text in texts], progress or (lambda _: None))

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """Embed one query -> array (dimension,); the last queries are remembered."""
        if (known := self._queries.get(text)) is not None:
            return known
        vector = self._encode([self.model.query_prompt + text], lambda _: None)[0]
        with self._loading:
            self._queries[text] = vector
            while len(self._queries) > QUERY_CACHE:
                self._queries.popitem(last=False)
        return vector

    def _encode(self, texts: list[str], progress: Tell) -> NDArray[np.float32]:
        import numpy as np

        vectors = self._session.encode(texts, progress)[:, : self.dimension]
        if self.dimension < self.model.dimension:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    @cached_property
    def _session(self) -> Session:
        with self._loading:
            # Another thread may have been here while this one waited.
            if (loaded := self.__dict__.get("_session")) is not None:
                return loaded
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


class Session(Protocol):
    """A loaded model."""

    def encode(self, texts: list[str], progress: Tell) -> NDArray[np.float32]:
        """Texts with their prompts -> array (len(texts), the model's dimension), rows of length 1."""


def load_sentence_transformer(model: SentenceModel, device: str, *, eager: bool = False) -> Any:
    """The model as sentence-transformers loads it, with our window and without prompts: the caller puts them before a text."""
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        loaded = SentenceTransformer(
            str(model.folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"attn_implementation": "eager"} if eager else None,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, AttributeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"sentence-transformers cannot load {model.name}: {reason}", "use another embedding model") from error
    if not model.is_static:
        loaded.max_seq_length = model.window
    loaded.prompts, loaded.default_prompt_name = {}, None
    return loaded.to(torch.float32).eval()


class TorchSession:
    """sentence-transformers: on a CPU text by text, on a GPU in batches; one caller at a time."""

    def __init__(self, model: SentenceModel, device: str, *, threads: int, half: bool) -> None:
        import torch

        torch.set_num_threads(threads)
        self.model = load_sentence_transformer(model, device)
        if half:
            self.model = self.model.half()
        self.batch_size = 256 if half else 1
        self.dimension = model.dimension
        self._lock = threading.Lock()

    def encode(self, texts: list[str], progress: Tell) -> NDArray[np.float32]:
        """See `Session`."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        with self._lock:
            for start in range(0, len(texts), 256):
                part = texts[start : start + 256]
                vectors[start : start + len(part)] = self.model.encode(
                    part, batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
                )
                progress(len(part))
        return vectors


class OnnxSession:
    """The exported model. Texts go through it one by one, as many at a time as there are threads."""

    def __init__(self, path: Path, model: SentenceModel, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        onnxruntime.disable_telemetry_events()
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception class for each kind of failure, without a common root
            raise UserError(f"cannot read {path}: {error}", "remove that file: it is made again") from error
        self.threads = threads
        self.dimension = model.dimension
        self.tokenizer = model.tokenizer()
        self.tokenizer.enable_truncation(model.window)

    def encode(self, texts: list[str], progress: Tell) -> NDArray[np.float32]:
        """See `Session`."""
        import numpy as np

        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)

        def embed(row: int) -> int:
            tokens = np.asarray([ids[row]], dtype=np.int64)
            vectors[row] = self.session.run(None, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)})[0][0]
            return 1

        if len(texts) == 1 or self.threads == 1:
            for row in range(len(texts)):
                progress(embed(row))
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                for done in pool.map(embed, range(len(texts))):
                    progress(done)
        return vectors


class StaticSession:
    """A table of token vectors; a text's vector is their mean, as in sentence-transformers' StaticEmbedding and in model2vec."""

    def __init__(self, model: SentenceModel) -> None:
        import numpy as np
        from safetensors.numpy import load_file

        weights = load_file(model.modules[0].folder / "model.safetensors")
        table = weights["embedding.weight"] if "embedding.weight" in weights else weights["embeddings"]
        if "mapping" in weights:
            table = table[weights["mapping"].astype(np.int64)]
        self.table = table.astype(np.float32)
        if "embedding.weight" not in weights and "weights" in weights:
            self.table *= weights["weights"].astype(np.float32)[:, None]
        self.tokenizer = model.tokenizer()

    def encode(self, texts: list[str], progress: Tell) -> NDArray[np.float32]:
        """See `Session`; a text without tokens is a vector of zeros."""
        import numpy as np

        vectors = np.zeros((len(texts), self.table.shape[1]), dtype=np.float32)
        for start in range(0, len(texts), 256):
            part = self.tokenizer.encode_batch_fast(texts[start : start + 256], add_special_tokens=False)
            for row, encoding in enumerate(part, start=start):
                if encoding.ids:
                    vectors[row] = self.table[encoding.ids].mean(axis=0)
            progress(len(part))
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
