"""Networks that read one text and write another, or see all of a prompt first: what they look at, what comes next."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, processors
from torch import Tensor

from kun.errors import BadInput
from kun.inspection import picture
from kun.inspection.attention import looks
from kun.inspection.logits import next_words
from kun.inspection.moves import steps_of
from kun.inspection.opened import MOST_WRITTEN, Opened
from kun.inspection.watch import watching

TEXT, ANSWER = "nobody doesn't know", "the lazy dog"
Translator = tuple[Opened, Any]


@torch.no_grad()
def test_the_three_attentions_are_the_references(translator: Translator) -> None:
    opened, theirs = translator
    seen = looks(opened, TEXT, ANSWER)
    parts = ["encoder self-attention", "decoder self-attention", "cross-attention"]
    assert [look.part for look in seen] == parts
    said = theirs(**opened.read(TEXT, ANSWER).arguments, output_attentions=True)
    for look, wanted in zip(
        seen, (said.encoder_attentions, said.decoder_attentions, said.cross_attentions), strict=True
    ):
        assert look.weights.shape[2:] == (len(look.tokens), len(look.looked_at))
        assert torch.allclose(look.weights, torch.cat(wanted), atol=1e-5)


def test_what_is_written_looks_at_what_was_read(translator: Translator) -> None:
    source, written, across = looks(translator[0], TEXT, ANSWER)
    assert across.looked_at == source.tokens
    assert across.tokens == written.tokens
    assert "".join(written.tokens[1:]) == ANSWER.replace(" ", "")


@torch.no_grad()
@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_three_steps_lead_to_what_is_added(translator: Translator, which: int) -> None:
    """The weighted sums of all heads through the output projection; and to what they are added."""
    opened = translator[0]
    look, place, layer = looks(opened, TEXT, ANSWER)[which], 2, 1
    heads = [look.steps(place, layer, head) for head in range(4)]
    block = (opened.encoder_layers if which == 0 else opened.layers)[layer]
    part = "cross" if which == 2 else "attention"
    added = block.get_submodule(f"{part}.o")(torch.cat([torch.tensor(one.mixed) for one in heads]))
    assert torch.allclose(added, look.seen.added[layer][0, place], atol=1e-4)
    # before the norm that comes next: the feed-forward's, the other attention's, or its own
    sums: list[Tensor] = []
    norm = block.get_submodule(
        f"{part}_norm" if "marian" in opened.name else "cross_norm" if which == 1 else "mlp_norm"
    )
    hook = norm.register_forward_pre_hook(lambda _, given: sums.append(given[0]))
    opened.net(**opened.read(TEXT, ANSWER).arguments)
    hook.remove()
    assert torch.allclose(look.seen.before[layer] + look.seen.added[layer], sums[0], atol=1e-5)


def test_an_answer_that_is_not_given_is_the_networks_own(translator: Translator) -> None:
    opened = translator[0]
    places = next_words(opened, TEXT, k=1)
    assert len(places) == 1 + MOST_WRITTEN
    for place in places[:-1]:
        assert place.followed == pytest.approx(place.guesses[0].probability, rel=1e-4)
    ids = opened.read(TEXT).ids[0].tolist()
    ending = Opened.of(opened.name, opened.net, opened.tokenizer, opened.kind, frozenset({ids[3]}))
    assert ending.read(TEXT).ids[0].tolist() == ids[: ids.index(ids[3], 1)]


@torch.no_grad()
def test_the_last_layers_guess_is_the_networks_own(translator: Translator) -> None:
    opened, theirs = translator
    reading = opened.read(TEXT, ANSWER)
    wanted = theirs(**reading.arguments).logits[0].softmax(-1)
    places = next_words(opened, TEXT, 2, ANSWER)
    for row, place in enumerate(places):
        assert len(place.layers) == len(opened.layers)
        assert place.layers[-1] == place.guesses[0]
        assert place.guesses[0].probability == pytest.approx(float(wanted[row].max()), rel=1e-3)
    with watching(opened.layers) as seen:
        opened.net(**reading.arguments)
    assert torch.allclose(opened.say(seen.after[-1])[0].softmax(-1), wanted, atol=1e-4)


def test_a_word_is_followed_wherever_it_stands(translator: Translator) -> None:
    seen = looks(translator[0], TEXT, ANSWER)
    read, written = seen[0].tokens[0], seen[1].tokens[-1]
    assert [look.part for look, _ in steps_of(seen, read)] == ["encoder self-attention"]
    found = steps_of(seen, written)
    assert [look for look, _ in found] == seen[1:]
    steps = found[1][1]
    assert len(steps.weights) == len(steps.nearness) == len(steps.nearness_after) == len(seen[0].tokens)
    with pytest.raises(BadInput, match="'whale'; there are n"):
        steps_of(seen, "whale")
    for draw in (
        lambda kind: picture.attention(seen, None, None, kind),
        lambda kind: picture.steps([look for look, _ in found], [one for _, one in found], kind),
    ):
        assert b"cross-attention" in draw("svg")


def test_a_prompt_that_is_seen_at_once_says_nothing_of_what_follows_its_words(prefix: Opened) -> None:
    reading = prefix.read(TEXT, ANSWER)
    [look] = looks(prefix, TEXT, ANSWER)
    sees = look.weights[0, 0] > 0
    assert sees[: reading.prefix, : reading.prefix].all()
    assert not sees[: reading.prefix, reading.prefix :].any()
    assert not sees.triu(1)[reading.prefix :].any()
    assert [place.token for place in next_words(prefix, TEXT, 1, ANSWER)] == reading.tokens[reading.prefix :]
    assert len(next_words(prefix, TEXT)) == 1 + MOST_WRITTEN


@torch.no_grad()
def test_what_comes_next_in_any_order_is_what_the_engine_is_told(xlnet: Opened) -> None:
    ids = xlnet.read(TEXT).ids
    places = next_words(xlnet, TEXT, k=1)
    assert len(places) == ids.shape[1]
    for place, said in enumerate(places):
        state = xlnet.net.new_state(2, 32, torch.float32, torch.device("cpu"))
        row = state.start(ids[0, : place + 1].tolist())
        step = state.step([row], [[0, 1]], [0], [place + 1])
        wanted = xlnet.net(ids[:, : place + 1], cache=step).logits[0, 0].softmax(-1)
        assert said.guesses[0].probability == pytest.approx(float(wanted.max()), rel=1e-3)
        assert said.layers[-1] == said.guesses[0]


def test_a_text_is_read_with_what_the_tokenizer_puts_before_it_and_left_open(decoder: Opened) -> None:
    tokenizer = Tokenizer.from_str(decoder.tokenizer.to_str())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    reading = Opened.of("begins", decoder.net, tokenizer, "decoder").read(TEXT)
    assert reading.tokens == ["<|im_start|>", *decoder.read(TEXT).tokens]
    assert reading.ids[0].tolist() == [1, *decoder.read(TEXT).ids[0].tolist()]


def test_an_answer_is_refused_where_there_is_no_place_for_one(decoder: Opened, encoder: Opened) -> None:
    for opened in (decoder, encoder):
        with pytest.raises(BadInput, match="no answer"):
            opened.read(TEXT, ANSWER)


def test_an_empty_answer_is_refused(prefix: Opened) -> None:
    with pytest.raises(BadInput, match="empty"):
        prefix.read(TEXT, "")
