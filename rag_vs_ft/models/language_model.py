"""A language model and what it can do: loaded here, with what may write its answers in torch's place, or behind a server.

Everything that uses a model builds on this.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rag_vs_ft.models.served import Server


class KeyValueCache(Protocol):
    """Tokens that an engine has read (`ids`)."""

    @property
    def ids(self) -> list[int]:
        """The tokens, oldest first."""

    def read(self, ids: Sequence[int]) -> Any:
        """Read `ids` on; float32 logits of the token after them, a torch tensor of shape [1, rows of the embedding]."""


class Engine(Protocol):
    """Turns tokens into logits faster than torch. `name` says engine and weights, as answers record it."""

    @property
    def name(self) -> str:
        """Engine and weights: "openvino int8"."""

    def context(self, ids: Sequence[int]) -> AbstractContextManager[KeyValueCache]:
        """A context for the caller alone; it may have read a part of `ids` already, never the last of them."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What can be asked of a model besides answers.

    `tokens`: its tokenizer and weights are here, for what looks inside or counts tokens. `scores`: it tells how likely it finds a
    text that is given to it; one that does not can still be asked to choose between texts by letter.
    """

    tokens: bool
    scores: bool


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model, loaded or behind `server`.

    `window` is the number of tokens it reads at once, prompt and answer together (0: a server that does not say).
    `weights_sha256` identifies weights and adapter. `chat` says whether the tokenizer has a chat template. `eos_ids` are the
    token ids that end an answer. `template` is the prompt template that a run was finetuned on ("alpaca"), else empty. `engine`
    writes answers where there is one; `notices` say why there is none although one was asked for. Of a model behind a server,
    `model` and `tokenizer` raise UserError when they are used, and the hash is "".
    """

    name: str
    model: Any
    tokenizer: Any
    window: int
    device: str
    dtype: str
    threads: int
    weights_sha256: str
    adapter: str | None
    chat: bool
    eos_ids: tuple[int, ...]
    template: str = ""
    engine: Engine | None = None
    notices: tuple[str, ...] = ()
    server: Server | None = None

    @property
    def abilities(self) -> Abilities:
        """What can be asked of the model; of a server this is found out by asking, once."""
        return Abilities(tokens=self.server is None, scores=self.server is None or self.server.scores)

    @property
    def shares_contexts(self) -> bool:
        """Whether what the model has read can be kept and copied for several texts: keys and values can, the state of a
        recurrent or convolutional layer cannot. Texts then go through the model one by one."""
        from transformers import DynamicCache

        return all(hasattr(layer, "batch_repeat_interleave") for layer in DynamicCache(config=self.model.config).layers)
