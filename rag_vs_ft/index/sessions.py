"""What runs an embedding model: sentence-transformers, onnxruntime, or a table of vectors. All embed alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from rag_vs_ft.errors import UserError
from rag_vs_ft.index.sentence_model import SentenceModel

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

Tell = Callable[[int], None]
"""Called with the number of texts that were embedded since the last call."""


class Session(Protocol):
    """A loaded model."""

    def encode(self, texts: list[str], prompt: str, progress: Tell) -> NDArray[np.float32]:
        """Texts, each with `prompt` before it -> array (len(texts), the model's dimension), rows of length 1."""


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

    def encode(self, texts: list[str], prompt: str, progress: Tell) -> NDArray[np.float32]:
        """See `Session`."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        with self._lock:
            for start in range(0, len(texts), 256):
                part = texts[start : start + 256]
                vectors[start : start + len(part)] = self.model.encode(
                    part, prompt=prompt, batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
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
            self.session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["SkipLayerNormFusion"],  # it would undo `export._split_normalisation`
            )
        except Exception as error:  # onnxruntime has an exception class for each kind of failure, without a common root
            raise UserError(f"cannot read {path}: {error}", "remove that file: it is made again") from error
        self.threads = threads
        self.dimension = model.dimension
        self.tokenizer = model.tokenizer()
        self.tokenizer.enable_truncation(model.window)

    def encode(self, texts: list[str], prompt: str, progress: Tell) -> NDArray[np.float32]:
        """See `Session`."""
        import numpy as np

        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast([prompt + text for text in texts])]
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

    def encode(self, texts: list[str], prompt: str, progress: Tell) -> NDArray[np.float32]:
        """See `Session`; a text without tokens is a vector of zeros."""
        import numpy as np

        vectors = np.zeros((len(texts), self.table.shape[1]), dtype=np.float32)
        for start in range(0, len(texts), 256):
            part = [prompt + text for text in texts[start : start + 256]]
            encoded = self.tokenizer.encode_batch_fast(part, add_special_tokens=False)
            for row, encoding in enumerate(encoded, start=start):
                if encoding.ids:
                    vectors[row] = self.table[encoding.ids].mean(axis=0)
            progress(len(part))
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
