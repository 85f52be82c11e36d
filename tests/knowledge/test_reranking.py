"""Any sequence classifier, and anything that gives numbers, puts what was found in order."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder

from kun.errors import BadInput, ContextOverflow
from kun.knowledge.base import KnowledgeBase
from kun.knowledge.reranking import ClassifierReranker
from kun.models.task_model import Judgement


class ByLength:
    """The shortest text is the best."""

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return [-float(len(text)) for text in texts]


class Relevance:
    """A classifier of pairs that has read the word "bird", with room for few characters."""

    def __init__(self, labels: bool) -> None:
        self.labels, self.lengths = labels, list[int]()

    def classify(self, pairs: list[tuple[str, str]]) -> list[Judgement]:
        self.lengths.append(max(len(text) for _, text in pairs))
        if self.lengths[-1] > 1_000:
            raise ContextOverflow("too long")
        numbers = [0.9 if "bird" in text else 0.2 for _, text in pairs]
        if not self.labels:
            return [Judgement(None, number, {}) for number in numbers]
        return [Judgement("x", 0.5, {"no": 1 - number, "yes": number}) for number in numbers]


def test_a_reranker_orders_what_was_found_and_scores_keep_their_places(
    base: KnowledgeBase, docs: Path
) -> None:
    base.add(docs)
    before = base.search("what is there to read about", k=4)
    base.rerank_with(ByLength())
    after = base.search("what is there to read about", k=4)
    assert [len(p.text) for p in after] == sorted(len(p.text) for p in before)
    assert [p.score for p in after] == [p.score for p in before]
    assert len(base.search("what is there to read about", k=1)) == 1
    base.rerank_with(None)
    assert base.search("what is there to read about", k=4) == before


def test_what_holds_the_query_word_for_word_stays_first(base: KnowledgeBase, docs: Path) -> None:
    base.add(docs)
    base.rerank_with(ByLength())
    assert "An ordinary text about" in base.search("ordinary text about nothing", k=4)[0].text


@pytest.mark.parametrize("labels", [True, False])
def test_a_sequence_classifier_is_a_reranker_whatever_its_head_gives(labels: bool) -> None:
    model = Relevance(labels)
    reranker = ClassifierReranker(model)  # type: ignore[arg-type]
    assert reranker.scores("wings?", ["a fish " * 400, "a bird"]) == [0.2, 0.9]
    assert model.lengths == [2_800, 1_000]


def test_other_models_are_refused(base: KnowledgeBase) -> None:
    with pytest.raises(BadInput, match="cannot rerank"):
        base.rerank_with(FakeEncoder())  # type: ignore[arg-type]
