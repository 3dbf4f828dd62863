from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from rag_vs_ft.corpus.text import headings_of
from rag_vs_ft.errors import UserError
from rag_vs_ft.language import language, split_sentences
from rag_vs_ft.models.language_model import LanguageModel
from rag_vs_ft.models.prompting import alpaca, build_prompt
from rag_vs_ft.overlap import HeldOut
from rag_vs_ft.records import Chunk, Document, Hit, Question
from rag_vs_ft.training.headings import from_headings, sections
from rag_vs_ft.training.instructions import (
    Record,
    from_questions,
    joined,
    read_alpaca,
    with_context,
    write_alpaca,
)

NOBODY = HeldOut([])
POOLS = """# Node pools

A pool is a set of **identical** machines. It has one size.

## Add a pool

Adding a pool takes about five minutes and needs the `az` tool on your machine. Its size cannot be changed later.

1. Run the command.

## Limits

See the table.

| Limit | Value |
|---|---|
| Nodes | 100 |

## What can't be changed

The size of a machine is fixed when its pool is made. For another size, as shown below, make another pool.

## Scale

- Pools scale by hand with `az aks nodepool scale` at any time.
- It takes a while.

## Next steps

Read on about upgrades and about every other thing there is.

### Code

```bash
az aks show
```

## Overview

These rules hold for every pool of every cluster there is.

## Upgrade settings

Upgrades move `max. 5` nodes at a time, e.g. in the night. (Windows is slower.) Plan for it.
"""


def _document(text: str = POOLS, key: str = "aks/pools.md", title: str = "Node pools") -> Document:
    return Document(id=key, title=title, text=text, headings=headings_of(text))


def _hit(rank: int, document: str, text: str) -> Hit:
    return Hit(rank, Chunk(f"c{rank}", document, "Title", "Heading", text, 0, len(text), 5), 1.0 / rank)


# --- headings ---------------------------------------------------------------------------------------------------------


def test_sections_end_at_steps_code_and_tables():
    found = {section.heading: section for section in sections(_document())}
    assert found[""].sentences == ("A pool is a set of identical machines.", "It has one size.")
    assert found["Add a pool"].sentences[-1] == "Its size cannot be changed later."
    assert not found["Add a pool"].whole
    assert found["Limits"].sentences == ("See the table.",)
    assert found["Scale"].sentences == ("Pools scale by hand with `az aks nodepool scale` at any time.", "It takes a while.")
    assert found["Scale"].whole
    assert found["Code"].sentences == ()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("Note: Use it, e.g. Linux. Done.", ["Use it, e.g. Linux.", "Done."]),
        ("Set `a. B` now. Then 3.5 is kept.", ["Set `a. B` now.", "Then 3.5 is kept."]),
        ("", []),
    ],
)
def test_sentences(text, sentences):
    assert split_sentences(text, language()) == sentences


def test_records_from_headings_answer_with_what_can_stand_alone():
    built = from_headings([_document()], NOBODY, seed=0)
    answers = {record.source: record.output for record in built.records}
    assert answers == {
        "headings:Node pools": "A pool is a set of identical machines. It has one size.",
        "headings:Add a pool": "Adding a pool takes about five minutes and needs the `az` tool on your machine. "
        "Its size cannot be changed later.",
        "headings:What can't be changed": "The size of a machine is fixed when its pool is made.",
        "headings:Scale": "Pools scale by hand with `az aks nodepool scale` at any time. It takes a while.",
        "headings:Upgrade settings": "Upgrades move `max. 5` nodes at a time, e.g. in the night. "
        "(Windows is slower.) Plan for it.",
    }
    assert built.funnel == {
        "candidates": 9,
        "dropped: heading: says nothing of the topic (Next steps, Examples)": 1,
        "dropped: section: does not begin with prose": 1,
        "dropped: section: its first sentence leans on the heading": 1,
        "dropped: section: its first sentence points elsewhere": 1,
        "kept": 5,
    }
    assert all(record.documents == ("aks/pools.md",) and record.input == "" for record in built.records)
    assert from_headings([_document()], NOBODY, seed=0) == built


@pytest.mark.parametrize(
    ("heading", "wordings"),
    [
        (
            "Add a pool",
            {
                "Node pools: what should I know when I add a pool?",
                "What do I have to know to add a pool? (Node pools)",
                'What does "Node pools" say about how to add a pool?',
            },
        ),
        (
            "Access policies",
            {'What does "Node pools" say about "Access policies"?', 'Node pools: what is said about "Access policies"?'},
        ),
        ("How updates work", {'Explain how updates work ("Node pools").', "Node pools: can you explain how updates work?"}),
        (
            "Can I resize it?",
            {
                "Node pools: can I resize it?",
                "Can I resize it? (Node pools)",
                'Can I resize it? My question is about "Node pools".',
            },
        ),
        (
            "Step 2: Limits",
            {
                "Node pools: what should I know about limits?",
                'What does "Node pools" say about limits?',
                'Tell me about limits ("Node pools").',
            },
        ),
        (
            "Overview",
            {"What should I know about node pools?", 'What is "Node pools" about?', "Give a short introduction to node pools."},
        ),
    ],
)
def test_the_question_fits_the_grammar_of_the_heading(heading, wordings):
    text = f"# Node pools\n\n## {heading}\n\nAll node pools of a cluster have the same limits for their machines.\n"
    asked = {from_headings([_document(text)], NOBODY, seed=seed).records[0].instruction for seed in range(40)}
    assert asked == wordings


def test_names_keep_their_capital_letter():
    text = "# Azure pools\n\nPools of Azure hold 5 machines each, says `azure`.\n\n```\naz --cni azure\n```\n"
    asked = {from_headings([_document(text, title="Azure pools")], NOBODY, seed=seed).records[0].instruction for seed in range(9)}
    assert all("Azure pools" in one for one in asked)


def test_the_same_heading_with_other_text_gives_no_record():
    text = "# A\n\n## Limits\n\nThe pools of a cluster hold {} machines at the very most.\n"
    same = from_headings([_document(text.format(5), "a.md", "A"), _document(text.format(5), "b.md", "A")], NOBODY, seed=0)
    assert (len(same.records), same.funnel["dropped: repeated: the same section in another place"]) == (1, 1)
    other = from_headings([_document(text.format(5), "a.md", "A"), _document(text.format(6), "b.md", "A")], NOBODY, seed=0)
    assert other.records == ()
    assert other.funnel["dropped: repeated: the same title and heading with other text"] == 2


# --- the leak rule ----------------------------------------------------------------------------------------------------


def test_no_builder_lets_an_evaluation_question_through():
    asked = from_headings([_document()], NOBODY, seed=0).records
    victim = next(record for record in asked if record.source == "headings:Add a pool")
    built = from_headings([_document()], HeldOut([("q", victim.instruction, None)]), seed=0)
    assert {record.source for record in built.records} == {record.source for record in asked if record != victim}
    assert built.funnel["dropped: leak: the instruction holds an evaluation question"] == 1
    stated = HeldOut([("q", "Is it true that adding a pool takes about five minutes and needs a tool?", None)])
    built = from_headings([_document()], stated, seed=0)
    assert built.funnel["dropped: leak: the output holds an evaluation question"] == 1
    assert victim not in built.records
    answer = HeldOut([("q", "How long does it take?", "Adding a pool takes about five minutes.")])
    assert from_headings([_document()], answer, seed=0).records == asked  # seven words
    answer = HeldOut([("q", "How long does it take?", "Adding a pool takes about five minutes and more.")])
    built = from_headings([_document()], answer, seed=0)
    assert built.funnel["dropped: leak: the output holds the answer to an evaluation question"] == 1


def test_faq_pairs_of_evaluation_files_are_left_out_by_id_and_by_wording():
    question = "Why does my application receive status 429 from the vault?"
    pairs = [
        Question("faq-1", "Can I shorten the retention of a vault?", "No.", gold_documents=("kv.md",)),
        Question("faq-2", "How many keys fit into one vault?", "As many as you like."),
        Question("faq-3", question, "Too many requests."),
        Question("faq-4", "So why does my application receive status 429 here?", "Too many requests."),
        Question("faq-5", "Why did the application receive the status 429 from the vault?", "Too many requests."),
        Question("faq-6", "Is there an answer?", None),
        Question("faq-7", "can I shorten  the retention of a vault", "No, never."),
    ]
    built = from_questions(pairs, HeldOut([("faq-2", "Something else entirely?", None), ("x", question, None)]))
    assert built.records == (Record("Can I shorten the retention of a vault?", "", "No.", "questions:faq-1", ("kv.md",)),)
    assert built.funnel == {
        "candidates": 7,
        "dropped: leak: the instruction holds an evaluation question": 1,
        "dropped: leak: the instruction rewords an evaluation question": 2,
        "dropped: leak: the id of an evaluation question": 1,
        "dropped: question: no answer in words": 1,
        "dropped: repeated: the same question": 1,
        "kept": 1,
    }


def test_joined_parts_hold_each_instruction_once_and_lose_no_count():
    one = from_questions([Question("a", "What is a pool?", "A set."), Question("b", "Why?", None)], NOBODY)
    two = from_questions([Question("c", "what is a POOL", "Another."), Question("d", "What is a node?", "A machine.")], NOBODY)
    both = joined([one, two])
    assert [record.output for record in both.records] == ["A set.", "A machine."]
    assert both.funnel == {
        "candidates": 4,
        "dropped: question: no answer in words": 1,
        "dropped: repeated: the same instruction in another part or section": 1,
        "kept": 2,
    }


# --- files ------------------------------------------------------------------------------------------------------------

RECORDS = [
    Record("What is 2 + 2?", "", "4", "questions:1", ("a.md",)),
    Record('Say "hi"\n\u2028now', "Passage\n\nmore é 🙂", "hi", "", ()),
]


def test_a_written_file_reads_back_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "alpaca.json"
    write_alpaca(path, RECORDS[:1])
    write_alpaca(path, RECORDS)
    assert read_alpaca(path) == RECORDS
    assert [entry.name for entry in path.parent.iterdir()] == ["alpaca.json"]
    with pytest.raises(UserError, match="no records to write"):
        write_alpaca(path, [])


def test_table_readers_see_one_schema(tmp_path):
    """As `datasets` reads a JSON file: Arrow's reader for lines, and when that refuses a list, the whole file as one table."""
    import pyarrow as pa
    import pyarrow.json

    path = tmp_path / "alpaca.json"
    write_alpaca(path, RECORDS)
    with pytest.raises(pa.ArrowInvalid):
        pyarrow.json.read_json(io.BytesIO(path.read_bytes()))
    rows = json.loads(path.read_text(encoding="utf-8"))
    table = pa.Table.from_pylist(rows)
    texts = [field.name for field in table.schema if field.type == pa.string()]
    assert texts == ["instruction", "input", "output", "source"]
    assert table.schema.field("documents").type == pa.list_(pa.string())
    assert table.to_pylist() == rows
    assert {tuple(row) for row in rows} == {("instruction", "input", "output", "source", "documents")}


def test_a_file_made_elsewhere_is_read(tmp_path):
    path = tmp_path / "other.json"
    rows = [
        {"instruction": "Do.", "output": "Done."},
        {"instruction": "Do.", "input": None, "output": "", "text": "x", "source": 3, "documents": "a.md"},
    ]
    path.write_text(json.dumps(rows), encoding="utf-8-sig")
    assert read_alpaca(path) == [Record("Do.", "", "Done."), Record("Do.", "", "")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b'{"instruction": "a"}\n{"instruction": "b"}', r"not JSON: Extra data.*(?s:.*)one object a line"),
        (b'{"data": []}', "expected a list, found an object"),
        (b"[]", "holds no records"),
        (b'[{"instruction": "a", "output": "b"}, "text"]', "row 2: expected an object, found a text"),
        (b'[{"instruction": "a", "response": "b"}]', r"row 1: no field 'output' \(it has 'instruction', 'response'\)"),
        (b'[{"output": "a"}]', "row 1: no field 'instruction'"),
        (b'[{"instruction": "a", "output": null}]', "row 1: field 'output': expected a text, found null"),
        (b'[{"instruction": "a", "input": 3, "output": "b"}]', "row 1: field 'input': expected a text, found a number"),
        (b'[{"instruction": " ", "output": "b"}]', "row 1: field 'instruction' is empty"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_alpaca(path)
    assert str(path) in caught.value.message
    with pytest.raises(UserError, match="cannot read"):
        read_alpaca(tmp_path / "none.json")


# --- with passages ----------------------------------------------------------------------------------------------------

ANSWER = "The vault keeps deleted secrets for ninety days."
GOLD = _hit(3, "kv.md", "A note. The vault keeps deleted secrets for ninety days. It bills them.")
FOUND = [
    _hit(1, "other.md", "Pools scale by hand."),
    _hit(2, "kv.md", "Keys rotate by themselves."),
    GOLD,
    _hit(4, "copy.md", "The vault keeps deleted secrets for ninety days, as everywhere."),
    _hit(5, "net.md", "A subnet has five reserved addresses."),
    _hit(6, "net.md", "A subnet has five reserved addresses."),
    _hit(7, "disk.md", "A disk has a size."),
    _hit(8, "late.md", "Far down the list."),
]
VAULT = Record("How long are secrets kept?", "", ANSWER, "questions:1", ("kv.md",))


def test_a_record_gets_its_passage_among_others_that_do_not_answer():
    built = with_context([VAULT], lambda _: FOUND, passages=4, without_gold=0, seed=0)
    text = built.records[0].input
    assert text.count("\n\n") == 3
    for number, part in enumerate(text.split("\n\n"), start=1):
        assert part.startswith(f"[{number}] Title > Heading\n")
    assert {part.split("\n", 1)[1] for part in text.split("\n\n")} == {FOUND[at].chunk.text for at in (0, 2, 4, 6)}
    assert built.records[0].output == ANSWER
    assert with_context([VAULT], lambda _: FOUND, passages=4, without_gold=0, seed=0) == built


def test_the_gold_passage_stands_anywhere_and_is_missing_from_a_share():
    records = [replace(VAULT, instruction=f"How long are secrets kept, case {number}?") for number in range(400)]
    built = with_context(records, lambda _: FOUND, passages=4, without_gold=0.25, seed=3)
    assert len(built.records) == 400
    places = [next((n for n, p in enumerate(r.input.split("\n\n")) if "ninety" in p), None) for r in built.records]
    missing = places.count(None)
    assert 70 <= missing <= 130  # 100 expected, deviation 8.7
    assert all(abs(places.count(place) - (400 - missing) / 4) < 35 for place in range(4))
    again = with_context(records[::-1], lambda _: FOUND, passages=4, without_gold=0.25, seed=3)
    assert again.records[::-1] == built.records


def test_records_that_cannot_get_passages_are_counted():
    records = [
        VAULT,
        replace(VAULT, input="given"),
        replace(VAULT, documents=()),
        replace(VAULT, documents=("none.md",)),
        replace(VAULT, instruction="Few?"),
    ]
    few = [FOUND[0], GOLD]
    built = with_context(records, lambda asked: few if asked == "Few?" else FOUND, passages=3, without_gold=0, seed=0)
    assert built.funnel == {
        "candidates": 5,
        "dropped: context: fewer than 3 passages": 1,
        "dropped: context: no passage with the answer was retrieved": 1,
        "dropped: context: the record has an input of its own": 1,
        "dropped: context: the record names no document": 1,
        "kept": 1,
    }
    assert with_context([VAULT], lambda _: [], seed=0).records == ()
    for options in ({"passages": 1}, {"without_gold": 1.0}, {"without_gold": -0.1}):
        with pytest.raises(UserError, match=next(iter(options))):
            with_context(records, lambda _: FOUND, seed=0, **options)  # type: ignore[arg-type]


def test_training_and_asking_use_the_same_text():
    lm = _byte_model()
    hits = [_hit(1, "a.md", "Pools scale\r\nby hand.\x00 "), _hit(2, "kv.md", GOLD.chunk.text)]
    record = with_context([VAULT], lambda _: hits, passages=2, without_gold=0, seed=0).records[0]
    order = hits if record.input.index("Pools") < record.input.index("vault") else hits[::-1]
    shown = [replace(hit, rank=rank) for rank, hit in enumerate(order, start=1)]
    prompt = build_prompt(lm, VAULT.instruction, shown, template="alpaca", max_new_tokens=8)
    assert alpaca(record.instruction, record.input) == prompt.text
    assert alpaca(VAULT.instruction) == build_prompt(lm, VAULT.instruction, None, template="alpaca", max_new_tokens=8).text


def _byte_model() -> LanguageModel:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    return LanguageModel("bytes", None, fast, 2_000, "cpu", "float32", 1, "0" * 64, None, False, (256,))
