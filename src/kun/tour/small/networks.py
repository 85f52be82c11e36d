"""The two small networks of the tour, a GPT and a BERT of the same sentences, trained when they are first asked for."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kun.families.bert.bert import Bert
from kun.families.bert.config import BertConfig
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.tour.session import Session
from kun.tour.small import world
from kun.tour.small.training import fit, seeded

_SENTENCES, _BATCH = 4000, 32


@dataclass(frozen=True, eq=False)
class Trained:
    """A GPT that has read the general sentences, and its loss at each step."""

    net: GPT
    losses: list[float]


def gpt_config(vocab_size: int | None = None) -> GPTConfig:
    """Sizes of the small GPT, without dropout; the vocabulary is the world's where none is given."""
    return GPTConfig(
        vocab_size=vocab_size or world.tokenizer().get_vocab_size(),
        d_model=64,
        n_layers=2,
        n_heads=2,
        d_ff=256,
        max_positions=48,
        dropout=0.0,
        embedding_dropout=0.0,
        attention_dropout=0.0,
    )


def next_word_loss(net: GPT, rows: Tensor, skip: int = 0) -> Tensor:
    """The mean cross-entropy of each next word [n, t] after the first `skip`, padding left out."""
    wanted = rows[:, 1:].masked_fill(rows[:, 1:] == world.number(world.PAD), world.IGNORED)
    wanted[:, :skip] = world.IGNORED
    return F.cross_entropy(
        net(rows[:, :-1]).logits.flatten(0, 1), wanted.flatten(), ignore_index=world.IGNORED
    )


@torch.no_grad()
def perplexity(net: GPT, sentences: Sequence[str]) -> float:
    """exp of the mean loss a word."""
    net.eval()
    found = float(next_word_loss(net, world.rows(sentences)).exp())
    net.train()
    return found


def picked(rows: Tensor, step: int, count: int = _BATCH, seed: int = 0) -> Tensor:
    """A batch of `rows` for this step, the same whenever it is asked for; padding that all have is cut off."""
    generator = torch.Generator().manual_seed(seed * 100_003 + step)
    some = rows[torch.randint(len(rows), (count,), generator=generator)]
    return some[:, : int((some != world.number(world.PAD)).sum(1).max())]


def pretrain(net: GPT, rows: Tensor, steps: int, lr: float = 3e-3) -> list[float]:
    """Train `net` on the next word of `rows`; its losses."""
    return fit(net.parameters(), lambda step: next_word_loss(net, picked(rows, step)), steps, lr)


def pretrained(session: Session) -> Trained:
    """The small GPT: some seconds."""
    del session
    with seeded(0):
        net = GPT(gpt_config())
        return Trained(net, pretrain(net, world.rows(world.general(_SENTENCES, 1)), 600, 5e-3))


def copied(net: GPT) -> GPT:
    """A copy that may be trained on."""
    return copy.deepcopy(net)


def masked(session: Session) -> Bert:
    """The small BERT: it learns the words under masks, of which each word has a chance of 15 %."""
    del session
    with seeded(0):
        config = BertConfig(
            vocab_size=world.tokenizer().get_vocab_size(),
            d_model=64,
            n_layers=2,
            n_heads=2,
            d_ff=256,
            max_positions=48,
            dropout=0.0,
            attention_dropout=0.0,
            head="MaskedLM",
        )
        net, rows = Bert(config), world.rows(world.general(_SENTENCES, 1))
        fit(net.parameters(), lambda step: _masked_loss(net, picked(rows, step)), 800, 4e-3)
        net.eval()
        return net


def _masked_loss(net: Bert, rows: Tensor) -> Tensor:
    words = rows >= len(world.SPECIAL)
    hidden = words & (torch.rand(rows.shape) < 0.15)
    hidden[torch.arange(len(rows)), words.long().argmax(1) + torch.randint(4, (len(rows),))] = True
    given = rows.masked_fill(hidden, world.number(world.MASK))
    logits = net(given, rows != world.number(world.PAD)).logits
    return F.cross_entropy(logits[hidden], rows[hidden])


@torch.no_grad()
def guesses(net: Bert, sentence: str, k: int = 5) -> list[tuple[str, float]]:
    """The `k` likeliest words under the first mask of `sentence`, with their probabilities."""
    ids = world.rows([sentence])
    place = int((ids[0] == world.number(world.MASK)).nonzero()[0])
    found = net(ids).logits[0, place].softmax(-1).topk(k)
    words = world.tokenizer()
    return [
        (words.decode([token], skip_special_tokens=False), float(share))
        for share, token in zip(found.values, found.indices.tolist(), strict=True)
    ]
