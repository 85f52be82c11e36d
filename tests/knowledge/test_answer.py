"""Answers, with a model that says what the test tells it to."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kun.errors import BadInput
from kun.knowledge.answer import Answer, ask_stream, completed
from kun.knowledge.declining import answerable, gain
from kun.knowledge.evidence import Evidence, evidence, extract
from kun.knowledge.grounding import (
    cited,
    counts_another_thing,
    is_carried,
    is_in,
    says_nothing,
    without_citations,
)
from kun.knowledge.passage import Passage, Reasons
from kun.knowledge.prompt import CHINESE, ENGLISH
from kun.text.words import words

FOUND = Reasons(exact=False, words=1.0, meaning=1.0)
PASSAGES = [
    Passage("The Kun is a fish of the northern sea.", "kun.md", "Fish", None, 1.0, "1", FOUND),
    Passage("The Peng is a bird that flies ninety thousand li.", "peng.md", "Bird", None, 0.9, "2", FOUND),
]


class Encoder:
    """Texts are near each other by the words that they share."""

    name = identity = "words"
    dimensions, max_tokens, tokenizer = 256, 512, None

    def embed(self, texts: Any, kind: Any = None) -> Any:
        vectors = np.full((len(texts), self.dimensions), 1e-3, np.float32)
        for row, text in enumerate(texts):
            for word in words(text):
                vectors[row, sum(word.encode()) % self.dimensions] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Base:
    encoder = Encoder()

    def __init__(self, passages: list[Passage]) -> None:
        self.passages = passages
        self.searched: list[str] = []

    def search(self, query: str, k: int, sources: Any = None) -> list[Passage]:
        self.searched.append(query)
        return self.passages[:k]


class Generation(list):
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Model:
    name, checkpoint, context_length = "scripted", None, 512

    def __init__(self, text: str, rewritten: str = "", finish: str = "stop") -> None:
        self.text, self.rewritten, self.finish = text, rewritten, finish
        self.asked = 0

    def count(self, text: str) -> int:
        return len(text) // 4 + 1

    def submit(self, messages: Any, options: Any) -> Generation:
        assert options.temperature == 0
        self.asked += 1
        pieces = [SimpleNamespace(text=letter, finish_reason=None) for letter in self.text]
        return Generation([*pieces, SimpleNamespace(text="", finish_reason=self.finish)])

    def encode(self, text: str) -> list[str]:
        return list(text)

    def prompt_logprobs(self, text: str) -> list[Any]:
        """Each character is as likely as it is frequent before."""
        return [
            SimpleNamespace(logprob=math.log((text[:place].count(letter) + 1) / (place + 2)))
            for place, letter in enumerate(text)
        ]

    def generate(self, messages: Any, **options: Any) -> str:
        return self.rewritten


def answer(
    text: str,
    question: str = "What is the Kun of the sea?",
    passages: list[Passage] = PASSAGES,
    finish: str = "stop",
    **given: Any,
) -> Answer:
    base: Any = Base(passages)
    model: Any = Model(text, finish=finish)
    return ask_stream(base, question, model, **given).answer()


def test_each_sentence_cites_the_passage_that_carries_it() -> None:
    said = answer("The Kun is a fish of the sea. The Peng is a bird that flies far.")
    assert said.text == "The Kun is a fish of the sea [1]. The Peng is a bird that flies far [2]."
    assert not said.declined


def test_a_citation_that_does_not_exist_is_taken_out() -> None:
    assert answer("The Kun is a fish of the sea [7].").text == "The Kun is a fish of the sea [1]."


def test_an_answer_that_no_sentence_carries_gives_way_to_the_sentences_themselves() -> None:
    said = answer("Lima has eleven million inhabitants.")
    assert said.quoted
    assert said.text.startswith(ENGLISH.quotes)
    assert "> The Kun is a fish of the northern sea. [1]" in said.text
    assert "Lima" not in said.text


def test_an_answer_that_repeats_the_question_gives_way_to_quotes() -> None:
    assert answer("The Kun is what of the sea.").quoted
    assert not answer("Yes, the Kun is of the sea.", "Is the Kun of the sea?").quoted


def test_an_answer_in_another_language_gives_way_to_quotes() -> None:
    assert answer("鲲是北方大海里的一条鱼，它的名字叫做鲲。").quoted


def test_a_question_whose_words_and_meaning_no_passage_has_is_declined_without_asking_the_model() -> None:
    strange = [replace(passage, reasons=None) for passage in PASSAGES]
    base: Any = Base(strange)
    model: Any = Model("Lima has eleven million inhabitants.")
    said = ask_stream(base, "Wie viele Einwohner zählt Lima?", model).answer()
    assert (said.declined, said.text, said.passages) == (True, ENGLISH.declined, [])
    assert model.asked == 0


def test_a_question_in_a_language_without_phrases_is_not_answered_in_english() -> None:
    fish = [replace(PASSAGES[0], text="Le Kun est un poisson de la mer du Nord.")]
    asked = "Quel poisson est le Kun de la mer du Nord ?"
    assert "in the language of the question" in answer("Le Kun.", asked, fish).prompt[1]["content"]
    assert answer("The Kun is a fish of the sea, and it swims there.", asked, fish).quoted
    assert not answer("Le Kun est un poisson de la mer.", asked, fish).quoted


def test_an_answer_ends_where_it_begins_to_repeat_itself() -> None:
    said = answer("The Kun is a fish. The Kun is a fish. The Kun is a fish.")
    assert said.text == "The Kun is a fish [1]."


def test_an_answer_that_is_stopped_ends_without_a_word_more() -> None:
    base: Any = Base(PASSAGES)
    model: Any = Model("Lima has eleven")
    stream = ask_stream(base, "What is the Kun of the sea?", model)
    stream.cancel()
    said = stream.answer()
    assert (said.text, said.declined, said.quoted) == ("", False, False)


def test_quotes_cite_only_passages_that_were_given() -> None:
    long = [replace(PASSAGES[0], text="The Kun of the sea is long. " * 200), PASSAGES[1]]
    said = answer("Lima has eleven million inhabitants.", passages=long)
    assert {int(number) for number in re.findall(r"\[(\d+)\]", said.text)} <= {
        *range(1, len(said.passages) + 1)
    }


def test_a_sentence_that_was_cut_off_is_left_out_where_another_stands() -> None:
    assert answer("The Kun is a fish. The Peng fl", finish="length").text == "The Kun is a fish [1]."
    assert answer("The Kun is a fish of the", finish="length").text.startswith("The Kun is a fish of the")


def test_nothing_found_is_declined_without_asking_the_model() -> None:
    said = answer("anything", "鲲是什么？", [])
    assert (said.declined, said.text) == (True, CHINESE.declined)


def test_a_model_that_does_not_speak_the_language_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kun.knowledge.answer.speaks", lambda lm, language: False)
    said = answer("gibberish")
    assert said.quoted
    assert said.text.startswith(ENGLISH.quotes)
    assert "> The Kun is a fish of the northern sea. [1]" in said.text


def test_a_question_that_stands_alone_is_searched_as_it_is() -> None:
    model: Any = Model("", "something else")
    history = [{"role": "user", "content": "How large is the Peng?"}]
    assert (
        completed("Which sea has the most fish?", history, model, ENGLISH) == "Which sea has the most fish?"
    )


def test_a_question_that_leans_on_the_conversation_is_completed() -> None:
    history = [{"role": "user", "content": "How many members had the club in 2019?"}]
    sound: Any = Model("", "How many members had the club in 2020?")
    unsound: Any = Model("", "There were forty.")
    assert completed("And in 2020?", history, sound, ENGLISH) == "How many members had the club in 2020?"
    assert completed("And in 2020?", history, unsound, ENGLISH) == f"{history[0]['content']} And in 2020?"


def test_the_prompt_fits_the_context_and_keeps_at_least_one_passage() -> None:
    long = [Passage("word " * 5000, "a.md", "", None, 1.0, "1", None), *PASSAGES]
    base: Any = Base(long)
    model: Any = Model("")
    stream = ask_stream(base, "What is it?", model)
    assert len(stream.passages) == 1
    assert sum(model.count(message["content"]) for message in stream.prompt) < model.context_length


@pytest.mark.parametrize("question", ["", "   ", "x" * 5000])
def test_a_question_of_no_use_is_refused(question: str) -> None:
    with pytest.raises(BadInput):
        answer("", question)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(BadInput, match="colour"):
        answer("", colour="blue")


def test_chinese_sentences_are_cited_before_their_full_stop() -> None:
    assert cited("鲲是北海的大鱼。", ["北海有大鱼，名叫鲲。"]) == "鲲是北海的大鱼 [1]。"
    assert without_citations("鲲是鱼【1】。") == "鲲是鱼。"


def test_what_an_answer_adds_must_stand_in_one_sentence() -> None:
    best = ["The Kun is a fish of the northern sea.", "The Peng flies 90,000 li."]
    assert is_carried("It is a northern fish.", "What is the Kun?", best)
    assert is_carried("The Peng flies 90000 li.", "How far does the Peng fly?", best)
    assert not is_carried("The Peng flies 80,000 li.", "How far does the Peng fly?", best)
    assert not is_carried("It is a mammal of the southern forest.", "What is the Kun?", best)
    assert is_carried("鲲是北海的大鱼。", "鲲是什么？", ["北海有大鱼，名叫鲲。"])


def test_a_name_is_at_home_in_any_language() -> None:
    assert is_in("zh", "Virgin Media")
    assert not is_in("zh", "Virgin Media agreed to end the proceedings against it.")
    assert says_nothing("鲲是什么。", "鲲是什么？")


def test_evidence_is_the_sentences_nearest_the_question_first() -> None:
    texts = ["A ship came. The Kun lives in the northern sea. It rained.", "The Peng flies south."]
    passages = [replace(PASSAGES[0], text=text) for text in texts]
    found = evidence("Where does the Kun live?", passages, Encoder())
    assert found[0].text == "The Kun lives in the northern sea."
    assert [texts[one.place][one.start : one.end].strip() for one in found] == [one.text for one in found]


def test_a_heading_is_no_evidence_and_a_short_list_item_is_one_piece_of_it() -> None:
    text = "## Often said\n\n- *The Kun is a bird.* No: it is a fish.\n- It swims.\n\nThe sea is deep. It is cold."
    found = evidence("Is the Kun a bird?", [replace(PASSAGES[0], text=text)], Encoder())
    assert found[0].text == "- *The Kun is a bird.* No: it is a fish."
    assert {one.text for one in found[1:]} == {"- It swims.", "The sea is deep.", "It is cold."}


def test_an_answer_that_counts_another_thing_gives_way_to_quotes() -> None:
    assert counts_another_thing("GPT-3 has 96 layers.", "How many parameters does GPT-3 have?")
    assert not counts_another_thing("It has 175 billion parameters.", "How many parameters does GPT-3 have?")
    assert not counts_another_thing("175 billion", "How many parameters does GPT-3 have?")
    assert counts_another_thing("GPT-3 有 96 层网络，发布于 2020 年。", "GPT-3 有多少参数？")


@given(st.lists(st.sampled_from(["One came. ", "Two went. ", "三人行。", "四。"]), min_size=1), st.data())
def test_an_extract_has_its_sentences_in_their_order(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    every = [Evidence(0, starts[i], starts[i + 1], parts[i].strip(), 0, 0) for i in range(len(parts))]
    kept = data.draw(st.permutations(every))[: data.draw(st.integers(1, len(every)))]
    shown = re.sub(r"\s*…\s*", "", extract(text, kept)).replace(" ", "")
    assert shown == "".join(one.text for one in sorted(kept, key=lambda one: one.start)).replace(" ", "")
    assert extract(text, every) == text.strip()


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_more_passages_share_with_a_question_the_likelier_they_answer_it(
    share: float, meaning: float, more: float, nearer: float
) -> None:
    passages = [replace(PASSAGES[0], reasons=None)]
    bearing = [Evidence(0, 0, 1, "a", share, meaning)]
    less = answerable(passages, bearing)
    assert 0 <= less <= answerable(passages, [Evidence(0, 0, 1, "a", share + more, meaning + nearer)]) <= 1
    assert answerable(passages, bearing, more) <= answerable(passages, bearing, more + nearer)
    assert answerable([], []) == 0


def test_a_list_is_carried_by_several_sentences_and_cited_once_it_is_whole() -> None:
    text = "Step 1: people write answers. Step 2: a reward model learns. Step 3: the policy is optimized."
    passages = [replace(PASSAGES[0], text=text)]
    asked = "What are the three steps, of people, a reward model and the policy?"
    said = answer(
        "The steps are:\n1. people write answers\n2. a reward model learns\n3. the policy is optimized",
        asked,
        passages,
    )
    assert not said.quoted
    assert "3. the policy is optimized" in said.text
    assert answer("The steps are writing, ranking, and baking.", asked, passages).quoted


def test_a_later_sentence_that_no_passage_carries_ends_the_answer() -> None:
    assert answer("The Kun is a fish. Lima has eleven million inhabitants.").text == "The Kun is a fish [1]."


def test_what_answers_a_question_makes_it_likelier() -> None:
    model: Any = Model("")
    near = gain("zzz zzz?", [Evidence(0, 0, 4, "zzzz zzzz zzz?", 1, 1)], model, ENGLISH)
    far = gain("zzz zzz?", [Evidence(0, 0, 4, "one two three", 1, 1)], model, ENGLISH)
    assert near is not None
    assert far is not None
    assert far < near
    assert gain("zzz?", [Evidence(0, 0, 4, "z" * 5000, 1, 1)], model, ENGLISH) is None
