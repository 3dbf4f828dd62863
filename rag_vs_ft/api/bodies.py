"""What clients send: the fields of each request, checked. A field that is not known is refused."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from rag_vs_ft import settings
from rag_vs_ft.index.search import Fusion, Retriever


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SearchBody(_Body):
    """Passages for a question, as `rag-vs-ft search` finds them."""

    question: str
    index: str
    k: int = settings.K
    retriever: Retriever = "hybrid"
    fusion: Fusion = "sum"
    service: str = ""
    path: str = ""
    since: str = Field("", description="Only documents of this day (YYYY-MM-DD) or later.")
    explain: bool = False


class AskBody(_Body):
    """A question and how it is to be answered, as for `rag-vs-ft ask`."""

    question: str
    index: str | None = Field(None, description="None asks the bare model.")
    model: str | None = Field(None, description="One of those that are served; None is the first.")
    k: int = settings.ASK_K
    retriever: Retriever = "hybrid"
    service: str = ""
    path: str = ""
    since: str = ""
    max_new_tokens: int = Field(settings.MAX_NEW_TOKENS, ge=1, le=4_096)
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = settings.SEED
    cite: bool = Field(False, description="Ask the model to cite passages as [1].")


class _Text(BaseModel):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message of a conversation: text, or parts of text."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Text]

    @property
    def text(self) -> str:
        """The text of all parts."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class _StreamOptions(BaseModel):
    include_usage: bool = False


class ChatBody(BaseModel):
    """A chat completion. The last message is the question; decoding is greedy unless a temperature is given."""

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=4_096)
    max_completion_tokens: int | None = Field(None, ge=1, le=4_096)
    temperature: float | None = 0.0
    top_p: float | None = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    n: Literal[1] | None = 1
    presence_penalty: Literal[0] | None = 0
    frequency_penalty: Literal[0] | None = 0
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = False
    cite: bool = Field(False, description="Ask the model to cite passages as [1].")
    rewrite: bool = Field(False, description="Let the model rewrite a question that refers to an earlier one.")
    sources: bool = Field(True, description="Write the passages that the answer rests on below it.")

    @property
    def question(self) -> str:
        """What is asked: the last message."""
        return self.messages[-1].text

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts before which the answer ends."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in given if text)
