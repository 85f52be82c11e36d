"""Recall over a distance: what a key stood for some tokens ago; a Transformer and an LSTM of equal size.

Both ship trained, for that takes minutes (`make tour-weights`).
"""

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from kun.atomic_files import sha256
from kun.families.gpt.config import GPTConfig
from kun.families.gpt.gpt import GPT
from kun.families.lstm import LSTM, LSTMConfig
from kun.tour.shipped import read_shipped
from kun.tour.small.training import fit, seeded
from kun.tour.small.world import IGNORED

KEYS, VALUES, LETTERS = 8, 16, 32
"""Keys that each get one of the values in a row, letters between them. A key with its value is one token."""
FIRST_LETTER = KEYS * VALUES
FIRST_QUERY = FIRST_LETTER + LETTERS
FIRST_ANSWER = FIRST_QUERY + KEYS
VOCABULARY = FIRST_ANSWER + VALUES
LONGEST, ROOM = 512, 16
"""The longest rows that are learned, and tokens that a row has more than the distance that is asked about."""
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


def rows(
    count: int, length: int, generator: torch.Generator, distance: int | None = None
) -> tuple[Tensor, Tensor]:
    """Rows [count, length] and the answer after each token [count, length], IGNORED where nothing is asked.

    Every key stands once, with a value of chance, at a place of chance, among letters; queries come after their keys.
    With `distance` there is one query, at the end, about the key that stands so many tokens before it.
    """
    given = torch.randint(FIRST_LETTER, FIRST_QUERY, (count, length), generator=generator)
    values = torch.randint(VALUES, (count, KEYS), generator=generator)
    lots = torch.rand(count, length - 1, generator=generator)
    if distance is not None:
        lots[:, length - 1 - distance] = -1.0  # key 0 is drawn first
    places = lots.argsort(-1)[:, :KEYS]
    given.scatter_(1, places, torch.arange(KEYS) * VALUES + values)
    asked = torch.randint(KEYS, (count, length), generator=generator)
    if distance is not None:
        asked[:, -1] = 0
    often = 0.0 if distance is not None else 0.25
    is_query = torch.rand(count, length, generator=generator) < often * torch.rand(
        count, 1, generator=generator
    )
    is_query &= (given >= FIRST_LETTER) & (torch.arange(length) > places.gather(1, asked))
    is_query[:, -1] = True
    answers = torch.where(is_query, values.gather(1, asked), IGNORED)
    return torch.where(is_query, FIRST_QUERY + asked, given), answers


def recall_loss(net: Reader, step: int, tokens: int = TOKENS) -> Tensor:
    """The cross-entropy of the answers, in rows of a length that changes from step to step."""
    length = LENGTHS[step % len(LENGTHS)]
    given, answers = rows(max(1, tokens // length), length, torch.Generator().manual_seed(step))
    wanted = answers != IGNORED
    return F.cross_entropy(net.head(net.states(given)[wanted])[:, FIRST_ANSWER:], answers[wanted])


@torch.no_grad()
def recalled(net: Reader, distance: int, count: int = 64) -> float:
    """The share of values that are recalled from `distance` tokens ago; one of sixteen is chance."""
    given, answers = rows(count, distance + ROOM, torch.Generator().manual_seed(distance), distance)
    found = net.head(net.states(given)[:, -1])[:, FIRST_ANSWER:].argmax(-1)
    return float((found == answers[:, -1]).float().mean())


def train_readers(steps: int = STEPS, tokens: int = TOKENS) -> dict[str, Reader]:
    """Both networks, trained on the same rows for the same steps."""
    with seeded(0):
        made = readers()
        for net in made.values():
            fit(net.parameters(), partial(recall_loss, net, tokens=tokens), steps, 2e-3)
    return made


def write_readers(folder: Path, steps: int = STEPS, tokens: int = TOKENS) -> None:
    """Train both, and write their weights in half precision with weights.toml, as they ship."""
    described = []
    for name, net in train_readers(steps, tokens).items():
        path = folder / f"{name}.safetensors"
        save_file({key: tensor.half().contiguous() for key, tensor in net.state_dict().items()}, path)
        recipe = f"kun.tour.small.recall.write_readers(folder, steps={steps}, tokens={tokens})"
        described.append(f'[{name}]\nsha256 = "{sha256(path)}"\nrecipe = "{recipe}"\n')
    (folder / "weights.toml").write_text("\n".join(described), encoding="utf-8")


def read_readers() -> dict[str, Reader]:
    """The shipped ones. Raises `DamagedFile`."""
    made = readers()
    for name, net in made.items():
        net.load_state_dict(read_shipped(name))
        net.eval()
    return made
