"""The next-token distribution at every place, and the guess of each layer.

The second is the "logit lens" (nostalgebraist, 2020): a layer's states through the last norm and the head.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer
from torch import Tensor

from kun.errors import UnsupportedFormat
from kun.inspection.opened import Opened
from kun.inspection.watch import watching


@dataclass(frozen=True)
class Guess:
    """A token that may come next, and its probability."""

    text: str
    probability: float


@dataclass(frozen=True)
class NextWords:
    """After `token`: the likeliest that come next, the probability of what did, what each layer would say.

    `followed` is None after the last token; `layers` holds one guess a layer, the first layer's first.
    """

    token: str
    guesses: tuple[Guess, ...]
    followed: float | None
    layers: tuple[Guess, ...]


def next_words(opened: Opened, text: str, k: int = 5, answer: str | None = None) -> list[NextWords]:
    """The next-word distribution at every place of `text`, or of the `answer` to it; see `Opened.read`.

    Raises `UnsupportedFormat` for a network that has none.
    """
    if opened.kind == "encoder":
        raise UnsupportedFormat(f"{opened.name} is an encoder: it has no next word. Name a language model.")
    reading = opened.read(text, answer)
    ask = getattr(opened.net, "asking_next", None)
    with watching(opened.layers) as seen:
        output = opened.net(**(reading.arguments if ask is None else ask(reading.ids)))
        lens = [_probabilities(opened.say(states)) for states in seen.after[:-1]]
    last = _probabilities(output.logits)
    follow = [*last[:-1].gather(-1, reading.ids[0, 1:, None]).squeeze(-1).tolist(), None]
    best = last.topk(min(k, last.shape[-1]))
    rows = zip(reading.tokens, best.values.tolist(), best.indices.tolist(), follow, strict=True)
    places = [
        NextWords(
            token,
            tuple(Guess(_shown(opened.tokenizer, i), p) for p, i in zip(values, indices, strict=True)),
            followed,
            tuple(_likeliest(opened.tokenizer, one[place]) for one in [*lens, last]),
        )
        for place, (token, values, indices, followed) in enumerate(rows)
    ]
    # words that see each other know what follows them
    return places[reading.prefix :]


def _probabilities(logits: Tensor) -> Tensor:
    """[t, vocabulary], from the logits of a row, or of a row for each place."""
    return logits.flatten(0, 1).float().softmax(-1)


def _likeliest(tokenizer: Tokenizer, probabilities: Tensor) -> Guess:
    token = int(probabilities.argmax())
    return Guess(_shown(tokenizer, token), float(probabilities[token]))


def _shown(tokenizer: Tokenizer, token: int) -> str:
    text: str = tokenizer.decode([token], skip_special_tokens=False)
    return text.replace("\n", "⏎").replace(" ", "␣") or tokenizer.id_to_token(token) or f"<{token}>"
