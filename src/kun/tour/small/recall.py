"""Recall over a distance: what a key stood for some tokens ago; a Transformer and an LSTM of equal size.

Both ship trained, for that takes minutes (`make tour-weights`). Rows are those of the training task of this name.
"""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.families.lstm import LSTM, LSTMConfig
from kun.objectives.recall import FIRST_ANSWER, ROOM, VOCABULARY, rows
from kun.tour.shipped import read_shipped, write_shipped
from kun.tour.small.training import fit, seeded
from kun.tour.small.world import IGNORED

LONGEST = 512
"""The longest rows that are learned."""
LENGTHS = (16, 32, 64, 128, 256, LONGEST)
TOKENS, STEPS = 2048, 1500
"""Tokens of a step, whatever its length, and steps of the shipped networks."""

Reader = GPT | LSTM


def readers() -> dict[str, Reader]:
    """Both networks, fresh, by the names of their weights: about 146,000 numbers each."""
    gpt = GPTConfig(
        vocab_size=VOCABULARY, d_model=64, n_layers=2, n_heads=2, d_ff=256, max_positions=LONGEST + ROOM, dropout=0.0,
        embedding_dropout=0.0, attention_dropout=0.0,
    )  # fmt: skip
    lstm = LSTMConfig(
        vocab_size=VOCABULARY, d_model=90, n_layers=2, context_length=LONGEST + ROOM, dropout=0.0
    )
    return {"recall-transformer": GPT(gpt), "recall-lstm": LSTM(lstm)}


def recall_loss(net: Reader, step: int, tokens: int = TOKENS) -> Tensor:
    """The cross-entropy of the answers, in rows of a length that changes from step to step."""
    length = LENGTHS[step % len(LENGTHS)]
    given, answers = rows(max(1, tokens // length), length, torch.Generator().manual_seed(step))
    wanted = answers != IGNORED
    return F.cross_entropy(net.head(net.states(given)[wanted])[:, FIRST_ANSWER:], answers[wanted])


def train_readers(steps: int = STEPS, tokens: int = TOKENS) -> dict[str, Reader]:
    """Both networks, trained on the same rows for the same steps."""
    with seeded(0):
        made = readers()
        for net in made.values():
            fit(net.parameters(), partial(recall_loss, net, tokens=tokens), steps, 2e-3)
    return made


def write_readers(folder: Path, steps: int = STEPS, tokens: int = TOKENS) -> None:
    """Train both, and write their weights in half precision as they ship."""
    recipe = f"kun.tour.small.recall.write_readers(folder, steps={steps}, tokens={tokens})"
    for name, net in train_readers(steps, tokens).items():
        write_shipped(name, {key: tensor.half() for key, tensor in net.state_dict().items()}, recipe, folder)


def read_readers() -> dict[str, Reader]:
    """The shipped ones. Raises `DamagedFile`."""
    made = readers()
    for name, net in made.items():
        net.load_state_dict(read_shipped(name))
        net.eval()
    return made
