"""A tokenizer's chat template: what it puts before and after a user's message. And reasoning taken out of answers.

The template is code that came with the weights. It runs in Jinja's sandbox, in a process of its own that may use little time and
memory, once for each template.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from rag_vs_ft.errors import UserError
from rag_vs_ft.models.language_model import LanguageModel

_CHILD = Path(__file__).with_name("chat_child.py")
_SECONDS = 60
"""Wall time of the child, its imports included; its own limit counts the processor's time of the template."""
_MARK = "\ue000content\ue000"
"""Stands for the message. Private-use characters: no template and no tokenizer gives them a meaning."""
_HINT = "use --template plain"
_THINKING = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
"""A model's reasoning before its answer; the closing tag may lie beyond the last token."""


def frame(lm: LanguageModel) -> tuple[str, str]:
    """What the chat template of `lm` puts before and after one user message, with the marks that begin an answer.

    Models that can be told not to reason first are told so. Raises UserError when the template cannot be rendered within its
    limits, or does not show the message exactly once.
    """
    special = {key: value for key, value in lm.tokenizer.special_tokens_map.items() if isinstance(value, str)}
    template = lm.tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default", "")
    if not isinstance(template, str):
        raise UserError(f"the chat template of {lm.name} is not text", _HINT)
    text = _rendered(lm.name, template, json.dumps(special | {"enable_thinking": False}, sort_keys=True))
    before, found, after = text.partition(_MARK)
    if not found or _MARK in after:
        raise UserError(f"the chat template of {lm.name} does not show the user's message once", _HINT)
    return before, after


@lru_cache(maxsize=64)
def _rendered(name: str, template: str, variables: str) -> str:
    asked = json.dumps({"template": template, "message": _MARK, "variables": json.loads(variables)})
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_CHILD)], input=asked, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"the chat template of {name} does not come to an end", _HINT) from error
    except ValueError as error:  # the child was ended by its limits
        raise UserError(f"the chat template of {name} takes too much time or memory", _HINT) from error
    if "error" in found:
        raise UserError(f"the chat template of {name} cannot be used: {found['error']}", _HINT)
    return str(found["text"])


def opens_thinking(prompt: str) -> bool:
    """Whether a prompt ends within the reasoning that precedes an answer."""
    return prompt.rstrip().endswith("<think>")


def without_thinking(text: str, *, opened: bool = False) -> str:
    """`text` without the reasoning that a model put before its answer, and without space around it.

    `opened` says that the prompt itself began the reasoning, so that all is reasoning until it is closed.
    """
    return _THINKING.sub("", f"<think>{text}" if opened else text).strip()


def answer_so_far(text: str, *, opened: bool = False) -> str:
    """The beginning of an answer that is still being written, for a reader: nothing that may turn out to be reasoning."""
    begun = (f"<think>{text}" if opened else text).lstrip()
    if "</think>" not in begun and (begun.startswith("<think>") or "<think>".startswith(begun)):
        return ""
    return _THINKING.sub("", begun).lstrip()
