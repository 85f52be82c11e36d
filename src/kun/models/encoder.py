"""Texts to vectors: a BERT-type network, its tokenizer, and the recipe that turns states into one vector.

The recipe is read where sentence-transformers keeps it: `modules.json`, `1_Pooling/config.json`, the prompts of
`config_sentence_transformers.json` and the limit of `sentence_bert_config.json`. A folder without them is
pooled by the mean, as multilingual E5 (arXiv:2402.05672) and Sentence-BERT (arXiv:1908.10084) are.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.models.batching import BATCH_TOKENS, batches
from kun.models.kinds import Candidate
from kun.models.memory import page_out
from kun.models.ready import LONGEST_TOKEN, TextModel
from kun.text.tokenizer import sound
from kun.text.unigram import CompactUnigram

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding, Tokenizer
    from torch import nn

    from kun.hub.checkpoint import Checkpoint

TextKind = Literal["query", "passage"]
Pooling = Literal["mean", "cls", "max"]


SHORT_CHARACTERS = 4000
"""Up to so many in all, texts are cut without the whole tokenizer where there is a way to."""


@dataclass(frozen=True)
class EncoderRecipe:
    """How states become one vector: the pooling, the prefix for each kind of text, the limit in tokens."""

    pooling: Pooling = "mean"
    prefixes: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None

    @classmethod
    def read(cls, folder: Path) -> "EncoderRecipe":
        """The recipe in a checkpoint's folder; UnsupportedFormat for a part that would change the vectors."""
        pooling = _pooling(folder)
        settings = _read_json(folder / "config_sentence_transformers.json")
        prompts = settings.get("prompts") or {}
        if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
            raise DamagedFile(f"{folder}: the prompts of config_sentence_transformers.json are no texts.")
        prefixes = {
            "query": prompts.get("query", ""),
            "passage": prompts.get("passage", prompts.get("document", "")),
        }
        limit = _read_json(folder / "sentence_bert_config.json").get("max_seq_length")
        if limit is not None and (not isinstance(limit, int) or limit < 3):
            raise DamagedFile(f"{folder}: max_seq_length in sentence_bert_config.json is {limit!r}.")
        return cls(pooling, prefixes, limit)


class Encoder(TextModel):
    """Turns texts into unit vectors. Safe to use from several threads."""

    def __init__(
        self,
        net: "nn.Module",
        tokenizer: "Tokenizer | Callable[[], Tokenizer]",
        *,
        short_texts: CompactUnigram | None = None,
        recipe: EncoderRecipe | None = None,
        identity: str = "",
        name: str = "encoder",
        checkpoint: "Checkpoint | None" = None,
    ) -> None:
        """`net` is a BERT (or what `fit_encoder` made of one); `identity` tells vectors of different encoders apart.

        With `short_texts` a search needs no tokenizer, which then may be read when it is first needed.
        """
        super().__init__(net, tokenizer, name=name, checkpoint=checkpoint)
        self.recipe = recipe or EncoderRecipe()
        config = self.config
        self.dimensions: int = config.d_model
        self.max_tokens: int = min(self.recipe.max_tokens or config.context_length, config.context_length)
        self.identity = _identity(identity, self.recipe, self.max_tokens)
        if not callable(tokenizer):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        self._short_texts = short_texts

    @classmethod
    def open(
        cls,
        name_or_path: str | Path,
        *,
        quantize: str | None = None,
        dtype: "torch.dtype | str | None" = None,
        device: "torch.device | str | None" = None,
    ) -> "Encoder":
        """The encoder of a catalog name (pulled first if need be) or checkpoint folder, ready for this machine.

        With neither `quantize`, `dtype` nor `device`, it runs in the way that is fastest here.
        Raises ModelNotFound, DamagedFile, and BadInput where the model is no encoder.
        """
        from kun.hub.pull import locate

        candidate = Candidate(locate(name_or_path))
        if candidate.opened().kind != "encoder":
            raise BadInput(f"{name_or_path} is a language model; choose a text encoder instead.")
        encoder = cls.from_candidate(candidate, quantize=quantize, dtype=dtype, device=device)
        encoder.name = Path(name_or_path).name
        return encoder

    @classmethod
    def from_candidate(
        cls,
        candidate: Candidate,
        *,
        quantize: str | None,
        dtype: "torch.dtype | str | None",
        device: "torch.device | str | None",
    ) -> "Encoder":
        """The encoder of an encoder's checkpoint; a head that it was saved with is left out."""
        from kun.adaptation.native_bert import fit_encoder

        checkpoint = candidate.opened()
        net = checkpoint.network(dtype=dtype, device=device, quantize=quantize, as_packed=True)
        drop_head: Callable[[], None] = net.drop_head  # type: ignore[assignment]
        drop_head()
        if not (quantize or dtype or device):
            mapped = [(weight.data_ptr(), weight.nbytes) for weight in net.parameters()]
            net = fit_encoder(net)
            page_out(mapped)
        return cls(
            net,
            lambda: checkpoint.tokenizer,
            short_texts=_short_texts(checkpoint),
            recipe=_recipe(checkpoint),
            identity=checkpoint.identity,
            name=candidate.path.name,
            checkpoint=checkpoint,
        )

    def save(self, folder: str | Path) -> Path:
        """Write the checkpoint that the encoder came from: what it runs on is fitted to this machine.

        Raises `BadInput` for an encoder that came from none and for a folder that holds other things, `NoSpace`.
        """
        from kun.hub.saving import save_checkpoint

        origin = self.checkpoint
        if origin is None:
            raise BadInput("This encoder came from no checkpoint, so that there is nothing to save.")
        return save_checkpoint(folder, origin.network(), tokenizer=self.tokenizer, origin=origin)

    def embed(
        self,
        texts: Sequence[str],
        kind: TextKind | None = None,
        batch_tokens: int = BATCH_TOKENS,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Unit vectors, float32 [n, dimensions], in the order of `texts`; longer texts than `max_tokens` are cut.

        `kind` puts the model's prefix before each text. Texts of like length run together, `batch_tokens` at a
        time; `progress(done, all)` is told after each batch. Raises BadInput for anything but a list of texts.
        """
        self._check(texts, kind, batch_tokens)
        prefix = self.recipe.prefixes.get(kind, "") if kind else ""
        short = self._short_rows(texts, prefix)
        rows = [row for row, _ in short] if short else self._tokenize([prefix + text for text in texts])
        vectors = np.empty((len(rows), self.dimensions), dtype=np.float32)
        done = 0
        for batch in batches([len(row) for row in rows], batch_tokens):
            vectors[batch] = self._pooled(self._states([rows[i] for i in batch]))
            done += len(batch)
            if progress:
                progress(done, len(rows))
        return vectors

    def embed_tokens(
        self, texts: Sequence[str], kind: TextKind | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """`embed`, and of each text its tokens' states, float32 [t, dimensions], without prefix and special tokens.

        Only where a text's vector is their mean do states lie where vectors do: of other encoders t is 0.
        """
        self._check(texts, kind, BATCH_TOKENS)
        prefix = self.recipe.prefixes.get(kind, "") if kind else ""
        if short := self._short_rows(texts, prefix):
            rows, own = [row for row, _ in short], [list(places) for _, places in short]
        else:
            encodings = self._encodings([prefix + text for text in texts], fast=False)
            rows = [self._cut(encoding) for encoding in encodings]
            own = [self._own_tokens(encoding, len(prefix)) for encoding in encodings]
        vectors = np.empty((len(rows), self.dimensions), dtype=np.float32)
        tokens = [np.empty((0, self.dimensions), dtype=np.float32)] * len(rows)
        for batch in batches([len(row) for row in rows]):
            states = self._states([rows[i] for i in batch])
            vectors[batch] = self._pooled(states)
            for i, part in zip(batch, states, strict=True):
                if self.recipe.pooling == "mean":
                    tokens[i] = part[own[i]].cpu().numpy()
        return vectors, tokens

    def _check(self, texts: Sequence[str], kind: str | None, batch_tokens: int) -> None:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise BadInput("embed takes a list of texts.")
        if kind not in ("query", "passage", None):
            raise BadInput(f"The kind of a text is 'query', 'passage' or None, not {kind!r}.")
        if batch_tokens < 1:
            raise BadInput(f"batch_tokens is {batch_tokens}; it must be at least 1.")

    def _tokenize(self, texts: Iterable[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, at most `max_tokens` long."""
        return [self._cut(encoding) for encoding in self._encodings(texts, fast=True)]

    def _short_rows(self, texts: Sequence[str], prefix: str) -> list[tuple[list[int], range]]:
        """Ids, and the places of a text's own, of a few short texts; empty once the whole tokenizer is needed."""
        short = self._short_texts
        if short is not None and sum(map(len, texts)) <= SHORT_CHARACTERS and "tokenizer" not in vars(self):
            rows = [short.encode(sound(text), prefix) for text in texts]
            found = [row for row in rows if row is not None and 0 < len(row[0]) <= self.max_tokens]
            if len(found) == len(rows):
                return found
        self._short_texts = None
        return []

    def _encodings(self, texts: Iterable[str], fast: bool) -> "list[Encoding]":
        """What the tokenizer makes of the texts; where it is to be `fast`, without the tokens' places."""
        limit = LONGEST_TOKEN * self.max_tokens
        whole = [sound(text[:limit]) for text in texts]
        return self.tokenizer.encode_batch_fast(whole) if fast else self.tokenizer.encode_batch(whole)

    def _cut(self, encoding: "Encoding") -> list[int]:
        """The token ids within the limit."""
        ids: list[int] = encoding.ids
        return (
            ids
            if 0 < len(ids) <= self.max_tokens
            else [ids[place] for place in self._within(encoding)] or [0]
        )

    def _within(self, encoding: "Encoding") -> list[int]:
        """The places of the first tokens and, as the network expects them, of the special ones at the end."""
        count = len(encoding.ids)
        if count <= self.max_tokens:
            return list(range(count))
        special = encoding.special_tokens_mask
        tail = next((n for n, flag in enumerate(reversed(special)) if not flag), 0)
        tail = min(tail, self.max_tokens - 1)
        return [*range(self.max_tokens - tail), *range(count - tail, count)]

    def _own_tokens(self, encoding: "Encoding", prefix: int) -> list[int]:
        """Which of the tokens within the limit are of the text itself, behind its `prefix` characters."""
        special, offsets = encoding.special_tokens_mask, encoding.offsets
        places = enumerate(self._within(encoding))
        return [n for n, place in places if not special[place] and offsets[place][1] > prefix]

    def _states(self, rows: list[list[int]]) -> "tuple[torch.Tensor, ...]":
        """The states of each row's tokens, float32 [t, dimensions]."""
        import torch

        with torch.inference_mode():
            lengths = [len(row) for row in rows]
            ids = torch.tensor([token for row in rows for token in row], device=self.device)[None]
            return self.net(ids, lengths=lengths).last_hidden_state[0].float().split(lengths)

    def _pooled(self, states: "Sequence[torch.Tensor]") -> np.ndarray:
        """A unit vector for each row's states, [n, dimensions]."""
        import torch

        pooled = torch.stack([_pool(part, self.recipe.pooling) for part in states])
        vectors: np.ndarray = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors


def _pool(states: "torch.Tensor", pooling: Pooling) -> "torch.Tensor":
    """One vector [d] of a row's states [t, d]."""
    if pooling == "cls":
        return states[0]
    return states.mean(dim=0) if pooling == "mean" else states.amax(dim=0)


def _identity(weights: str, recipe: EncoderRecipe, max_tokens: int) -> str:
    """A digest that differs wherever two encoders would give different vectors."""
    parts = [weights, recipe.pooling, sorted(recipe.prefixes.items()), max_tokens]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:32]


def _short_texts(checkpoint: "Checkpoint") -> CompactUnigram | None:
    path = checkpoint.tokenizer_path
    return None if path is None else CompactUnigram.read(path)


def _recipe(checkpoint: "Checkpoint") -> EncoderRecipe:
    """What a checkpoint's folder says; a .gguf file says the pooling alone."""
    if checkpoint.files_path.is_dir():
        return EncoderRecipe.read(checkpoint.files_path)
    return EncoderRecipe("cls" if checkpoint.pooling == "cls" else "mean")


def _pooling(folder: Path) -> Pooling:
    """The pooling that `modules.json` leads to; mean where nothing is said."""
    modules = _read_json(folder / "modules.json") if (folder / "modules.json").is_file() else {}
    listed = [str(module.get("type", "")) for module in modules.get("list", []) if isinstance(module, dict)]
    for kind in listed:
        if kind.rsplit(".", 1)[-1] not in ("Transformer", "Pooling", "Normalize"):
            raise UnsupportedFormat(f"{folder}: Kun does not know the sentence-transformers module {kind}.")
    from kun.hub.layout import POOLINGS, read_pooling

    pooling: Any = read_pooling(folder)
    if pooling not in POOLINGS:
        raise UnsupportedFormat(f"{folder}: Kun does not pool by {pooling}.")
    checked: Pooling = pooling
    return checked


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a small JSON file (a list stands under "list"); empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes()[: 2**20])
    except ValueError as error:
        raise DamagedFile(f"{path} is not valid JSON; fetch the model again.") from error
    return value if isinstance(value, dict) else {"list": value}
