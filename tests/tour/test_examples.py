"""The examples of the tour: each runs and is drawn, its check holds, and fails where what it shows is not so."""

import sys
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor

from kun.inspection.opened import Opened
from kun.objectives import recall as recall_task
from kun.tour.drawings.drawn import LANGUAGES
from kun.tour.example import Example, Shown
from kun.tour.handbook import handbook_folder
from kun.tour.ideas import (
    alignment,
    generating,
    instructgpt,
    large_models,
    local_knowledge,
    positions,
    self_attention,
    transformer,
    word_embeddings,
    zero_shot,
)
from kun.tour.running import run_tour
from kun.tour.session import HANDBOOK, Session
from kun.tour.seventeen import IDEAS
from kun.tour.small import networks, recall, steps, training, world

BARE = [(idea, each) for idea in IDEAS for each in idea.examples if {*each.needs} <= {HANDBOOK}]
FEW = 3
"""Steps of training, where it matters that an example runs, and not whether its check holds."""


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(handbook_folder())


@pytest.fixture
def hardly_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training of the tour ends after a few steps."""
    fit = training.fit

    def short(
        parameters: object, loss_of: Callable[[int], Tensor], steps: int, *rest: float, **more: float
    ) -> object:
        return fit(parameters, loss_of, min(steps, FEW), *rest, **more)  # type: ignore[arg-type]

    for name, module in list(sys.modules.items()):
        if name.startswith("kun.tour.") and getattr(module, "fit", None) is fit:
            monkeypatch.setattr(module, "fit", short)
    monkeypatch.setattr(large_models, "_STEPS", 12)
    monkeypatch.setattr(steps, "STEPS", dict.fromkeys(steps.STEPS, 1))
    monkeypatch.setattr(transformer, "tokens_per_second", lambda net, length: float(length))


def run(session: Session, named: str) -> Shown:
    [found] = [each for _, each in BARE if each.name[0] == named]
    return found.run(session)


@pytest.mark.usefixtures("hardly_trained")
@pytest.mark.parametrize("each", [each for _, each in BARE], ids=[each.name[0] for _, each in BARE])
def test_every_example_that_needs_nothing_runs_and_is_drawn_in_both_languages(
    each: Example, session: Session
) -> None:
    shown = each.run(session)
    assert all(shown.text)
    for language in LANGUAGES:
        if shown.picture is not None:
            ElementTree.fromstring(shown.picture(language))
    if shown.table is not None:
        assert {len(row) for row in shown.table.rows} == {len(shown.table.columns)}


QUICK = (
    "attention divides by √d",
    "positions make an order of a bag of words",
    "gradients through 24 layers",
    "a ranking becomes scores",
    "many turns become one text",
    "one expert of many",
    "data parallel and model parallel",
    "diffusion, ink in water and back",
    "the families of the list are here",
    "instructions and conversations, the loss on answers",
    "made-up tasks are sorted out",
    "lowering from its pieces",
    "king − man + woman, 国王 − 男人 + 女人",
    "I love AI: 1, 2, 3",
    "sinusoids: all differ, offsets recoverable",
    "positions that know distance alone",
    "documents are cut and searched",
    "tools that run",
    "orders in a document are not followed",
)


@pytest.mark.parametrize("named", QUICK)
def test_the_checks_of_what_needs_no_training_hold(named: str, session: Session) -> None:
    shown = run(session, named)
    assert shown.ok, shown.text[0]


def test_undivided_attention_is_seen_to_be_wrong(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def undivided(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q[:, :, 0] @ k[:, :, 0].mT).softmax(-1)
        return (weights @ v[:, :, 0])[:, :, None]

    monkeypatch.setattr(transformer, "attend", undivided)
    assert not transformer._divided(session).ok


def test_the_lstm_s_products_wait_for_each_other_whatever_the_machine_s_speed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformer, "tokens_per_second", lambda net, length: 1.0)
    shown = run(session, "parallel against serial: an LSTM")
    assert shown.ok
    assert shown.table
    products = [[int(cell.replace(",", "")) for cell in row[3:]] for row in shown.table.rows]
    assert len({transformer for transformer, _ in products}) == 1
    assert [lstm >= 2 * length for (_, lstm), length in zip(products, (64, 256, 512), strict=True)] == [
        True
    ] * 3
    monkeypatch.setattr(
        transformer, "_products", lambda net, length: length
    )  # as if both went token by token
    assert not run(session, "parallel against serial: an LSTM").ok


def test_sizes_that_are_often_said_are_seen_to_be_wrong(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_name = {size.shown: size for size in large_models.SIZES}
    wrong = large_models.Size("bert", "bert-large-uncased", "BERT large", 1_100)
    monkeypatch.setattr(large_models, "SIZES", (by_name["BERT base"], wrong))
    assert not large_models._sizes(session).ok
    monkeypatch.setattr(
        large_models, "SIZES", (by_name["BERT base"], by_name["BERT large"], by_name["T5 small"])
    )
    shown = large_models._sizes(session)
    assert shown.ok
    assert shown.table is not None
    assert shown.table.rows[1][3] == ("1.1B, 3.3B", "11 亿、33 亿")


def test_parameters_of_many_experts_follow_from_two_and_three_of_them() -> None:
    size = large_models.Size("switch_transformers", "switch-base-8", "Switch Base", 0)
    family = large_models.family_of({"model_type": size.family})
    with torch.device("meta"):
        whole = sum(weight.numel() for weight in family.network(family.presets[size.preset]).parameters())
    assert large_models.counted(size) == whole


def test_places_that_are_alike_are_seen(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    original = positions.places

    def alike(kind: str, n: int, width: int) -> object:
        seen = original(kind, n, width)
        seen.facts["nearest"] = 0.0
        return seen

    monkeypatch.setattr(positions, "places", alike)
    assert not positions._sinusoids(session).ok


def test_a_document_whose_orders_are_kept_is_seen(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_knowledge, "without_orders", lambda text: text)
    assert not local_knowledge._orders(session).ok


def test_a_ranking_that_is_another_gives_other_scores(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructgpt, "_RANKING", (("A",), ("C",), ("D", "B")))
    assert not instructgpt._ranked(session).ok


def test_diffusion_that_is_run_back_without_its_points_ends_elsewhere(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = generating._back
    monkeypatch.setattr(generating, "_back", lambda noise, points: back(noise, points + 3))
    assert not generating._ink(session).ok


def test_pieces_of_another_text_are_others(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_embeddings, "_LEARNED", {"king": 40, "queen": 30, "thinking": 20})
    assert not word_embeddings._lowering(session).ok


def test_the_small_worlds_sentences_are_the_same_for_a_seed_and_known_word_by_word() -> None:
    assert world.general(50, 3) == world.general(50, 3) != world.general(50, 4)
    unknown = world.number(world.UNKNOWN)
    rows = world.rows([*world.general(300, 9), *world.medicine(100, 9)])
    assert not (rows == unknown).any()
    assert (rows == world.number(world.END)).sum() == len(rows)


def test_a_key_is_asked_for_at_the_distance_that_is_said() -> None:
    given, answers = recall_task.rows(20, 40, torch.Generator().manual_seed(0), distance=25)
    assert torch.equal(given[:, 40 - 1 - 25], answers[:, -1])  # key 0 with its value
    assert (given[:, -1] == recall_task.FIRST_QUERY).all()
    assert ((given < recall_task.FIRST_LETTER).sum(1) == recall_task.KEYS).all()
    assert (answers[:, :-1] == world.IGNORED).all()


def test_a_key_is_asked_for_only_once_it_was_there_and_means_its_value() -> None:
    given, answers = recall_task.rows(30, 64, torch.Generator().manual_seed(1))
    for row, wanted in zip(given.tolist(), answers.tolist(), strict=True):
        met: dict[int, int] = {}
        for token, answer in zip(row, wanted, strict=True):
            if token < recall_task.FIRST_LETTER:
                met[token // recall_task.VALUES] = token % recall_task.VALUES
            assert (answer != world.IGNORED) == (recall_task.FIRST_QUERY <= token < recall_task.FIRST_ANSWER)
            if answer != world.IGNORED:
                assert met[token - recall_task.FIRST_QUERY] == answer


def test_both_readers_are_of_one_size_and_ship_as_they_are_trained(tmp_path: Path) -> None:
    sizes = [sum(weight.numel() for weight in net.parameters()) for net in recall.readers().values()]
    assert max(sizes) < 1.05 * min(sizes)
    (tmp_path / "weights.toml").write_text('[a-third]\nsha256 = "ab"\nrecipe = "its own"\n', encoding="utf-8")
    recall.write_readers(tmp_path, steps=2, tokens=64)
    listed = tomllib.loads((tmp_path / "weights.toml").read_text(encoding="utf-8"))
    assert set(listed) == {"a-third", "recall-lstm", "recall-transformer"}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"recall-lstm.safetensors", "recall-transformer.safetensors", "weights.toml"}


def test_a_causal_mask_is_told_from_none(session: Session) -> None:
    """The same network of both ways in both roles: nothing is hidden, so the check fails."""
    torch.manual_seed(0)
    bert = networks.Bert(
        networks.BertConfig(
            vocab_size=world.tokenizer().get_vocab_size(), d_model=32, n_layers=2, n_heads=2, d_ff=64
        )
    ).eval()
    opened = Opened.of("small", bert, world.tokenizer(), "encoder")
    shown = self_attention._side_by_side(opened, opened)
    assert not shown.ok
    assert shown.table is not None
    assert [row[0] for row in shown.table.rows] == ["I", "love", "my", "dog"]


def test_a_preference_changes_answers_that_it_is_not_about() -> None:
    speech = alignment._Speech()
    rows = [
        speech.row("how do I get into my own house ?", answer)
        for answer in ("use your key .", "ask the owner first .")
    ]
    assert [asked for _, asked in rows] == [10, 10]
    assert len(rows[1][0]) == len(rows[0][0]) + 1


def test_half_a_good_answer_is_among_the_worst_that_people_see() -> None:
    lessons = alignment._lessons()
    for question, answers in lessons.rankings:
        assert alignment._HELD_OUT not in question
        assert answers[0].endswith(answers[-1])
        assert answers[-1] != answers[0]
    assert {alignment._HELD_OUT in question for question in lessons.unseen} == {True}


def test_new_articles_are_in_neither_demonstrations_nor_rankings() -> None:
    lessons = instructgpt._lessons()
    met = {article for article, _ in (*lessons.demonstrations, *lessons.rankings)}
    assert not met & set(lessons.unseen)
    assert all(lessons.is_good(article, answers[0]) for article, answers in lessons.unseen_rankings)
    assert not any(lessons.is_good(article, answers[-1]) for article, answers in lessons.unseen_rankings)


def test_zebras_have_attributes_of_three_animals_and_were_never_shown() -> None:
    horse, tiger, panda = (one.attributes for one in (zero_shot.HORSE, zero_shot.TIGER, zero_shot.PANDA))
    assert zero_shot.ZEBRA.attributes == (horse[0], tiger[1], panda[2])
    assert zero_shot.ZEBRA.attributes not in [one.attributes for one in zero_shot.SEEN]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_tour_without_models_is_right_within_its_time() -> None:
    found = list(run_tour(IDEAS, Session(handbook_folder())))
    assert [(one.example.name[0], one.shown.text[0]) for one in found if one.ok is False] == []
    assert sum(one.ok is None for one in found) == sum(
        bool({*each.needs} - {HANDBOOK}) for idea in IDEAS for each in idea.examples
    )
    assert all(a.idea.number <= b.idea.number for a, b in pairwise(found))
