"""GGUF, the file format of llama.cpp, to a Hugging Face folder: config, safetensors weights, tokenizer, generation config.

transformers reads the file. What it would pass over in silence (a tensor without a place, a rule of positions or of splitting
text that it does not know) is looked for here, and such a file is refused.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rag_vs_ft.errors import UserError
from rag_vs_ft.sentencepieces import as_sentencepiece

_SPLITS_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r"})
"""llama.cpp's names of pre-tokenizers that take each digit alone before GPT-2's own splitting of words."""
_SPLITS_AS_GPT2 = frozenset({"gpt-2", "phi-2", "olmo", "mpt"})
_ELSEWHERE = "give a folder with safetensors weights, or a GGUF of another kind"
_AGAIN = "fetch the file again"
_DIVISORS = "rope_freqs.weight"
"""A tensor that is no weight: what Llama 3 divides each of its rotary frequencies by."""
_BYTE = 6
"""The kind of token that is a byte, by the numbers that GGUF and SentencePiece share."""
_MEMORY = 6.5
"""Bytes that converting takes for each number of a model (3.9 GB for 0.63 billion, measured)."""
_CHECK_TEXTS = (
    "The pump stops when the tank is full.",
    " two  spaces,   three",
    "tab\tand\nlines\n\nhere\r\n",
    "12345.678 + 90% = v1.29.3",
    "don't we'll I'M",
    "kubectl get pods -n kube-system --selector=app=web | grep -v 'Running'",
    "Ein Schlüssel, naïve café, Ωmega, 鍵を三回, ключ, مفتاح, 🔑🙂",
    'def f(x):\n    return {"a": [x, x**2]}  # note',
    "A" * 40,
    "",
    " ",
)
"""Texts that a converted tokenizer is tried on."""


def convert(source: Path, target: Path, limit: int | None = None) -> None:
    """Write the model of the GGUF file `source` to the folder `target` in float32, every value as the GGUF has it.

    Any architecture and quantisation that transformers reads. `limit` is the memory there is, in bytes (None: not known).
    Raises UserError, naming the reason, when the file is damaged or no GGUF, when transformers does not read its kind, when it
    has more than transformers would take over, when it is too large, and when the converted tokenizer is not the file's.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    header = _Header.read(source)
    needed = _MEMORY * header.numbers
    if limit is not None and needed > limit:
        raise UserError(
            f"{header.title} takes {needed / 1e9:.1f} GB of memory to convert, and {limit / 1e9:.1f} GB are there",
            "use a smaller model, or serve it and name the server: --model http://127.0.0.1:8080/v1#NAME",
        )
    where = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name, "local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(**where)
        header.complete(config)
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be turned off; errors are raised, not printed
            read, loading = AutoModelForCausalLM.from_pretrained(
                **where, config=config, dtype=torch.float32, output_loading_info=True
            )
        # A model read from a GGUF refuses to be saved, so its weights go into one that was not. Transformers notes the GGUF as a
        # way to quantise, and would refuse to train the float32 weights that are saved.
        read.config.__dict__.pop("quantization_config", None)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    except UserError:
        raise
    except Exception as error:  # readers of many architectures, each with its own exceptions
        raise UserError(f"{header.title} cannot be read by transformers: {_first_line(error)}", _ELSEWHERE) from error
    if broken := [*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])]:
        raise UserError(f"{header.title} lacks {len(broken)} tensors of its model, such as {sorted(broken)[0]}", _ELSEWHERE)
    header.require_all_read(sum(parameter.numel() for parameter in read.parameters()))
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    ends = [header.fields.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")]
    model.generation_config = GenerationConfig(
        bos_token_id=header.fields.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=list(dict.fromkeys(token for token in ends if token is not None)) or None,
        pad_token_id=header.fields.get("tokenizer.ggml.padding_token_id"),
    )
    model.save_pretrained(target)
    _convert_tokenizer(header, where, target, config.max_position_embeddings)


class _Header:
    """What a GGUF says of itself: `fields` by key, and `tensors` as gguf's reader gives them (their data is not read)."""

    def __init__(self, source: Path, fields: Mapping[str, Any], tensors: Sequence[Any]) -> None:
        self.source, self.fields, self.tensors = source, fields, tensors
        self.architecture = str(fields.get("general.architecture"))
        kinds = dict.fromkeys(tensor.tensor_type.name for tensor in tensors)
        self.numbers = sum(int(tensor.n_elements) for tensor in tensors if tensor.name != _DIVISORS)
        self.title = f"{source.name} (GGUF, architecture {self.architecture!r}, {', '.join(kinds)})"

    @classmethod
    def read(cls, source: Path) -> _Header:
        """The header, checked. Raises UserError when it is damaged, or of a kind that is not read."""
        from gguf import GGUFReader
        from transformers.integrations.gguf import read_gguf_metadata

        arrays = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")
        try:
            # First by the reader that stops at the end of the file, whatever counts the header states.
            fields, _ = read_gguf_metadata(str(source), arrays)
        except OSError as error:
            raise UserError(f"cannot read {source}: {error.strerror or error}", "check the path and its permissions") from error
        except (ValueError, struct.error, OverflowError, MemoryError) as error:
            raise UserError(f"{source} is not a GGUF file, or is cut short: {_first_line(error)}", _AGAIN) from error
        if int(fields.get("split.count", 1)) > 1:
            raise UserError(
                f"{source.name} is one of {fields['split.count']} parts of a GGUF",
                "join them first, with llama-gguf-split of llama.cpp",
            )
        try:
            header = cls(source, fields, GGUFReader(source).tensors)
        except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError) as error:
            unknown = re.search(r"(?<!\d)(\d+)\)? is not a valid GGMLQuantizationType", str(error))
            if unknown:
                raise UserError(f"{source.name} has tensors of an unknown quantisation ({unknown[1]})", _ELSEWHERE) from error
            raise UserError(
                f"{source} holds less than its header says: it is cut short, or the header is wrong ({_first_line(error)})",
                _AGAIN,
            ) from error
        header._require_sizes()
        header._require_quantisations()
        return header

    def _require_sizes(self) -> None:
        """Refuse sizes that no model with these tensors has: building it would take the memory they ask for."""
        size = self.source.stat().st_size
        for tensor in self.tensors:
            if int(tensor.data_offset) + int(tensor.n_bytes) > size:
                raise UserError(f"{self.source} ends within its tensor {tensor.name}", _AGAIN)
        blocks = {tensor.name.split(".")[1] for tensor in self.tensors if tensor.name.startswith("blk.")}
        largest = max((int(side) for tensor in self.tensors for side in tensor.shape), default=0)
        for key, most in (
            ("block_count", len(blocks)),
            ("embedding_length", largest),
            ("feed_forward_length", largest),
            ("attention.head_count", largest),
            ("attention.key_length", largest),
            ("vocab_size", largest),
            ("context_length", 1 << 30),
        ):
            value = self.fields.get(f"{self.architecture}.{key}", most)
            values = value if isinstance(value, list) else [value]
            if any(type(one) is not int or not 0 <= one <= most for one in values) or values == [0]:
                raise UserError(f"{self.title} says {key} is {value!r:.60}, and its tensors have no room for that", _AGAIN)

    def _require_quantisations(self) -> None:
        import numpy as np
        from gguf import GGML_QUANT_SIZES
        from gguf.quants import dequantize

        for kind in {tensor.tensor_type for tensor in self.tensors}:
            try:
                dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8), kind)
            except (NotImplementedError, KeyError, ValueError) as error:
                raise UserError(
                    f"{self.source.name} has tensors of the quantisation {kind.name}, which is not read", _ELSEWHERE
                ) from error

    def complete(self, config: Any) -> None:
        """Put into `config` what the file states and transformers passes over, for all architectures or for some."""
        for key, name in (
            ("context_length", "max_position_embeddings"),
            ("attention.key_length", "head_dim"),
            ("attention.sliding_window", "sliding_window"),
            ("attn_logit_softcapping", "attn_logit_softcapping"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ):
            value = self.fields.get(f"{self.architecture}.{key}")
            if value is not None and hasattr(config, name):
                setattr(config, name, value)
        self._complete_positions(config)

    def _complete_positions(self, config: Any) -> None:
        import numpy as np
        import torch

        rule = self.fields.get(f"{self.architecture}.rope.scaling.type", "none")
        known = dict(getattr(config, "rope_parameters", None) or {})
        if known and (base := self.fields.get(f"{self.architecture}.rope.freq_base")):
            config.rope_parameters = known = known | {"rope_theta": base}
        if rule != "none" and known.get("rope_type", "default") == "default":
            raise UserError(f"{self.title} stretches its positions by {rule!r}, which is not read", _ELSEWHERE)
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        turned = self.fields.get(f"{self.architecture}.rope.dimension_count", width)
        if known and turned != int(width * known.get("partial_rotary_factor", 1.0)):
            raise UserError(f"{self.title} turns {turned} of {width} dimensions by position, which is not read", _ELSEWHERE)
        factors = next((tensor.data for tensor in self.tensors if tensor.name == _DIVISORS), None)
        if factors is None:
            return
        # Llama 3 writes what its rule comes to, a divisor for each frequency: the rule is found again and compared.
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        config.rope_parameters = known | {
            "rope_type": "llama3",
            "factor": float(np.max(factors)),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8_192,
        }
        plain = 1.0 / (known["rope_theta"] ** (np.arange(0, width, 2) / width))
        ruled = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))[0].numpy()
        if ruled.shape != factors.shape or not np.allclose(plain / factors, ruled, rtol=1e-3):
            raise UserError(f"{self.title} changes its positions by {_DIVISORS} in a way that is not known", _ELSEWHERE)

    def require_all_read(self, numbers: int) -> None:
        """Refuse a file that has more than the `numbers` of the model made from it."""
        if self.numbers > numbers:
            usual = re.compile(r"(blk\.\d+\..*|token_embd|output|output_norm|position_embd)\.(weight|bias)")
            odd = [tensor.name for tensor in self.tensors if not usual.fullmatch(tensor.name)]
            raise UserError(
                f"{self.title} has {self.numbers:,} numbers, and transformers takes {numbers:,} of them"
                + (f"; perhaps not {odd[0]}" if odd else ""),
                _ELSEWHERE,
            )


# --- the tokenizer ----------------------------------------------------------------------------------------------------


def _convert_tokenizer(header: _Header, where: Mapping[str, Any], target: Path, window: int) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    kind, splits = (str(header.fields.get(f"tokenizer.ggml.{key}", "")) for key in ("model", "pre"))
    by_pieces = kind in ("llama", "gemma4")
    known = {*GGUF_PRE_TOKENIZER_SPLITS, *_SPLITS_DIGITS, *_SPLITS_AS_GPT2}
    if kind == "gpt2" and splits not in known and (splits or header.architecture != "gpt2"):
        how = f"by {splits!r}" if splits else "in a way that it does not state (llama.cpp's converter was too old)"
        raise UserError(f"{header.title}: its tokenizer splits text {how}, which is not known", _ELSEWHERE)
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        if splits in _SPLITS_DIGITS:
            # transformers does not read this name: without it "  12" is split otherwise than when the model was trained.
            tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            )
        tokenizer.model_max_length = window
        if by_pieces:
            tokenizer = as_sentencepiece(tokenizer)
        tokenizer.save_pretrained(target)
        converted = AutoTokenizer.from_pretrained(target, local_files_only=True)
    except Exception as error:  # parsers of several formats, each with its own exceptions
        raise UserError(f"{header.title}: its tokenizer cannot be read: {_first_line(error)}", _ELSEWHERE) from error
    if difference := _difference(header, converted, by_pieces):
        raise UserError(f"{header.title}: the converted tokenizer is not the file's: {difference}", _ELSEWHERE)


def _difference(header: _Header, tokenizer: Any, by_pieces: bool) -> str:
    """How a converted tokenizer differs from the file's own vocabulary, merges and start token, or ""."""
    tokens = header.fields["tokenizer.ggml.tokens"]
    own = tokenizer.convert_ids_to_tokens(range(len(tokens)))
    spelled = {" ": "▁"} if by_pieces else {}
    for token, (mine, its) in enumerate(zip(own, tokens, strict=True)):
        if mine != its and mine != its.translate(str.maketrans(spelled)) and mine != _in_bytes(its):
            return f"token {token} is {mine!r} and should be {its!r}"
    if len(tokenizer) != len(tokens):
        return f"it has {len(tokenizer)} tokens, and the file {len(tokens)}"
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if (merges := header.fields.get("tokenizer.ggml.merges")) is not None:
        pairs = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model.get("merges", ())]
        if pairs != [tuple(merge.split(" ")) for merge in merges]:
            return "its merges are others"
    begins = tokenizer("a").input_ids[:1] == [header.fields.get("tokenizer.ggml.bos_token_id")]
    if begins != bool(header.fields.get("tokenizer.ggml.add_bos_token", by_pieces)):
        return f"it {'puts' if begins else 'does not put'} the start token before a text"
    encode = _sentencepiece(header) if by_pieces and header.architecture == "llama" else None
    for text in _CHECK_TEXTS:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        if encode and ids != encode(text):
            return f"{text[:40]!r} becomes {ids[:8]}..., and by SentencePiece {encode(text)[:8]}..."
        if not by_pieces and tokenizer.decode(ids, clean_up_tokenization_spaces=False) != text:
            return f"{text[:40]!r} does not come back as it was"
    return ""


def _in_bytes(token: str) -> str:
    """A token as byte-level vocabularies spell it."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    spelling = bytes_to_unicode()
    return "".join(spelling[byte] for byte in token.encode())


def _sentencepiece(header: _Header) -> Any:
    """A function that encodes a text by the sentencepiece library, from the file's own pieces."""
    import sentencepiece
    from gguf import GGUFReader
    from sentencepiece import sentencepiece_model_pb2

    fields = GGUFReader(header.source).fields
    pieces = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made when it is imported
    scores, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("scores", "token_type"))
    for token, score, kind in zip(header.fields["tokenizer.ggml.tokens"], scores, kinds, strict=True):
        pieces.pieces.add(piece=token, score=score, type=kind)
    pieces.trainer_spec.model_type = 2  # BPE
    pieces.trainer_spec.byte_fallback = any(kind == _BYTE for kind in kinds)
    pieces.normalizer_spec.name = "identity"
    pieces.normalizer_spec.add_dummy_prefix = bool(header.fields.get("tokenizer.ggml.add_space_prefix", True))
    pieces.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=pieces.SerializeToString()).encode


def _first_line(error: BaseException) -> str:
    return next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), type(error).__name__)
