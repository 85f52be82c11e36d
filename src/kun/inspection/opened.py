"""A model opened for looking at: a float32 network, its tokenizer, and how it reads a text."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from kun.errors import BadInput, UnsupportedFormat
from kun.generation.stream import ends_of
from kun.hub.opening import open_checkpoint
from kun.hub.pull import locate
from kun.networks.family import Kind
from kun.networks.network import LanguageNetwork
from kun.text.tokenizer import before_the_end, sound

LONGEST = 64
"""Tokens that are shown at once: a picture of more cannot be read."""
MOST_WRITTEN = 12
"""Tokens of an answer that is not given."""


@dataclass(frozen=True)
class NetworkInput:
    """The input of a network: `ids` [1, t] shown as `tokens`, the first `prefix` of which see each other.

    An encoder-decoder's are those of its decoder; its encoder reads `source` [1, s], shown as `source_tokens`.
    """

    ids: Tensor
    tokens: list[str]
    prefix: int = 0
    source: Tensor | None = None
    source_tokens: tuple[str, ...] = ()

    @property
    def arguments(self) -> dict[str, Tensor]:
        """The keyword arguments of the network's call."""
        if self.source is None:
            return {"input_ids": self.ids}
        return {"input_ids": self.source, "decoder_input_ids": self.ids}

    def then(self, ids: Sequence[int], tokens: Sequence[str]) -> "NetworkInput":
        """This, and these behind it."""
        longer = torch.cat((self.ids, torch.tensor([list(ids)], dtype=torch.long)), dim=1)
        return replace(self, ids=longer, tokens=[*self.tokens, *tokens])


@dataclass(frozen=True)
class Opened:
    """A network of one stack of layers, or of an encoder's and a decoder's; `ends` are tokens that end an answer."""

    name: str
    net: nn.Module
    tokenizer: Tokenizer
    kind: Kind
    ends: frozenset[int] = frozenset()

    @classmethod
    def open(cls, name: str | Path) -> "Opened":
        """Raises what loading raises, and `UnsupportedFormat` for a network without layers of self-attention."""
        path = locate(name)
        checkpoint = open_checkpoint(path)
        net = checkpoint.network(dtype="float32", device="cpu")
        ends = ends_of(checkpoint.generation_config.get("eos_token_id"))
        return cls.of(path.name, net, checkpoint.tokenizer, checkpoint.kind, ends)

    @classmethod
    def of(
        cls, name: str, net: nn.Module, tokenizer: Tokenizer, kind: Kind, ends: frozenset[int] = frozenset()
    ) -> "Opened":
        opened = cls(name, net, tokenizer, kind, ends)
        for stack in opened._stacks:
            opened._layers(stack)
        return opened

    @property
    def layers(self) -> nn.ModuleList:
        """The layers of which the last says what the network says: a decoder's, where there are two stacks."""
        return self._layers(self._stacks[-1])

    @property
    def encoder_layers(self) -> nn.ModuleList:
        """The layers that read the source, or the only ones."""
        return self._layers(self._stacks[0])

    def say(self, states: Tensor) -> Tensor:
        """Logits [..., vocabulary] that a layer's states [..., d_model] come to, through the last norm and the head."""
        norm = getattr(self._stacks[-1], "norm", None)
        return self.language_network.head(states if norm is None else norm(states))

    @property
    def language_network(self) -> LanguageNetwork:
        """The network, which must be one that writes. Raises `UnsupportedFormat` for another."""
        if not isinstance(self.net, LanguageNetwork):
            raise UnsupportedFormat(f"{self.name} writes no text. Name a language model.")
        return self.net

    @property
    def _stacks(self) -> tuple[object, ...]:
        if self.kind != "encoder-decoder":
            return (self.net,)
        return getattr(self.net, "encoder", None), getattr(self.net, "decoder", None)

    def _layers(self, stack: object) -> nn.ModuleList:
        layers = stack if isinstance(stack, nn.ModuleList) else getattr(stack, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise UnsupportedFormat(f"{self.name} has no layers of self-attention, so it is not shown.")
        return layers

    def read(self, text: str, answer: str | None = None) -> NetworkInput:
        """The input for `text`, as the network reads it when it writes.

        One that reads all of a text and then writes another also reads the `answer`, or the beginning of its
        own where None is given. Raises `BadInput` for an empty text, one too long to show, and an answer that the
        network has no place for.
        """
        if self.kind == "encoder":
            ids, tokens = self._cut(text)
            reading, answers = NetworkInput(torch.tensor([ids]), tokens), False
        else:
            ids, tokens = self._cut(text, open_ended=self.kind == "decoder")
            row = self.language_network.new_state(1, 1, torch.float32, torch.device("cpu")).start(ids)
            begun = torch.tensor([row.tokens])
            if self.kind == "decoder":
                tokens += map(self._shown, row.tokens[len(ids) :])
                reading = NetworkInput(begun, tokens, row.prefix)
            else:
                shown = [self._shown(token) for token in row.tokens]
                reading = NetworkInput(begun, shown, source=torch.tensor([ids]), source_tokens=tuple(tokens))
            answers = row.prefix > 0 or reading.source is not None
        if answers:
            return self._answered(reading, answer)
        if answer is not None:
            raise BadInput(
                f"{self.name} reads one text and no answer to it: write both as one, or leave it out."
            )
        return reading

    def _answered(self, reading: NetworkInput, answer: str | None) -> NetworkInput:
        if answer is not None:
            return reading.then(*self._cut(answer, special=False))
        with torch.no_grad():
            for _ in range(MOST_WRITTEN):
                token = int(self.net(**reading.arguments).logits[0, -1].argmax())
                if token in self.ends:
                    break
                reading = reading.then([token], [self._shown(token)])
        return reading

    def _cut(
        self, text: str, *, special: bool = True, open_ended: bool = False
    ) -> tuple[list[int], list[str]]:
        """Ids and how they are shown; with what the tokenizer puts around a text, at its end unless `open_ended`."""
        text = sound(text)
        encoding = self.tokenizer.encode(text, add_special_tokens=special)
        if 0 not in encoding.special_tokens_mask:
            raise BadInput("The text is empty: write a sentence.")
        count = before_the_end(encoding) if open_ended else len(encoding.ids)
        if count > LONGEST:
            raise BadInput(f"The text has {count} tokens; {LONGEST} can be shown: shorten it.")
        shown = [
            text[start:end] if end > start else token
            for token, (start, end) in zip(encoding.tokens[:count], encoding.offsets, strict=False)
        ]
        return encoding.ids[:count], [each.strip() or "␣" for each in shown]

    def _shown(self, token: int) -> str:
        """A token that no text was cut into."""
        text: str = self.tokenizer.decode([token], skip_special_tokens=False)
        return text.strip() or self.tokenizer.id_to_token(token) or f"<{token}>"
