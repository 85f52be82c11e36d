"""Questions with candidate answers, GPT-1's way: rows read, answers scored apart, a softmax over them that learns."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kun
from kun.data.choices import to_choice
from kun.data.formats import detect
from kun.data.records import Record
from kun.data.rows import Choice, fields, from_fields
from kun.data.tokenized import RowTokenizer, Tokenized
from kun.errors import BadInput, BadRow, ContextOverflow
from kun.objectives.choose import answers_apart
from kun.objectives.text.vocabulary import judging_tokenizer
from kun.text.learn import byte_tokenizer, learn_tokenizer
from kun.text.windows import with_answers
from kun.training.recipe import parse_recipe
from kun.training.train import train

ROOT = Path(__file__).parents[2]
ASKED = {"question": "Who swims?", "choices": ["a fish", "a stone"], "answer": 0}


@pytest.mark.parametrize("answer", [0, "0", "A", "a fish"])
def test_the_right_answer_is_named_by_number_letter_or_text(answer: object) -> None:
    record = Record("here", {"Document": "A fish swims.", **ASKED, "answer": answer})
    assert detect(record) == "choices"
    row = to_choice(record)
    assert row == Choice("A fish swims.", "Who swims?", ("a fish", "a stone"), 0, "here")
    assert from_fields(fields(row), "here") == row


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answer": 2}, "none of its 2 answers"),
        ({"choices": ["a fish"]}, "no list of 2 to 26 answers"),
        ({"choices": ["a fish", "a fish"]}, "same answer twice"),
        ({"choices": ["a fish", ""]}, "'choices' is empty"),
        ({"question": 5}, "holds int, not text"),
    ],
)
def test_a_question_that_cannot_be_used_names_its_fault(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadRow, match=words):
        to_choice(Record("here", ASKED | changes))


def test_each_answer_stands_behind_the_question_and_a_long_document_loses_its_end() -> None:
    tokenizer, _ = judging_tokenizer(byte_tokenizer())
    read: Any = RowTokenizer(tokenizer, longest=32)
    row = Choice("A fish swims.", "Who?", ("a fish", "air"), 1, "here")
    (whole,) = read([row])
    apart = answers_apart(
        {
            "input_ids": torch.from_numpy(whole.ids[None].astype(np.int64)),
            "token_type_ids": torch.from_numpy(whole.types[None].astype(np.int64)),
        }
    )
    shown = [
        tokenizer.decode(ids[mask].tolist(), skip_special_tokens=False)
        for ids, mask in zip(apart["input_ids"], apart["attention_mask"], strict=True)
    ]
    asked = "<|start|>A fish swims.\nWho?<|delimiter|>"
    assert [text.replace(" <|", "<|").replace("|> ", "|>") for text in shown] == [
        f"{asked}a fish<|extract|>",
        f"{asked}air<|extract|>",
    ]
    assert apart["question"].tolist() == [0, 0]
    assert apart["answer"].tolist() == [0, 1]
    (cut,) = read([Choice("A fish swims. " * 9, "Who?", ("a fish", "air"), 1, "here")])
    assert cut.was_cut
    assert np.bincount(cut.types).max() == 32
    (bad,) = read([Choice("A fish.", "Who? " * 9, ("a fish", "air"), 1, "here")])
    assert "more than the 32 of the context" in str(bad)
    assert RowTokenizer(tokenizer, longest=32, long="drop")(
        [Choice("A fish. " * 9, "Who?", ("a", "b"), 0)]
    ) == [None]


def test_a_tokenizer_that_joins_the_document_to_the_question_reads_the_same_in_training_and_in_serving() -> (
    None
):
    texts = ["A fish swims.\nWho swims?", "Stones lie.\nWho lies?"] * 20
    learned = learn_tokenizer(texts, "bpe", 320, chat_template=None).tokenizer
    assert ".\n" in [learned.decode([id]) for id in learned.encode(texts[0]).ids]
    tokenizer, _ = judging_tokenizer(learned)
    for document in ("A fish swims.", "A fish swims. " * 9 + "Stones lie.", ""):
        row = Choice(document, "Who swims?", ("a fish", "a stone"), 1, "here")
        (read,) = RowTokenizer(tokenizer, longest=32)([row])
        assert isinstance(read, Tokenized)
        served, was_cut = with_answers(tokenizer, document, row.question, row.answers, 32)
        assert [id for one in served for id in one.ids] == read.ids.tolist()
        assert was_cut == read.was_cut == (len(document) > 40)
        assert max(map(len, served)) <= 32
        if not was_cut:
            text = f"{document}\n{row.question}" if document else row.question
            pair = tokenizer.encode(text, "a fish")  # as `classify` reads a pair
            assert pair.ids == served[0].ids


def test_a_small_decoder_learns_which_answer_its_document_holds(tmp_path: Path) -> None:
    draw, letters = random.Random(0), "abcdefghij"
    rows = []
    for _ in range(1500):
        document = draw.sample(letters, 2)
        answers = [
            draw.choice(document),
            draw.choice([letter for letter in letters if letter not in document]),
        ]
        right = answers[0]
        draw.shuffle(answers)
        row = {
            "document": "".join(document),
            "question": "?",
            "choices": answers,
            "answer": answers.index(right),
        }
        rows.append(json.dumps(row))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    recipe: dict[str, Any] = {
        "stage": "classify",
        "out": str(tmp_path / "run"),
        "model": {"family": "gpt", "n_layers": 2, "n_heads": 4, "d_model": 32, "dropout": 0.0},
        "data": {"train": str(tmp_path / "rows.jsonl"), "eval": 0.1},
        "train": {"steps": 150, "context": 32, "batch_tokens": 1024, "eval_every": 150, "precision": "fp32"},
        "optimizer": {"lr": 5e-3, "warmup": 10},
        "objective": {"name": "choose", "auxiliary": 0.0},
    }
    run = train(parse_recipe(recipe), "run")
    assert run.metrics[-1]["eval_accuracy"] > 0.9  # documents that it has not seen; one of two is chance
    model: Any = kun.load(run.checkpoint)
    told = [model.choose("ab", "?", [right, wrong]).label == right for right in "ab" for wrong in "cdefgh"]
    assert sum(told) > 9
    shares = model.choose("ab", "?", ["c", "a", "h"]).probabilities
    assert sum(shares.values()) == pytest.approx(1)
    with pytest.raises(BadInput, match="at least two answers"):
        model.choose("ab", "?", ["a"])
    with pytest.raises(BadInput, match="'a' stands there twice"):
        model.choose("ab", "?", ["a", "c", "a"])
    assert model.choose("ab" * 40, "?", ["a", "c"]).label in (
        "a",
        "c",
    )  # the document loses its end, as in training
    with pytest.raises(ContextOverflow, match="more than the 32 of the context"):
        model.choose("ab", "?" * 40, ["a", "c"])


@pytest.mark.parametrize("labels", [1, 3])
def test_a_classifier_of_labels_or_of_a_number_scores_no_answers(tmp_path: Path, labels: int) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "models"))
    from tiny_masked import write

    model: Any = kun.load(write(tmp_path, "BertForSequenceClassification", num_labels=labels))
    with pytest.raises(BadInput, match="scores no answers"):
        model.choose("A fish swims.", "Who?", ["a fish", "a stone"])


def test_the_maker_of_stories_tells_the_right_answer_and_says_the_same_again() -> None:
    sys.path.insert(0, str(ROOT / "examples" / "recipes" / "data"))
    import stories

    rows: list[Any] = list(stories.stories(40))
    assert rows == list(stories.stories(40))
    for row in rows:
        right = row["choices"][row["answer"]].rsplit(" ", 1)[-1]
        thing = row["question"].rstrip("?").split()[-1]
        lines = [
            line
            for line in row["document"].split(". ")
            if thing in line or row["question"].split()[2] in line
        ]
        assert any(right in line for line in lines + row["document"].split(". "))
        if row["question"].startswith("Where"):
            last = [line for line in row["document"].split(". ") if f"The {thing} " in line]
            assert not last or right in last[-1]
        assert sum(answer.split()[-1] in row["document"] for answer in row["choices"]) == 2
