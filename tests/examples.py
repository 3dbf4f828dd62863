"""How many examples hypothesis makes: RAG_VS_FT_EXAMPLES of each test, when it is set and more than a test asks for."""

from __future__ import annotations

import os

LONG = int(os.environ.get("RAG_VS_FT_EXAMPLES", "0"))


def at_least(number: int) -> int:
    """What a test gives as `max_examples`."""
    return max(number, LONG)
