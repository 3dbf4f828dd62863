"""What a language model reads and writes: a text in tokens, by two tokenizers, and the token that would come next."""

from __future__ import annotations

import html
from typing import Any

import streamlit as st
from addressed import KEPT, choose, switch
from progress_panel import offer_model
from resources import home, load_model, model_names, page_title, plain, shortened, shown_errors

from rag_vs_ft import catalogue
from rag_vs_ft.models.probe import next_tokens
from rag_vs_ft.training.tokenizers import GPT2, load_tokenizer, tokenize

EXAMPLE = "An AKS cluster is upgraded one node pool at a time: az aks nodepool upgrade --max-surge 33%"
MAX_TEXT = 20_000
SHOWN = 2_000  # tokens that are drawn; all are counted
_HUES = (210, 30, 130, 280, 0, 170)


@st.cache_resource(max_entries=8, show_spinner=False)
def tokenizer(root: str, name: str) -> Any:
    return load_tokenizer(name, home())


def show_tokens(text: str, name: str) -> None:
    """Count and colours of one tokenizer."""
    pieces = tokenize(text, tokenizer(str(home().root), name))
    size = len(text.encode("utf-8", "replace"))
    with st.container(horizontal=True):
        st.metric("Tokens", f"{len(pieces):,}")
        st.metric("Bytes per token", f"{size / len(pieces):.2f}" if pieces else "none")
    spans = [
        f'<span style="background:hsla({_HUES[number % len(_HUES)]},70%,50%,0.25);border-radius:4px;padding:1px 2px;margin:1px;'
        f'display:inline-block;white-space:pre"><span>{"◌" if _is_part(piece, text) else html.escape(_visible(piece))}</span>'
        f'<span style="opacity:0.65;font-size:0.65em;display:block">{token}</span></span>'
        for number, (piece, token) in enumerate(pieces[:SHOWN])
    ]
    if spans:
        st.html(f'<div style="line-height:1.3;overflow-wrap:anywhere">{"".join(spans)}</div>')
    if any(_is_part(piece, text) for piece, _ in pieces):
        st.caption("◌ is a part of a character: this tokenizer spells rare characters byte by byte, so one takes several tokens.")
    if len(pieces) > SHOWN:
        st.caption(f"The first {SHOWN:,} of {len(pieces):,} tokens.")


def _is_part(piece: str, text: str) -> bool:
    """Whether a token is some of the bytes of a character, for which its tokenizer has letters of its own."""
    return "\ufffd" in piece or piece not in text


def _visible(piece: str) -> str:
    return piece.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥") or "∅"


def show_next(text: str, models: list[str]) -> None:
    """The likeliest next tokens."""
    st.subheader("What would come next?")
    name = choose("Model", models, "model", **KEPT)
    if not switch("Ask the model", "next", help="Loads the model when it is not loaded yet."):
        return
    shared = load_model(name)
    with shared.taken():
        found = next_tokens(shared.lm, text, 12)
    st.dataframe(
        [{"token": _visible(one.text), "id": one.id, "probability": one.probability} for one in found],
        hide_index=True,
        column_config={"probability": st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0)},
    )
    share = sum(one.probability for one in found)
    st.caption(plain(f"{name}: these {len(found)} of {len(shared.lm.tokenizer):,} tokens have {share:.0%} of the probability."))


def main() -> None:
    page_title("Tokens")
    models = model_names()
    names = [GPT2] if catalogue.info("gpt2-tokenizer")["state"] == "ready" else []
    names += [name for name in models if name not in names]
    if not names:
        offer_model("gpt2-tokenizer", "There is no tokenizer on this machine yet.")
        return
    text = shortened(st.text_area("Text", EXAMPLE, key="text", persist_state="session"), MAX_TEXT, "The text")
    for number, column in enumerate(st.columns(2)):
        with column:
            first, label = min(number, len(names) - 1), f"Tokenizer {number + 1}"
            name = choose(label, names, f"tokenizer{number + 1}", names[first])
            with shown_errors("Splitting the text"):
                show_tokens(text, name)
    if models:
        with shown_errors("Asking the model"):
            show_next(text, models)


main()
