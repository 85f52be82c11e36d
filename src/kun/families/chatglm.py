"""ChatGLM-6B, the first: GLM, Du et al., arXiv:2103.10360, and GLM-130B, Zeng et al., arXiv:2210.02414.

What differs from a decoder that only looks back: the prompt sees itself both ways, and the answer sees the
prompt and itself as far as it is written (a prefix language model). An answer fills a blank, [gMASK], which
stands at the end of the prompt, or [MASK] somewhere in it. So a token has two positions: in the text, where
all of the answer stands at the blank, and in the blank, which is 0 for the prompt and 1, 2, … in the answer.
One half of each head is rotated by the first, the other half by the second.
A layer adds to its normed input √(2 · layers) times what the parts compute weighs less, in the manner of
DeepNorm (arXiv:2203.00555). The original rotates by angles rounded to 16 bits; here they are float32.

Its successors, which have the same `model_type`, are in `glm.py`. transformers has no such network, so what
is written has the original's names, which its own repository reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import torch
from torch import Tensor, nn

from kun.blocks.attention import causal_mask, positions_of
from kun.blocks.cache import CacheStep, PagedCache
from kun.blocks.feed_forward import FeedForward
from kun.blocks.rotary import Rotary, RotaryConfig, rotate
from kun.errors import BadInput, ContextOverflow
from kun.families.glm import FAMILY as LATER
from kun.networks import config_keys as keys
from kun.networks.decoder import Context, Decoder
from kun.networks.decoding import DecodingState, RowState
from kun.networks.family import Family, Sharding
from kun.networks.fields import Fields
from kun.networks.fused import fused_heads
from kun.networks.names import Names, PartNames
from kun.networks.network import check_mask, check_positions, initialize

BothRotary = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Cosine and sine of the positions in the text, and of those in the blank."""


@dataclass(frozen=True)
class ChatGLMConfig:
    """Sizes of one network, and the tokens that tell prompt from answer."""

    vocab_size: int = keys.whole(130528, "vocab_size")
    d_model: int = keys.whole(4096, "hidden_size")
    n_layers: int = keys.layers(28, "num_layers")
    n_heads: int = keys.heads(32, "num_attention_heads")
    d_ff: int = keys.whole(16384, "inner_hidden_size")
    max_positions: int = keys.whole(2048, "max_sequence_length")
    norm_eps: float = keys.share(1e-5, "layernorm_epsilon")
    tied: bool = keys.flag(True, "tie_word_embeddings")
    bos_token_id: int = keys.token(130004, "bos_token_id")
    eos_token_id: int = keys.token(130005, "eos_token_id")
    mask_token_id: int = keys.token(130000, "mask_token_id")
    gmask_token_id: int = keys.token(130001, "gmask_token_id")
    pad_token_id: int = keys.token(3, "pad_token_id")

    architecture = "ChatGLMModel"
    model_type = "chatglm"

    @property
    def n_kv_heads(self) -> int:
        return self.n_heads

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def context_length(self) -> int:
        """Tokens that a sequence may have."""
        return self.max_positions

    @property
    def alpha(self) -> float:
        """What a layer's normed input is multiplied by before the parts are added."""
        return (2 * self.n_layers) ** 0.5

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> "ChatGLMConfig":
        """Read the original `config.json`.

        BadInput names an impossible field, UnsupportedFormat one that we lack.
        """
        f = Fields(values)
        f.only("position_encoding_2d", True, True)
        f.only("quantization_bit", 0, 0)
        f.only("pre_seq_len", None, None)
        config = keys.read(cls, f)
        if config.d_model % (4 * config.n_heads):
            raise f.wrong("hidden_size", f"a multiple of 4 · num_attention_heads, {4 * config.n_heads}")
        return config if "inner_hidden_size" in f else replace(config, d_ff=4 * config.d_model)

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that the original repository reads."""
        return keys.written(self) | {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "position_encoding_2d": True,
        }


class Attention(nn.Module):
    """Self-attention with as many keys as queries; each half of a head is rotated by a position of its own."""

    def __init__(self, config: ChatGLMConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.d_head = layer, config.d_head
        self.q, self.k, self.v, self.o = (nn.Linear(config.d_model, config.d_model) for _ in range(4))

    def forward(self, x: Tensor, rotary: BothRotary, context: Context) -> Tensor:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)) for proj in (self.q, self.k, self.v))
        mixed = context.attend(self.layer, _rotate_both(q, rotary), _rotate_both(k, rotary), v)
        return self.o(mixed.flatten(-2))


def _rotate_both(x: Tensor, rotary: BothRotary) -> Tensor:
    in_text, in_blank = x.chunk(2, dim=-1)
    return torch.cat((rotate(in_text, *rotary[0]), rotate(in_blank, *rotary[1])), dim=-1)


class Layer(nn.Module):
    """x = norm(x), h = α x + attention(x); then the same with the feed-forward. The residual is what was normed."""

    def __init__(self, config: ChatGLMConfig, layer: int) -> None:
        super().__init__()
        self.alpha = config.alpha
        self.attention_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config, layer)
        self.mlp_norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config.d_model, config.d_ff, "gelu_new")

    def forward(self, x: Tensor, rotary: BothRotary, context: Context) -> Tensor:
        x = self.attention_norm(x)
        h = self.mlp_norm(self.alpha * x + self.attention(x, rotary, context))
        return self.alpha * h + self.mlp(h)


class ChatGLM(Decoder):
    """The first ChatGLM with its head, which is the embedding where `tied` (then `lm_head` is None).

    A row's prompt ends where its first start token is; without one, all of it is prompt. `positions` [b, 2, t], in the
    text and in the blank, follow from that, so that they need be given with `inputs_embeds` alone.
    """

    config: ChatGLMConfig

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.lm_head = self.untied_head()
        self.rotary = Rotary(RotaryConfig(), config.d_head // 2)
        fused = fused_heads("attention.qkv", config.n_heads, config.d_head)
        self.names = PartNames(NAMES, "transformer.", left_out=(".inv_freq",), fused=[fused])
        initialize(self)

    def context(
        self,
        x: Tensor,
        ids: Tensor | None,
        attention_mask: Tensor | None,
        positions: Tensor | None,
        cache: CacheStep | None,
    ) -> Context:
        if cache is not None:
            check_positions(cache.positions, self.config.max_positions)
            return Context.of(x, None, positions, cache)
        real = check_mask(attention_mask, x.shape[:2])
        if real is None:
            real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if positions is None:
            if ids is None:
                raise BadInput("Without input_ids this network needs positions [rows, 2, tokens].")
            positions = places(self.config, ids, real)
        check_positions(positions, self.config.max_positions)
        seen = causal_mask(real, x.shape[1], None, x.device)
        assert seen is not None
        prompt = real & (positions[:, 1] == 0)
        return Context(positions, None, {None: seen | prompt[:, None, None]})

    def begin(self, x: Tensor, context: Context) -> tuple[Tensor, tuple[object, ...]]:
        return x, (tuple(self.rotary(context.positions[:, i], x.dtype) for i in range(2)),)

    def new_state(
        self, n_pages: int, page_size: int, dtype: torch.dtype, device: torch.device
    ) -> "ChatGLMState":
        """What it carries from step to step: keys and values in pages, and where each prompt ends."""
        plain = super().new_state(n_pages, page_size, dtype, device)
        return ChatGLMState(plain.cache, self.config)


def places(config: ChatGLMConfig, ids: Tensor, real: Tensor) -> Tensor:
    """The positions [b, 2, t] of padded rows: ids [b, t], `real` (bool) [b, t] where no padding is."""
    in_text = positions_of(real, ids.shape[1], ids.device)
    begun = ((ids == config.bos_token_id) & real).cumsum(-1) > 0
    gmask, mask = ((ids == token) & real for token in (config.gmask_token_id, config.mask_token_id))
    blank = torch.where(gmask.any(-1, keepdim=True), gmask, mask)
    place = in_text.gather(1, blank.int().argmax(-1, keepdim=True))
    prompt = (real & ~begun).sum(-1, keepdim=True)
    in_blank = torch.where(begun, in_text - prompt + 1, 0)
    in_text = torch.where(begun & blank.any(-1, keepdim=True), place, in_text)
    return torch.stack((in_text, in_blank), dim=1)


@dataclass(eq=False)
class ChatGLMRow(RowState):
    """A row whose answer stands at the place `blank` of its prompt; None where no place is marked."""

    blank: int | None = None


class ChatGLMState(DecodingState):
    """Keys and values in pages; the prompt of a row is read at once, since its tokens see each other."""

    def __init__(self, cache: PagedCache, config: ChatGLMConfig) -> None:
        super().__init__(cache)
        self.config = config

    def start(self, prompt: Sequence[int]) -> ChatGLMRow:
        """The prompt, [gMASK] where it has no blank yet, and the start token. Raises ContextOverflow."""
        config, tokens = self.config, list(prompt)
        if config.bos_token_id not in tokens:
            if config.gmask_token_id not in tokens and config.mask_token_id not in tokens:
                tokens.append(config.gmask_token_id)
            tokens.append(config.bos_token_id)
        if len(tokens) >= config.context_length:
            raise ContextOverflow(
                f"The prompt has {len(tokens)} tokens and leaves no room in the context of {config.context_length}."
            )
        prefix = tokens.index(config.bos_token_id)
        blank = config.gmask_token_id if config.gmask_token_id in tokens else config.mask_token_id
        root = blake2b(repr(tokens[:prefix]).encode(), digest_size=16).digest()
        return ChatGLMRow(tokens, prefix, root, blank=tokens.index(blank) if blank in tokens else None)

    def step(
        self, rows: Sequence[RowState], tables: list[list[int]], before: list[int], counts: list[int]
    ) -> CacheStep:
        """As `DecodingState.step`, but `positions` are [1, 2, total], in the text and in the blank."""
        step = super().step(rows, tables, before, counts)
        parts = [
            _row_places(row, place)
            for row, place in zip(rows, step.positions[0].split(list(counts)), strict=True)
        ]
        step.positions = torch.cat(parts, dim=-1)[None]
        return step


def _row_places(row: RowState, place: Tensor) -> Tensor:
    """Positions [2, n] of the tokens at the places [n] of a row."""
    assert isinstance(row, ChatGLMRow)
    begun = place >= row.prefix
    in_text = place if row.blank is None else place.masked_fill(begun, row.blank)
    return torch.stack((in_text, (place - row.prefix + 1).clamp(min=0)))


NAMES = Names(
    (
        ("embed", "word_embeddings"),
        ("norm", "final_layernorm"),
        ("attention_norm", "input_layernorm"),
        ("mlp_norm", "post_attention_layernorm"),
        ("attention.qkv", "attention.query_key_value"),
        ("attention.o", "attention.dense"),
        ("mlp.up", "mlp.dense_h_to_4h"),
        ("mlp.down", "mlp.dense_4h_to_h"),
    )
)

PRESETS: dict[str, ChatGLMConfig] = {"chatglm-6b": ChatGLMConfig()}
"""The published size."""

FAMILY = Family(
    name="chatglm",
    model_types=("chatglm",),
    kind="decoder",
    config=ChatGLMConfig,
    network=ChatGLM,
    presets=PRESETS,
    objectives=("next_token",),
    paper="Du et al., arXiv:2103.10360",
    sharding=Sharding(before=()),
)


def family(hf_config: Mapping[str, object]) -> Family:
    """The first ChatGLM or its successors, which have the same `model_type` and other fields."""
    return LATER if "ffn_hidden_size" in hf_config or "multi_query_group_num" in hf_config else FAMILY
