"""What the first page needs, imported and opened while the server starts and a browser reads its scripts."""

from __future__ import annotations

import logging

import answering  # noqa: F401
import first_start  # noqa: F401
import passages  # noqa: F401
from resources import home, open_index

from rag_vs_ft import settings
from rag_vs_ft.index import opening

_LOG = logging.getLogger("rag_vs_ft.app")


def get_ready() -> None:
    """Open the index that a first page chooses. What fails here fails again on that page, and is told there."""
    try:
        names = opening.all_indexes(home())
        if names:
            open_index(settings.SAMPLE if settings.SAMPLE in names else names[0]).services()
    except Exception:
        _LOG.debug("opening the first index", exc_info=True)
