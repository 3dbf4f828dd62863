"""A sentence-transformers model as an ONNX file, in 32 bits or with 8-bit weights and activations; made once and checked.

The whole model is traced, pooling and further modules included, so that any architecture that can be traced goes the same way.
What comes out is compared with sentence-transformers' own vectors of texts of several lengths before it is used.
"""

from __future__ import annotations

import atexit
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag_vs_ft import files
from rag_vs_ft.conversions import conversion
from rag_vs_ft.index.sessions import OnnxSession, load_sentence_transformer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rag_vs_ft.index.sentence_model import SentenceModel

VERSION = 3
"""Raised whenever the same model would give another file."""

LEAST_COSINE = {"fp32": 0.9999, "int8": 0.95}
"""Cosine to sentence-transformers' vectors under which an export is not used."""

_FILE = "model.onnx"
_PROBE = "Which node of the cluster keeps the logs, and for how many days? "


class CannotExport(Exception):
    """This model cannot be exported in this precision; the message is one line for the user."""


def exported(model: SentenceModel, precision: str) -> Path:
    """The ONNX file of `model` in the cache, made when it is missing or damaged.

    Raises CannotExport when the model cannot be traced or rounded, or when its vectors would be others. Where the cache cannot be
    written, the file is made for this process alone, and a warning is logged.
    """
    key = f"{model.weights_sha256[:16]}-{model.layout}-{precision}-v{VERSION}"

    def make(folder: Path, scratch: Path) -> None:
        model.check_weights()
        files.rename(_export(model, precision, scratch), folder / _FILE)
        files.discard(scratch.parent / f"{key}.onnx")  # kept without a checksum by earlier versions

    try:
        return conversion("onnx", key, make) / _FILE
    except OSError as error:
        reason = files.unusable(error).message
        logging.getLogger("rag_vs_ft").warning("%s; the model is converted again at each start", reason)
    scratch = tempfile.mkdtemp(prefix="rag-vs-ft-")
    atexit.register(files.discard, Path(scratch))
    return _export(model, precision, Path(scratch))


def _export(model: SentenceModel, precision: str, scratch: Path) -> Path:
    if model.is_static:
        raise CannotExport("a static model has no network")
    if not model.includes_prompt:
        raise CannotExport("its pooling leaves the prompt out")
    with _quiet():
        import torch

        loaded = load_sentence_transformer(model, "cpu", eager=True)
        texts = probes(model)
        with torch.inference_mode():
            reference = loaded.encode(
                texts, prompt=model.passage_prompt, batch_size=1, normalize_embeddings=True, show_progress_bar=False
            )
        traced = scratch / "traced.onnx"
        try:
            _trace(loaded, traced)
        except Exception as error:  # tracing runs the model's own code, which may raise anything
            raise CannotExport(f"it cannot be traced ({_line(error)})") from error
        reasons = []
        for candidate in (_fused, _plain):
            try:
                path = candidate(loaded, traced, scratch)
                path = path if precision == "fp32" else _rounded(path, scratch)
                cosine = _least_cosine(path, model, texts, reference)
            except OSError:
                raise
            except Exception as error:  # onnxruntime's tools raise anything for a graph that they do not know
                reasons.append(_line(error))
                continue
            if cosine >= LEAST_COSINE[precision]:
                return path
            reasons.append(f"its vectors would be others (cosine {cosine:.3f})")
        raise CannotExport("; ".join(dict.fromkeys(reasons)))


def probes(model: SentenceModel) -> list[str]:
    """Texts of several lengths, the longest about as long as a chunk can be; also an empty one."""
    longest = min(model.window, 600)
    return ["", "a", _PROBE, _PROBE * 3, _PROBE * (longest // 15 + 1)]


def _trace(loaded: Any, target: Path) -> None:
    import torch

    extra = [key for key in loaded.preprocess(["a"]) if key == "token_type_ids"]

    class Pipeline(torch.nn.Module):
        """All modules of the model, pooling included; then rows of length 1."""

        def __init__(self) -> None:
            super().__init__()
            self.model = loaded.requires_grad_(False)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            features |= {key: torch.zeros_like(input_ids) for key in extra}
            return torch.nn.functional.normalize(self.model(features)["sentence_embedding"], dim=1)

    example = torch.ones((2, 8), dtype=torch.long)
    axes = {0: "batch", 1: "tokens"}
    with torch.no_grad():
        torch.onnx.export(
            Pipeline().eval(),
            (example, example),
            str(target),
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )


def _fused(loaded: Any, traced: Path, scratch: Path) -> Path:
    """The graph with attention as a single operator, where onnxruntime knows the architecture."""
    from onnxruntime.transformers import optimizer

    config = loaded[0].auto_model.config
    merged = optimizer.optimize_model(str(traced), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size)
    _split_normalisation(merged)
    merged.save_model_to_file(str(scratch / "fused.onnx"))
    return scratch / "fused.onnx"


def _split_normalisation(merged: Any) -> None:
    """Sum and normalisation as two operators: onnxruntime 1.31 takes seven times as long for the one that does both."""
    from onnx import helper

    for node in list(merged.model.graph.node):
        if node.op_type != "SkipLayerNormalization" or any(node.output[1:]):
            continue
        first, second, scale, *rest = node.input
        shift, bias = (*rest, "", "")[:2]
        parts = [helper.make_node("Add", [first, second], [f"{node.output[0]}.sum"])]
        if bias:
            parts.append(helper.make_node("Add", [parts[-1].output[0], bias], [f"{node.output[0]}.biased"]))
        epsilon = next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == "epsilon"), 1e-5)
        inputs = [parts[-1].output[0], scale, *([shift] if shift else [])]
        parts.append(helper.make_node("LayerNormalization", inputs, [node.output[0]], axis=-1, epsilon=epsilon))
        for part in parts:
            part.name = f"{part.output[0]}.{part.op_type}"
        merged.remove_node(node)
        merged.add_nodes(parts)
    merged.topological_sort()


def _plain(loaded: Any, traced: Path, scratch: Path) -> Path:
    return traced


def _rounded(path: Path, scratch: Path) -> Path:
    """8-bit weights, one scale for each output; activations are scaled anew for each text."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(path),
        str(scratch / "int8.onnx"),
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Shape inference does not know the fused operators' outputs; all of them are floats.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True},
    )
    return scratch / "int8.onnx"


def _least_cosine(path: Path, model: SentenceModel, texts: Sequence[str], reference: NDArray[np.float32]) -> float:
    vectors = OnnxSession(path, model, threads=1).encode(list(texts), model.passage_prompt, lambda _: None)
    return float((vectors * reference).sum(axis=1).min())


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporters print and log from the user.

    They warn at the root logger about what is meant to be so, and their first word to it gives it a handler, through which the
    debug lines of other libraries would reach the user: level and handlers are put back after.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    with ExitStack() as quiet:
        quiet.enter_context(warnings.catch_warnings())
        quiet.enter_context(redirect_stdout(io.StringIO()))
        quiet.callback(root.setLevel, level)
        quiet.callback(root.handlers.__setitem__, slice(None), handlers)
        root.setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        yield
