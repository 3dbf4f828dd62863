"""Questions without an annotator: from FAQ files, knowledge checks, the text itself, and from what an update changed."""

from rag_vs_ft.mining.cloze import mine_cloze
from rag_vs_ft.mining.common import Mined
from rag_vs_ft.mining.faq import mine_faq
from rag_vs_ft.mining.quiz import mine_quiz
from rag_vs_ft.mining.updates import mine_updates

__all__ = ["Mined", "mine_cloze", "mine_faq", "mine_quiz", "mine_updates"]
