"""Answers, with a model that says what the test tells it to."""

from types import SimpleNamespace
from typing import Any

import pytest

from kun.errors import BadInput
from kun.knowledge.answer import Answer, ask_stream, completed
from kun.knowledge.base import Passage
from kun.knowledge.grounding import cited, is_made_up, without_citations
from kun.knowledge.prompt import CHINESE, ENGLISH

PASSAGES = [
    Passage("The Kun is a fish of the northern sea.", "kun.md", "Fish", None, 1.0, "1", None),
    Passage("The Peng is a bird that flies ninety thousand li.", "peng.md", "Bird", None, 0.9, "2", None),
]


class Base:
    def __init__(self, passages: list[Passage]) -> None:
        self.passages = passages
        self.searched: list[str] = []

    def search(self, query: str, k: int, sources: Any = None) -> list[Passage]:
        self.searched.append(query)
        return self.passages[:k]


class Generation(list):
    def cancel(self) -> None:
        self.cancelled = True


class Model:
    name, checkpoint, context_length = "scripted", None, 512

    def __init__(self, text: str, rewritten: str = "") -> None:
        self.text, self.rewritten = text, rewritten

    def count(self, text: str) -> int:
        return len(text) // 4 + 1

    def submit(self, messages: Any, options: Any) -> Generation:
        assert options.temperature == 0
        return Generation(SimpleNamespace(text=letter) for letter in self.text)

    def generate(self, messages: Any, **options: Any) -> str:
        return self.rewritten


def answer(
    text: str, question: str = "What is the Kun?", passages: list[Passage] = PASSAGES, **given: Any
) -> Answer:
    base: Any = Base(passages)
    model: Any = Model(text)
    return ask_stream(base, question, model, **given).answer()


def test_each_sentence_cites_the_passage_that_carries_it() -> None:
    said = answer("The Kun is a fish of the sea. The Peng is a bird that flies far.")
    assert said.text == "The Kun is a fish of the sea [1]. The Peng is a bird that flies far [2]."
    assert not said.declined


def test_a_citation_that_does_not_exist_is_taken_out() -> None:
    assert answer("The Kun is a fish of the sea [7].").text == "The Kun is a fish of the sea [1]."


def test_an_answer_that_stands_in_no_passage_is_declined() -> None:
    said = answer("Lima has eleven million inhabitants.")
    assert said.declined
    assert said.text == ENGLISH.declined
    assert said.passages == []


def test_a_model_that_says_the_documents_do_not_say_declines_in_the_language_of_the_question() -> None:
    assert answer("文档里没有提到。", "鲲是什么？").declined


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
    assert not is_made_up("鲲是北海的大鱼。", "鲲是什么？", ["北海有大鱼，名叫鲲。"])
