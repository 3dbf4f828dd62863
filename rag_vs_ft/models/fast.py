"""Generation on a CPU by OpenVINO: from the same weights, prompt tokens and choice of tokens, in less time.

The loaded torch model is traced once with its key-value cache as state, its large matrices are rounded to 8 bits, and the result
is kept in the cache folder. So whatever loads can be answered from fast: hub models, our runs, merged adapters. Torch reads the
prompt and OpenVINO, given its keys and values, the tokens of the answer. Both only turn tokens into logits: sampling, stop
strings and streaming are `models.generation`'s for both engines.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from rag_vs_ft import files, settings
from rag_vs_ft.conversions import NAMED, conversion
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.folders import first_line
from rag_vs_ft.models.language_model import Engine, LanguageModel
from rag_vs_ft.progress import Progress, silent

INSTALL = "pip install 'rag-vs-ft[fast]'"
SMALL = 1 << 15
"""Matrices of fewer numbers stay float32: there is no time to win."""
GROUP = 64
"""Weights along an input that share a scale; where the inputs cannot be divided so, all of an output share one."""
READ_AT_ONCE = 512
"""Prompt tokens of one call: bounds the memory, and how long an interrupt waits."""
KEPT_CONTEXTS = 2
"""Contexts kept after their answers, so that of a prompt with the same beginning only the rest is read."""
KEPT_BYTES = 1 << 29
"""Keys and values above which a context is emptied after its answer instead of kept."""
KEPT_CONVERSIONS = 4
DEVIATION = 0.1
"""Distance from torch's logits, as a share of their spread, above which a converted model is not used."""
_VERSION = 1


class Unsupported(Exception):
    """Why OpenVINO cannot answer from a model; the text goes into a notice."""


def attach(lm: LanguageModel, engine: str, progress: Progress = silent) -> tuple[Engine | None, tuple[str, ...]]:
    """The OpenVINO engine for `lm`, or None and the notices that say why not.

    `engine` is "transformers" (never), "openvino" (wanted: a notice when it cannot be) or "auto": on a CPU where it is
    installed, else transformers silently, since nobody asked for it. `progress` reports a conversion.
    """
    if engine == "transformers":
        return None, ()
    installed = importlib.util.find_spec("openvino") is not None
    if engine == "auto" and not (installed and lm.device == "cpu"):
        return None, ()
    try:
        if not installed:
            raise Unsupported(f"it is not installed ({INSTALL})")
        if lm.device != "cpu":
            raise Unsupported(f"the model is on {lm.device}, and it is used on CPUs only")
        if lm.dtype != "float32":
            raise Unsupported(f"the weights are {lm.dtype}, and only float32 is converted")
        return OpenVino(_converted(lm, progress), lm.threads, _reader(lm)), ()
    except Unsupported as reason:
        return None, (f"transformers answers instead of OpenVINO: {reason}",)


class OpenVino:
    """A model compiled for this CPU. `name` says engine and weights, as answers record it.

    `reader`, the torch model that it was made from, reads prompts where it is given: torch is faster over many tokens at once.
    """

    def __init__(self, folder: Path, threads: int, reader: Any = None) -> None:
        openvino = _import_openvino()
        core = openvino.Core()
        try:
            model = core.read_model(folder / "model.xml")
            self._compiled = core.compile_model(model, "CPU", _options(threads))
        except RuntimeError as error:
            raise Unsupported(f"{folder} cannot be compiled ({first_line(error)}); delete it to have it made again") from error
        nodes = model.get_ops()
        rounded = any(node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.i8 for node in nodes)
        self.name = "openvino int8" if rounded else "openvino float32"
        states = [node.get_output_partial_shape(0) for node in nodes if node.get_type_name() == "ReadValue"]
        self._kept_tokens = KEPT_BYTES // sum(4 * heads.get_length() * size.get_length() for _, heads, _, size in states)
        self._reader = reader
        self._lock = threading.Lock()
        self._contexts: list[OpenVinoCache] = []

    @contextmanager
    def context(self, ids: Sequence[int]) -> Iterator[OpenVinoCache]:
        """A context for nobody else that has read as much of `ids`, less the last, as one kept from before; kept again after."""
        with self._lock:
            shared = [_shared(context.ids, ids) for context in self._contexts]
            if shared and (len(shared) == KEPT_CONTEXTS or 2 * max(shared) >= len(ids)):
                context = self._contexts.pop(shared.index(max(shared)) if 2 * max(shared) >= len(ids) else 0)
            else:
                context = OpenVinoCache(self._compiled.create_infer_request(), self._reader)
        context.rewind(_shared(context.ids, ids[:-1]))
        try:
            yield context
        finally:
            # With a reader, what OpenVINO wrote is forgotten: the same prompt is then read alike whatever was asked before.
            kept = context.ids_by_reader if self._reader is not None else len(context.ids)
            context.rewind(0 if len(context.ids) > self._kept_tokens else min(kept, len(context.ids)))
            with self._lock:
                self._contexts = [*self._contexts, context][-KEPT_CONTEXTS:]


class OpenVinoCache:
    """Tokens that were read (`ids`), as keys and values; the first `ids_by_reader` of them were read by torch."""

    def __init__(self, request: Any, reader: Any = None) -> None:
        self.ids: list[int] = []
        self.ids_by_reader = 0
        self._request = request
        self._reader = reader

    def rewind(self, count: int) -> None:
        """Forget all but the first `count` tokens."""
        import numpy as np

        if not count:
            self._request.reset_state()
        elif count == len(self.ids):
            return
        else:
            openvino = _import_openvino()
            for state in self._request.query_state():
                state.state = openvino.Tensor(np.ascontiguousarray(state.state.data[:, :, :count]))
        self.ids = self.ids[:count]
        self.ids_by_reader = min(self.ids_by_reader, count)

    def read(self, ids: Sequence[int]) -> Any:
        """Read `ids` on; float32 logits of the token after them, a torch tensor of shape [1, rows of the embedding]."""
        import numpy as np
        import torch

        try:
            if self._reader is not None and len(ids) > 1 and len(self.ids) == self.ids_by_reader:
                self._read_by_torch(ids[:-1])
                ids = ids[-1:]  # always by OpenVINO, so that a prompt asked again has the same first token
            for start in range(0, len(ids), READ_AT_ONCE):
                part = ids[start : start + READ_AT_ONCE]
                self._request.infer({"input_ids": np.array([part], dtype=np.int64), "beam_idx": np.zeros(1, dtype=np.int32)})
                self.ids.extend(part)
        except BaseException as error:
            self.rewind(0)  # what was read of them is not known
            if not isinstance(error, RuntimeError):
                raise
            raise UserError(f"OpenVINO failed: {first_line(error)}", "try again with --engine transformers") from error
        return torch.from_numpy(self._request.get_tensor("logits").data.copy())

    def _read_by_torch(self, ids: Sequence[int]) -> None:
        """Let torch read `ids` on and hand its keys and values over; those of number n are variables "past.n..."."""
        import torch
        from transformers import DynamicCache

        openvino = _import_openvino()
        states = {int(state.name.removeprefix("past.").partition("present.")[0]): state for state in self._request.query_state()}
        cache = DynamicCache(config=self._reader.config)
        if self.ids:
            for number, layer in enumerate(cache.layers):
                keys, values = (torch.from_numpy(states[2 * number + part].state.data.copy()) for part in (0, 1))
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values
        with torch.inference_mode():
            for start in range(0, len(ids), READ_AT_ONCE):
                part = torch.tensor([ids[start : start + READ_AT_ONCE]])
                self._reader(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1)
        for number, layer in enumerate(cache.layers):
            states[2 * number].state = openvino.Tensor(layer.keys.contiguous().numpy())
            states[2 * number + 1].state = openvino.Tensor(layer.values.contiguous().numpy())
        self.ids.extend(ids)
        self.ids_by_reader = len(self.ids)


def _reader(lm: LanguageModel) -> Any:
    """The torch model, where its cache holds all that it has read; None where a layer keeps a window of it only."""
    from transformers import DynamicCache

    return None if any(layer.is_sliding for layer in DynamicCache(config=lm.model.config).layers) else lm.model


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))


def _options(threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 on CPUs that have it
        "KV_CACHE_PRECISION": "f32",  # 8 bits by default
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # by default activations are rounded to 8 bits
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


def _import_openvino() -> Any:
    """The package without its telemetry, which reports the import alone to its makers unless the user has opted out."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # openvino takes its own stub where this is missing
    try:
        import openvino
    except (ImportError, OSError) as error:  # no wheel for this machine's libraries
        raise Unsupported(f"it cannot be imported ({first_line(error)})") from error
    return openvino


def _converted(lm: LanguageModel, progress: Progress = silent) -> Path:
    """The folder of the converted model, made when it is missing or damaged; those used longest ago are deleted."""
    folders = settings.cache_folder() / "openvino"

    def make(folder: Path, _: Path) -> None:
        progress("convert", detail=f"{lm.name} is converted for OpenVINO, once")
        _convert(lm, folder)

    try:
        target = conversion("openvino", _key(lm), make)
    except OSError as error:
        raise Unsupported(f"it cannot be kept in {folders}: {error.strerror or error}") from error
    with suppress(OSError):  # a cache that can only be read is used as it is
        target.touch()
        kept = sorted(folders.glob(NAMED), key=lambda folder: folder.stat().st_mtime)
        for folder in kept[:-KEPT_CONVERSIONS]:
            files.discard(folder)
    return target


def _key(lm: LanguageModel) -> str:
    """Names a conversion by what decides it: versions, configuration, and a sample of the weights as they are in memory.

    The hash of the files would not do: a merged adapter's scale is not in them.
    """
    config = {key: value for key, value in lm.model.config.to_dict().items() if key != "_name_or_path"}
    parts = [
        _VERSION,
        GROUP,
        SMALL,
        config,
        lm.weights_sha256,
        *(metadata.version(name) for name in ("openvino", "transformers")),
    ]
    found = [json.dumps(parts, sort_keys=True, default=str).encode()]
    for name, weight in lm.model.state_dict().items():
        flat = weight.detach().flatten()
        found.append(f"{name} {tuple(weight.shape)}".encode() + flat[:: max(1, len(flat) // 4096)].numpy().tobytes())
    return files.sha256(b"".join(found))[:32]


def _convert(lm: LanguageModel, folder: Path) -> None:
    """Trace, round, compare with torch, save."""
    openvino = _import_openvino()
    try:
        with settings.MODEL_LOADING, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of what is meant to be so
            model = _round_weights(_traced(openvino, lm.model))
            openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    except Exception as error:  # whatever an architecture does that tracing cannot follow
        raise Unsupported(
            f"models of type {lm.model.config.model_type} cannot be converted ({type(error).__name__}: {first_line(error)})"
        ) from error
    deviation = _deviation(lm, OpenVino(folder, lm.threads))
    if not deviation <= DEVIATION:
        raise Unsupported(f"the converted model is not the same (its logits are off by {deviation:.2g} of their spread)")


def _traced(openvino: Any, model: Any) -> Any:
    """The model as a graph (input_ids [1, n], beam_idx [1]) -> logits [1, vocabulary], with keys and values as state."""
    import torch
    from transformers import DynamicCache

    class Step(torch.nn.Module):
        """New tokens, then keys and values of those before -> logits, then keys and values of all."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, *past: Any) -> tuple[Any, ...]:
            cache = DynamicCache(config=model.config)
            for layer, keys, values in zip(cache.layers, past[::2], past[1::2], strict=True):
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values
            before = past[0].shape[2]
            positions = torch.arange(before, before + input_ids.shape[1])
            visible = torch.arange(before + input_ids.shape[1])[None] <= positions[:, None]
            logits = self.model(
                input_ids=input_ids,
                position_ids=positions[None],
                attention_mask=visible[None, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            return (logits[:, -1], *(part for layer in cache.layers for part in (layer.keys, layer.values)))

    with torch.no_grad():
        start = DynamicCache(config=model.config)
        model(input_ids=torch.zeros((1, 3), dtype=torch.long), past_key_values=start, use_cache=True)
        past = [part for layer in start.layers for part in (layer.keys, layer.values)]
        traced = openvino.convert_model(Step(), example_input=(torch.zeros((1, 2), dtype=torch.long), *past))
    return _stateful(openvino, traced, [tuple(part.shape) for part in past])


def _stateful(openvino: Any, traced: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Keys and values as variables of the model, empty at first."""
    import numpy as np
    from openvino import opset13 as ops
    from openvino.passes import MakeStateful, Manager

    ids, *past = traced.inputs
    ids.get_tensor().set_names({"input_ids"})
    ids.get_node().set_partial_shape(openvino.PartialShape([1, -1]))
    logits, *present = traced.outputs
    logits.get_tensor().set_names({"logits"})
    # There is one beam, but attention is fused with the cache only where beams are put in order.
    beam = ops.parameter([1], openvino.Type.i32)
    beam.output(0).get_tensor().set_names({"beam_idx"})
    pairs = {}
    for number, (before, after, (_, heads, _, size)) in enumerate(zip(past, present, shapes, strict=True)):
        before.get_tensor().set_names({f"past.{number}"})
        after.get_tensor().set_names({f"present.{number}"})
        pairs[f"past.{number}"] = f"present.{number}"
        before.get_node().set_partial_shape(openvino.PartialShape([1, heads, -1, size]))
        consumers = before.get_target_inputs()
        ordered = ops.gather(before, beam, ops.constant(0))
        for consumer in consumers:
            consumer.replace_source_output(ordered.output(0))
    traced.add_parameters([beam])
    traced.validate_nodes_and_infer_types()
    manager = Manager()
    manager.register_pass(MakeStateful(pairs))
    manager.run_passes(traced)
    for node in traced.get_ops():
        if node.get_type_name() == "ReadValue":
            _, heads, _, size = node.get_output_partial_shape(0)
            empty = np.zeros((1, heads.get_length(), 0, size.get_length()), dtype=np.float32)
            node.set_arguments([ops.constant(empty).output(0)])
    traced.validate_nodes_and_infer_types()
    return traced


def round_weights(weights: Any) -> tuple[Any, Any]:
    """A float32 matrix [outputs, inputs] as int8 of shape [outputs, groups, inputs of a group], and their float16 scales."""
    import numpy as np

    outputs, inputs = weights.shape
    grouped = weights.reshape(outputs, -1, GROUP if inputs % GROUP == 0 else inputs)
    scales = (np.maximum(np.abs(grouped).max(axis=2, keepdims=True), 1e-5) / 127).astype(np.float16)
    return np.rint(grouped / scales.astype(np.float32)).clip(-127, 127).astype(np.int8), scales


def _round_weights(model: Any) -> Any:
    """Put 8-bit weights in the place of every large matrix that vectors are multiplied with or taken from."""
    import numpy as np
    from openvino import opset13 as ops

    done: dict[str, Any] = {}  # a matrix may be embedding and output at once
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("MatMul", "Gather"):
            continue
        multiplied = node.get_type_name() == "MatMul"
        constant = node.input_value(1 if multiplied else 0).get_node()
        if constant.get_type_name() != "Constant" or len(constant.shape) != 2 or constant.data.size < SMALL:
            continue
        turned = multiplied and not node.get_attributes()["transpose_b"]  # GPT-2 keeps [inputs, outputs]
        name = f"{constant.get_friendly_name()} {turned}"
        if name not in done:
            weights = constant.data.T if turned else constant.data
            rounded, scales = round_weights(weights)
            wide = ops.multiply(ops.convert(ops.constant(rounded), "f16"), ops.constant(scales))
            done[name] = ops.convert(ops.reshape(wide, ops.constant(np.array(weights.shape)), False), "f32")
        if turned:
            consumers = node.output(0).get_target_inputs()
            product = ops.matmul(node.input_value(0), done[name], node.get_attributes()["transpose_a"], True)
            for consumer in consumers:
                consumer.replace_source_output(product.output(0))
        else:
            node.input(1 if multiplied else 0).replace_source_output(done[name].output(0))
    model.validate_nodes_and_infer_types()
    return model


def _deviation(lm: LanguageModel, engine: OpenVino) -> float:
    """Largest distance of the engine's logits from torch's, at the ends of three pieces in which a text is read."""
    import torch

    ids = [number * 7919 % len(lm.tokenizer) for number in range(1, 33)]
    with torch.inference_mode():
        logits = lm.model(input_ids=torch.tensor([ids])).logits[0].float().numpy()
    with engine.context(ids) as context:
        found = {end: context.read(ids[start:end])[0].numpy() for start, end in ((0, 25), (25, 26), (26, 32))}
    return max(float((row - logits[end - 1]).std() / (logits[end - 1].std() + 1e-6)) for end, row in found.items())
