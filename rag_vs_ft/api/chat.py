"""One chat completion in the fields that OpenAI's clients expect (API reference, "Chat"), with its sources."""

from __future__ import annotations

import secrets
import time
from typing import Any

from rag_vs_ft import settings
from rag_vs_ft.api.bodies import ChatBody
from rag_vs_ft.ask import AskRequest
from rag_vs_ft.errors import UserError
from rag_vs_ft.models.generation import Sampling
from rag_vs_ft.records import Answer


class Chat:
    """One chat completion: the question it asks, and its answer in the fields that clients expect."""

    def __init__(self, body: ChatBody) -> None:
        if body.messages[-1].role != "user":
            raise UserError("the last message is not the user's", "let it be the question, with the role user")
        self.body = body
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self.created = int(time.time())
        self.request = AskRequest(
            body.question,
            max_new_tokens=body.max_completion_tokens or body.max_tokens or settings.MAX_NEW_TOKENS,
            sampling=Sampling(
                body.temperature or 0.0,
                1.0 if body.top_p is None else body.top_p,
                seed=settings.SEED if body.seed is None else body.seed,
            ),
            stop=body.stops,
            cite=body.cite,
            rewrite=body.rewrite,
            earlier=tuple(message.text for message in body.messages[:-1] if message.role == "user"),
        )
        others = sum(message.role in ("system", "developer") for message in body.messages)
        self.notices = (f"{others} system messages were not read: the service has instructions of its own",) if others else ()

    def sources(self, answer: Answer) -> str:
        """The passages that an answer rests on, as lines below it."""
        cited = [hit for hit in answer.hits if hit.rank in answer.citations]
        if not (self.body.sources and cited):
            return ""
        lines = (f"[{hit.rank}] {hit.chunk.cited} ({hit.chunk.url or hit.chunk.document_id})" for hit in cited)
        return "\n\nSources:\n" + "\n".join(lines)

    def about(self, answer: Answer) -> dict[str, Any]:
        """What goes beyond OpenAI's fields: hits, citations, notices."""
        found = answer.to_json()
        kept = ("citations", "hits", "index_generation", "dropped_hits", "finish", "engine", "seconds")
        return {name: found[name] for name in kept} | {"notices": [*self.notices, *answer.notices]}

    def finish(self, answer: Answer) -> str:
        """Why it ended, in OpenAI's words."""
        return "length" if answer.finish in ("length", "loop") else "stop"

    def usage(self, answer: Answer) -> dict[str, int]:
        """Tokens."""
        total = answer.prompt_tokens + answer.completion_tokens
        return {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens, "total_tokens": total}

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The object of an answer that is not streamed."""
        message = {"role": "assistant", "content": answer.answer + self.sources(answer), "refusal": None}
        return {
            **self._head("chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish(answer), "logprobs": None}],
            "usage": self.usage(answer),
            "rag_vs_ft": self.about(answer),
        }

    def piece(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        """One object of a stream."""
        choices = [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        return {**self._head("chat.completion.chunk"), "choices": choices, **more}

    def last(self, answer: Answer) -> dict[str, Any]:
        """The object with the tokens that ends a stream whose client asked for it."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage(answer)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.body.model, "system_fingerprint": None}
