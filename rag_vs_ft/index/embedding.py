"""Texts -> unit vectors, by a sentence-transformers model, as fast as the machine allows.

Two precisions give the same interface. `fp32` is sentence-transformers as it is. `int8` runs the same model, exported once, with
its weights and activations in 8 bits under onnxruntime: about three times as fast on a CPU with VNNI instructions, at a mean
cosine of 0.99 to fp32. Which one made an index is in its manifest, and queries are embedded by the same one.

On a CPU each text goes through the model alone. A batch would scale the activations of all its texts together: the same text
would have another vector, at a cosine of 0.99, in each batch, and an updated index would not be that of a build from nothing.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import catalogue, settings
from rag_vs_ft.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

PRECISIONS = ("auto", "int8", "fp32")
VERSION = 2
"""Raised whenever the same text and model would give another vector; 1 embedded int8 in batches."""

QUERY_CACHE = 1_024
"""Query vectors kept in memory (384 floats each): repeated questions cost nothing."""


@dataclass(frozen=True, slots=True)
class EmbedderId:
    """What decides a vector: the model's name, the SHA-256 of its weights, its dimension, its window and the precision."""

    name: str
    sha256: str
    dimension: int
    max_tokens: int
    precision: str

    def to_json(self) -> dict[str, Any]:
        """What an index manifest records of the embedder."""
        return asdict(self)


def has_int8_instructions() -> bool:
    """Whether this CPU multiplies 8-bit integers in one instruction (AVX-VNNI or AVX512-VNNI), by what Linux says of it."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


class Embedder:
    """A loaded embedding model. Weights are read on first use; `encode` may be called from several threads."""

    def __init__(self, name: str = settings.EMBEDDER, *, precision: str = "auto", threads: int | None = None) -> None:
        if precision not in PRECISIONS:
            raise UserError(f"precision {precision!r} is not known", f"use one of {', '.join(PRECISIONS)}")
        self.name = name
        self.folder = catalogue.locate(name)
        self.threads = threads or settings.threads()
        self._lock = threading.Lock()
        self._queries: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._precision = precision
        if not (self.folder / "modules.json").is_file():
            raise UserError(
                f"{name} is no sentence-transformers model: {self.folder} has no modules.json",
                "name an embedding model, for example all-minilm-l6-v2 (see `rag-vs-ft models list`)",
            )

    @cached_property
    def id(self) -> EmbedderId:
        """Identity of the vectors this embedder makes; reads configuration files and hashes the weights, loads no model."""
        config = _read_json(self.folder / "config.json")
        window = _read_json(self.folder / "sentence_bert_config.json", missing={}).get("max_seq_length")
        return EmbedderId(
            name=self.name,
            sha256=_weights_sha256(self.folder),
            dimension=int(config["hidden_size"]),
            max_tokens=int(window or config["max_position_embeddings"]),
            precision=self.precision,
        )

    @cached_property
    def precision(self) -> str:
        """What `auto` came to: half precision is sentence-transformers' own affair on a GPU, int8 where the CPU gains by it."""
        if self._precision != "auto":
            return self._precision
        import torch

        return "fp16" if torch.cuda.is_available() else "int8" if has_int8_instructions() else "fp32"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer without truncation or padding, for measuring."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def offsets(self, text: str) -> Sequence[tuple[int, int]]:
        """Character range of each token of `text`, special tokens left out."""
        return self.tokenizer.encode(text, add_special_tokens=False).offsets

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> NDArray[np.float32]:
        """Embed `texts` -> array (len(texts), dimension), rows of length 1; a text over the window is cut by the model.

        `progress` is called with the number of texts done in each step.
        """
        with self._lock:
            return self._session.encode(list(texts), progress or (lambda _: None))

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """Embed one query -> array (dimension,); the last queries are remembered."""
        if (known := self._queries.get(text)) is not None:
            return known
        vector = self.encode([text])[0]
        self._queries[text] = vector
        while len(self._queries) > QUERY_CACHE:
            self._queries.popitem(last=False)
        return vector

    @cached_property
    def _session(self) -> _TorchSession | _OnnxSession:
        with settings.MODEL_LOADING:
            if self.precision == "int8":
                return _OnnxSession(_int8_model(self.folder, self.id), self)
            return _TorchSession(self.folder, half=self.precision == "fp16", threads=self.threads)


class _TorchSession:
    """sentence-transformers, in fp32 on a CPU and in half precision on a GPU."""

    def __init__(self, folder: Path, *, half: bool, threads: int) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(str(folder), device="cuda" if half else "cpu", local_files_only=True)
        self.batch_size = 256 if half else 1
        if half:
            self.model = self.model.half()

    def encode(self, texts: list[str], progress: Callable[[int], None]) -> NDArray[np.float32]:
        import numpy as np

        rows = []
        for start in range(0, len(texts), 256):
            part = texts[start : start + 256]
            rows.append(self.model.encode(part, batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False))
            progress(len(part))
        if not rows:
            return np.zeros((0, self.model.get_embedding_dimension() or 0), dtype=np.float32)
        return np.concatenate(rows).astype(np.float32)


class _OnnxSession:
    """The exported model. Texts go through it one by one, as many at a time as there are threads."""

    def __init__(self, path: Path, embedder: Embedder) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        onnxruntime.disable_telemetry_events()
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.threads = embedder.threads
        self.dimension = embedder.id.dimension
        self.tokenizer = type(embedder.tokenizer).from_file(str(embedder.folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(embedder.id.max_tokens)
        self.tokenizer.no_padding()

    def encode(self, texts: list[str], progress: Callable[[int], None]) -> NDArray[np.float32]:
        import numpy as np

        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)

        def embed(row: int) -> int:
            tokens = np.asarray([ids[row]], dtype=np.int64)
            vectors[row] = self.session.run(None, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)})[0][0]
            return 1

        if len(texts) == 1:
            progress(embed(0))
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                for done in pool.map(embed, range(len(texts))):
                    progress(done)
        return vectors


def _int8_model(folder: Path, identity: EmbedderId) -> Path:
    """The model exported to ONNX with 8-bit weights, per channel; made once and kept beside the weights' cache."""
    target = settings.cache_folder() / "onnx" / f"{identity.sha256[:16]}-int8-v{_EXPORT_VERSION}.onnx"
    if not target.is_file():
        import tempfile

        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = _export_int8(folder, Path(scratch))
            made.replace(target)
    return target


_EXPORT_VERSION = 1


def _export_int8(folder: Path, scratch: Path) -> Path:
    import io
    import logging
    import warnings
    from contextlib import ExitStack, redirect_stdout

    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"attn_implementation": "eager"}
    ).eval()

    class Pipeline(torch.nn.Module):
        """All modules of the model, pooling included; then rows of length 1."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model.requires_grad_(False)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": torch.zeros_like(input_ids)}
            return torch.nn.functional.normalize(self.model(features)["sentence_embedding"], dim=1)

    example = torch.ones((2, 8), dtype=torch.long)
    exported, fused, quantised = scratch / "fp32.onnx", scratch / "fused.onnx", scratch / "int8.onnx"
    axes = {0: "batch", 1: "tokens"}
    # The exporters warn at the root logger about what is meant to be so, and their first word to it gives it a handler, through
    # which the debug lines of other libraries would reach the user: level and handlers are put back after.
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    with ExitStack() as quiet, torch.no_grad():
        quiet.enter_context(warnings.catch_warnings())
        quiet.enter_context(redirect_stdout(io.StringIO()))
        quiet.callback(root.setLevel, level)
        quiet.callback(root.handlers.__setitem__, slice(None), handlers)
        root.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Pipeline(),
            (example, example),
            str(exported),
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
        config = _read_json(folder / "config.json")
        merged = optimizer.optimize_model(
            str(exported), "bert", num_heads=config["num_attention_heads"], hidden_size=config["hidden_size"]
        )
        merged.save_model_to_file(str(fused))
        quantize_dynamic(
            str(fused),
            str(quantised),
            per_channel=True,
            weight_type=QuantType.QInt8,
            # Shape inference does not know the fused operators' outputs; all of them are floats.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
    return quantised


def _read_json(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    if missing is not None and not path.is_file():
        return missing
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}", "pull the model again: `rag-vs-ft models pull NAME`") from error


def _weights_sha256(folder: Path) -> str:
    """As recorded when the model was pulled, else computed."""
    recorded = (catalogue.manifest(folder) or {}).get("weights_sha256")
    try:
        return recorded or catalogue.sha256_file(folder / "model.safetensors")
    except OSError as error:
        raise UserError(
            f"cannot read the weights in {folder}: {error}", "pull the model again: `rag-vs-ft models pull NAME`"
        ) from error
