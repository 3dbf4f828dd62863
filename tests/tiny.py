"""Tiny but real models, saved as the hub lays them out; imported by the tests as `tiny`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rag_vs_ft.records import Chunk, Hit

TEXT = (
    "The pump stops when the tank is full. Open the valve before you start the pump. "
    "Question: When does the pump stop? Answer: When the tank is full.\n\n"
    "Use only the passages to answer the question in one to three sentences. Press the red key twice; wait 30 seconds. "
) * 4
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def save_tokenizer(folder: Path, *, chat: bool) -> int:
    """A byte-level BPE of some 300 tokens; returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=320, special_tokens=control, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>" if chat else "<|endoftext|>", additional_special_tokens=control
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def save_gpt2(folder: Path, *, window: int = 256, seed: int = 1, width: int = 32) -> Path:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    size = save_tokenizer(folder, chat=False)
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=size, n_positions=window, n_embd=width, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    config.initializer_range = 0.3  # far from uniform, so that the best token is a clear one
    GPT2LMHeadModel(config).eval().save_pretrained(folder)
    return folder


def save_llama(folder: Path, *, window: int = 512, seed: int = 2, layers: int = 2) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = save_tokenizer(folder, chat=True)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size,
        max_position_embeddings=window,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    return folder


def save_cross_encoder(folder: Path, *, labels: int = 1, seed: int = 4) -> Path:
    """A BERT that scores pairs of texts, as sentence-transformers saves its CrossEncoder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *".?>"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=128).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        num_labels=labels,
        initializer_range=0.3,
    )
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, base_name: str) -> Path:
    """A LoRA adapter with weights far enough from zero to change what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    gpt2 = model.config.model_type == "gpt2"
    targets = ["c_attn"] if gpt2 else ["q_proj", "v_proj"]
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, fan_in_fan_out=gpt2, task_type="CAUSAL_LM"))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5)
    adapted.peft_config["default"].base_model_name_or_path = base_name
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


def make_hits(*texts: str) -> list[Hit]:
    return [
        Hit(rank, Chunk(f"c{rank}", f"d{rank}.md", "Pump manual", f"Part {rank}", text, 0, len(text), 10), 1.0 / rank)
        for rank, text in enumerate(texts, start=1)
    ]


class Hub:
    """What huggingface_hub asks a hub for: a repository's files, and each file with its ETag and commit."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.repositories: dict[str, Path] = {}
        self.requests: list[str] = []
        self.cut_off = ""
        """A file name whose body stops half-way."""

    def files(self, name: str) -> list[dict[str, object]]:
        root = self.repositories[name]
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        return [{"rfilename": path.relative_to(root).as_posix(), "size": path.stat().st_size} for path in paths]


def train(
    arm: Any,
    corpus: str | None,
    preset: str,
    run: str,
    *,
    home: Path,
    overrides: dict[str, str] | None = None,
    data: Path | None = None,
    resume: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    track: str | None = None,
) -> Any:
    """`training.train` or, to resume, `training.resume` with everything repeated; `progress` gets lines as they are printed."""
    from rag_vs_ft import settings
    from rag_vs_ft.training import train as training

    def tell(stage: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        progress(f"{stage} {done}/{total}: {detail}" if total else detail)

    request = training.Request(arm, preset, corpus, data, overrides or {})
    if resume:
        return training.resume(run, settings.home(home), request, track=track, progress=tell)
    return training.train(request, run, settings.home(home), track=track, progress=tell)
