"""Attention as it is shown is the attention that the network computed."""

import pytest
import torch

from kun.errors import BadInput, UnsupportedFormat
from kun.inspection.attention import Look, looks
from kun.inspection.logits import next_words
from kun.inspection.moves import furthest, moves, stack_moves, steps_of
from kun.inspection.opened import LONGEST, Opened
from kun.inspection.watch import watching

TEXT = "nobody doesn't know"


def look_at(opened: Opened, text: str = TEXT) -> Look:
    [look] = looks(opened, text)
    return look


def test_watching_changes_nothing_and_leaves_nothing_behind(decoder: Opened) -> None:
    ids = decoder.read(TEXT).ids
    wanted = decoder.net(ids).logits
    with watching(decoder.net.layers) as seen:
        assert torch.equal(decoder.net(ids).logits, wanted)
    assert len(seen.attended) == len(seen.before) == len(seen.after) == len(seen.added) == 2
    decoder.net(ids)
    assert len(seen.attended) == len(seen.added) == 2


def test_every_word_spends_all_of_its_attention(decoder: Opened, encoder: Opened) -> None:
    for opened in (decoder, encoder):
        look = look_at(opened)
        assert look.weights.shape == (2, 4, len(look.tokens), len(look.tokens))
        assert torch.allclose(look.weights.sum(-1), torch.ones(1))


def test_a_causal_network_sees_nothing_to_its_right_and_an_encoder_does(
    decoder: Opened, encoder: Opened
) -> None:
    assert float(look_at(decoder).weights.triu(1).abs().max()) == 0
    assert float(look_at(encoder).weights[..., 0, 1:].min()) > 0


def test_a_first_word_of_a_causal_network_attends_to_itself_alone(decoder: Opened) -> None:
    steps = look_at(decoder).steps(0)
    assert steps.weights[0] == 1
    assert steps.scores[1] == -float("inf")
    assert steps.products[1] > -float("inf")


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 1])
def test_the_three_steps_lead_to_what_the_network_adds(decoder: Opened, encoder: Opened, layer: int) -> None:
    """The weighted sums of all heads, side by side, through the output projection."""
    for opened in (decoder, encoder):
        look, place = look_at(opened), 3
        heads = [look.steps(place, layer, head) for head in range(4)]
        for steps in heads:
            scores = torch.tensor(steps.scores)
            assert torch.allclose(scores.softmax(-1), torch.tensor(steps.weights), atol=1e-6)
            seen = scores.isfinite()
            scale = (torch.tensor(steps.products)[seen] / scores[seen]).mean()
            assert scale == pytest.approx(16**0.5, rel=1e-3)
        mixed = torch.cat([torch.tensor(steps.mixed) for steps in heads])
        with watching(opened.net.layers) as seen_again:
            opened.net(opened.read(TEXT).ids)
        added = opened.net.layers[layer].attention.o(mixed).detach()
        assert torch.allclose(added, seen_again.added[layer][0, place], atol=1e-5)
        share = added.norm() / seen_again.before[layer][0, place].norm()
        assert heads[0].moved == pytest.approx(float(share), rel=1e-4)
        assert heads[0].nearness[place] == pytest.approx(1, abs=1e-5)


def test_one_head_of_one_layer_and_their_mean_can_be_picked(decoder: Opened) -> None:
    look = look_at(decoder)
    assert torch.equal(look.pick(1, 2), look.weights[1, 2])
    assert torch.allclose(look.pick(None, None), look.weights.mean((0, 1)))
    for wrong in ({"layer": 2, "head": 0}, {"layer": None, "head": 4}, {"layer": -1, "head": None}):
        with pytest.raises(BadInput, match="numbered from 0"):
            look.pick(**wrong)
    with pytest.raises(BadInput, match="numbered from 0"):
        look.steps(99)


def test_a_word_is_found_by_how_it_is_shown(decoder: Opened) -> None:
    look = look_at(decoder)
    [(found, steps)] = steps_of([look], look.tokens[2])
    assert found is look
    assert steps.place == look.tokens.index(look.tokens[2])
    with pytest.raises(BadInput, match="No token of tiny-llama is 'whale'; there are"):
        steps_of([look], "whale")


def test_texts_that_cannot_be_shown_are_refused(decoder: Opened) -> None:
    for text, why in (("", "empty"), ("z" * (LONGEST + 1), "can be shown")):
        with pytest.raises(BadInput, match=why):
            look_at(decoder, text)


@torch.no_grad()
def test_the_last_layers_guess_is_the_networks_own(decoder: Opened) -> None:
    places = next_words(decoder, TEXT, k=3)
    ids, tokens = decoder.read(TEXT).ids, decoder.read(TEXT).tokens
    wanted = decoder.net(ids).logits[0].softmax(-1)
    assert [place.token for place in places] == tokens
    for row, place in enumerate(places):
        assert len(place.layers) == 2
        assert place.layers[-1] == place.guesses[0]
        assert place.guesses[0].probability == pytest.approx(float(wanted[row].max()), rel=1e-4)
        if row + 1 < len(tokens):
            assert place.followed == pytest.approx(float(wanted[row, ids[0, row + 1]]), rel=1e-4)
    assert places[-1].followed is None


def test_an_encoder_has_no_next_word(encoder: Opened) -> None:
    with pytest.raises(UnsupportedFormat, match="encoder"):
        next_words(encoder, TEXT)


def test_the_head_that_moves_a_word_most_towards_another_is_found_among_all(encoder: Opened) -> None:
    look = look_at(encoder)
    found = moves(look, 1)
    assert [move.towards for move in found] == [
        token for place, token in enumerate(look.tokens) if place != 1
    ]
    for number, move in zip([0, *range(2, len(look.tokens))], found, strict=True):
        before = look.seen.before[move.layer][0]
        heads = []
        for head in range(look.n_heads):
            weight = encoder.layers[move.layer].get_submodule("attention.o").weight.detach()
            width = weight.shape[1] // look.n_heads
            mixed = torch.tensor(look.steps(1, move.layer, head).mixed)
            added = weight[:, head * width : (head + 1) * width] @ mixed
            heads.append(float(torch.cosine_similarity(before[1] + added, before[number], dim=0)))
        assert max(heads) == pytest.approx(move.after, abs=1e-5)
        assert heads[move.head] == max(heads)
        assert move.gain == pytest.approx(move.after - move.before)


def test_the_steps_of_a_word_are_those_of_its_furthest_move_unless_a_layer_or_head_is_named(
    encoder: Opened,
) -> None:
    look = look_at(encoder)
    word = look.tokens[1]
    best = max(moves(look, 1), key=lambda move: move.gain)
    [(_, steps)] = steps_of([look], word)
    assert (steps.layer, steps.head) == (best.layer, best.head) == furthest(look, 1)
    [(_, steps)] = steps_of([look], word, layer=0)
    assert steps.layer == 0
    [(_, steps)] = steps_of([look], word, 0, 1)
    assert (steps.layer, steps.head) == (0, 1)
    with pytest.raises(BadInput, match="no layer 99"):
        steps_of([look], word, layer=99)


def test_the_whole_stack_is_what_lies_below_and_above_all_layers(decoder: Opened) -> None:
    look = look_at(decoder)
    first, last = look.seen.before[0][0], look.seen.after[-1][0]
    found = stack_moves(look, 0)
    assert [move.towards for move in found] == look.tokens[1:]
    for place, move in enumerate(found, 1):
        assert move.before == pytest.approx(
            float(torch.cosine_similarity(first[0], first[place], dim=0)), abs=1e-5
        )
        assert move.after == pytest.approx(
            float(torch.cosine_similarity(last[0], last[place], dim=0)), abs=1e-5
        )
