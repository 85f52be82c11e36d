"""Words for masks, from a masked language model.

Filling is no decoding: all masks of a text are seen at once, each with what stands on both its sides
(Devlin et al., arXiv:1810.04805, section 3.1).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from kun.errors import BadInput
from kun.models.batching import batches
from kun.models.kinds import FILLING_HEADS
from kun.models.task_model import ADVICE, Filled, Filling, TaskModel

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn

    from kun.hub.checkpoint import Checkpoint
    from kun.networks.family import Family

MASKS = ("[MASK]", "<mask>")
"""The mask where the tokenizer's config names none: BERT's and RoBERTa's."""


class MaskedLanguageModel(TaskModel):
    """BERT, RoBERTa or ERNIE with the head that it was pretrained with; `mask_token` marks the words to find."""

    def __init__(
        self,
        net: "nn.Module",
        tokenizer: "Tokenizer",
        *,
        name: str = "model",
        mask_token: str | None = None,
        family: "Family | None" = None,
        checkpoint: "Checkpoint | None" = None,
    ) -> None:
        super().__init__(net, tokenizer, name=name, family=family, checkpoint=checkpoint)
        named = checkpoint.special_tokens.get("mask_token") if checkpoint else None
        usual = (mask for mask in MASKS if tokenizer.token_to_id(mask) is not None)
        self.mask_token = mask_token or named or next(usual, None)

    @overload
    def fill(self, texts: str, k: int = 5) -> Filled: ...
    @overload
    def fill(self, texts: list[str], k: int = 5) -> list[Filled]: ...
    def fill(self, texts: str | Sequence[str], k: int = 5) -> Filled | list[Filled]:
        """The `k` likeliest words for the mask of a text, likeliest first: a list of `Filling`.

        Where a text has several masks, a list for each of them: each is filled as if the others stayed
        masks. A list of texts gives a list. Raises `BadInput` for a text without a mask and a `k` that cannot be,
        `ContextOverflow` for a text that is too long.
        """
        mask = self._mask_id()
        several = [texts] if isinstance(texts, str) else texts
        if not isinstance(several, Sequence) or not all(isinstance(text, str) for text in several):
            raise BadInput("fill takes a text, or a list of texts.")
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self.config.vocab_size:
            raise BadInput(f"k is {k!r}; it must be a whole number from 1 to {self.config.vocab_size}.")
        rows = [self._encode(text, mask) for text in several]
        filled: dict[int, Filled] = {}
        for batch in batches([len(row) for row in rows]):
            for place, words in zip(batch, self._run([rows[i] for i in batch], mask, k), strict=True):
                filled[place] = words if len(words) > 1 else words[0]
        return filled[0] if isinstance(texts, str) else [filled[place] for place in range(len(rows))]

    def _mask_id(self) -> int:
        if self.config.head not in FILLING_HEADS:
            raise self._lacks("fills no masks", ADVICE)
        mask = self.tokenizer.token_to_id(self.mask_token) if self.mask_token else None
        if mask is None:
            raise BadInput(f"The tokenizer of {self.name} has no token for a mask, so it cannot fill any.")
        return mask

    def _encode(self, text: str, mask: int) -> list[int]:
        ids: list[int] = self._within_limit(text).ids
        if mask not in ids:
            raise BadInput(
                f"There is no mask in {text[:80]!r}: write {self.mask_token} where a word is to be found."
            )
        return ids

    def _run(self, rows: list[list[int]], mask: int, k: int) -> list[list[list[Filling]]]:
        """For each row, for each of its masks, the `k` likeliest."""
        import torch

        packed = torch.tensor([token for row in rows for token in row], device=self.device)
        with torch.inference_mode():
            output = self.net(
                packed[None], lengths=[len(row) for row in rows], logits_at=(packed == mask).nonzero()[:, 0]
            )
            # the masked word's logits stand first in the output of either head
            best = output[0][0].float().softmax(dim=-1).topk(k)
        filled = iter(
            [self._filling(token, p) for token, p in zip(tokens, ps, strict=True)]
            for tokens, ps in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        )
        return [[next(filled) for token in row if token == mask] for row in rows]

    def _filling(self, token: int, probability: float) -> Filling:
        return Filling(token, self.tokenizer.decode([token], skip_special_tokens=False), probability)
