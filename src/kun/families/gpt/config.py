"""Sizes of the GPTs, and the three layouts of `config.json` that hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from kun.blocks.activations import ACTIVATIONS
from kun.networks.fields import Fields

ModelType = Literal["openai-gpt", "gpt2", "gpt_neo"]
"""Hugging Face's names of GPT-1, of GPT-2, and of the one that has GPT-3's banded layers."""

Reach = Literal["global", "local"]
"""How far a layer sees: all tokens before, or a band of the last ones."""


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of one network; dropout acts in training alone.

    The kinds of the layers repeat `pattern`; a local one sees the last `window` tokens only.
    """

    vocab_size: int = 50257
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    d_ff: int = 3072
    max_positions: int = 1024
    norm_eps: float = 1e-5
    activation: str = "gelu_new"
    tied: bool = True
    dropout: float = 0.1
    embedding_dropout: float = 0.1
    attention_dropout: float = 0.1
    pattern: tuple[Reach, ...] = ("global",)
    window: int | None = None
    model_type: ModelType = "gpt2"

    @property
    def architecture(self) -> str:
        return _ARCHITECTURES[self.model_type]

    @property
    def norm_first(self) -> bool:
        """Whether norms come before each part, as from GPT-2 on."""
        return self.model_type != "openai-gpt"

    @property
    def attention_bias(self) -> bool:
        """Whether query, key and value have biases; gpt_neo's layout has no place for them."""
        return self.model_type != "gpt_neo"

    @property
    def n_kv_heads(self) -> int:
        return self.n_heads

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def context_length(self) -> int:
        """Tokens that a sequence may have: the rows of the position table."""
        return self.max_positions

    def window_of(self, layer: int) -> int | None:
        return self.window if self._reach(layer) == "local" else None

    def _reach(self, layer: int) -> Reach:
        return self.pattern[layer % len(self.pattern)]

    @classmethod
    def from_hf(cls, values: Mapping[str, object]) -> "GPTConfig":
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""
        f = Fields(values)
        model_type = f.only("model_type", "gpt2", *_ARCHITECTURES)
        usual, name = _USUAL[model_type], _NAMES[model_type]
        f.only("scale_attn_weights", True, True)
        f.only("scale_attn_by_inverse_layer_idx", False, False)
        f.only("add_cross_attention", False, False)
        d_model = f.integer(name["d_model"], usual.d_model)
        n_heads = f.integer(name["n_heads"], usual.n_heads, high=2**14)
        n_layers = f.integer(name["n_layers"], usual.n_layers, high=2**12)
        if d_model % n_heads:
            raise f.wrong(name["d_model"], f"a multiple of {name['n_heads']}, {n_heads}")
        pattern = _pattern(f, n_layers) if model_type == "gpt_neo" else ("global",)
        return cls(
            vocab_size=f.integer("vocab_size", usual.vocab_size),
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            d_ff=f.integer(name["d_ff"], 4 * d_model) if "d_ff" in name else 4 * d_model,
            max_positions=f.integer(name["max_positions"], usual.max_positions),
            norm_eps=f.number("layer_norm_epsilon", 1e-5, high=1.0),
            activation=_activation(f, name["activation"], model_type),
            tied=f.flag("tie_word_embeddings", True),
            dropout=f.number(name["dropout"], usual.dropout, high=1.0),
            embedding_dropout=f.number(name["embedding_dropout"], usual.embedding_dropout, high=1.0),
            attention_dropout=f.number(name["attention_dropout"], usual.attention_dropout, high=1.0),
            pattern=pattern,
            window=f.integer("window_size", 256) if "local" in pattern else None,
            model_type=model_type,
        )

    def to_hf(self) -> dict[str, object]:
        """The `config.json` that transformers reads back to the same network."""
        hf = {reference: getattr(self, ours) for ours, reference in _NAMES[self.model_type].items()}
        hf |= {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            "vocab_size": self.vocab_size,
            "layer_norm_epsilon": self.norm_eps,
            "tie_word_embeddings": self.tied,
        }
        if self.model_type == "openai-gpt":
            hf["afn"] = "gelu" if self.activation == "gelu_new" else self.activation
        if self.model_type == "gpt_neo":
            kinds = [self._reach(layer) for layer in range(self.n_layers)]
            hf |= {"attention_types": [[kinds, 1]], "window_size": self.window or self.max_positions}
        return hf


_ARCHITECTURES: dict[ModelType, str] = {
    "openai-gpt": "OpenAIGPTLMHeadModel",
    "gpt2": "GPT2LMHeadModel",
    "gpt_neo": "GPTNeoForCausalLM",
}

_GPT2_NAMES = {
    "d_model": "n_embd",
    "n_layers": "n_layer",
    "n_heads": "n_head",
    "d_ff": "n_inner",
    "max_positions": "n_positions",
    "activation": "activation_function",
    "dropout": "resid_pdrop",
    "embedding_dropout": "embd_pdrop",
    "attention_dropout": "attn_pdrop",
}
_NAMES: dict[str, dict[str, str]] = {
    "openai-gpt": {
        ours: name for ours, name in (_GPT2_NAMES | {"activation": "afn"}).items() if ours != "d_ff"
    },
    "gpt2": _GPT2_NAMES,
    "gpt_neo": {
        "d_model": "hidden_size",
        "n_layers": "num_layers",
        "n_heads": "num_heads",
        "d_ff": "intermediate_size",
        "max_positions": "max_position_embeddings",
        "activation": "activation_function",
        "dropout": "resid_dropout",
        "embedding_dropout": "embed_dropout",
        "attention_dropout": "attention_dropout",
    },
}
"""Our name of a field -> the name in each layout. GPT-1's feed-forward is always four times as wide."""


def _activation(f: Fields, name: str, model_type: str) -> str:
    """The activation by its usual name; what GPT-1's layout calls `gelu` is the tanh approximation."""
    if model_type != "openai-gpt":
        return f.only(name, "gelu_new", *ACTIVATIONS)
    said = f.only(name, "gelu", "gelu", "relu", "silu", "swish")
    return {"gelu": "gelu_new", "swish": "silu"}.get(said, said)


def _pattern(f: Fields, n_layers: int) -> tuple[Reach, ...]:
    """What the kinds of the layers repeat, from blocks [[kinds, how often], …] of `attention_types`."""
    wanted = f"blocks such as [[['global', 'local'], {n_layers // 2}]] for {n_layers} layers in all"
    blocks = f.values.get("attention_types") or [[["global", "local"], 12]]
    kinds: list[str] = []
    for block in blocks if isinstance(blocks, list) else [None]:
        match block:
            case [list(some), int(times)] if 0 <= times <= n_layers and set(map(str, some)) <= _KINDS:
                kinds += list(map(str, some)) * times
            case _:
                raise f.wrong("attention_types", wanted)
    if len(kinds) != n_layers:
        raise f.wrong("attention_types", wanted)
    period = next(p for p in range(1, n_layers + 1) if kinds == [kinds[i % p] for i in range(n_layers)])
    return tuple(cast(Reach, kind) for kind in kinds[:period])


_KINDS = {"global", "local"}


def _gpt3(d_model: int, n_layers: int, n_heads: int) -> GPTConfig:
    """A size of GPT-3, in gpt_neo's layout. The paper says how the layers take turns, not how wide the band
    is: 256 tokens is gpt_neo's width, and a guess. Nor does it mention dropout."""
    return GPTConfig(
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        d_ff=4 * d_model,
        max_positions=2048,
        dropout=0.0,
        embedding_dropout=0.0,
        attention_dropout=0.0,
        pattern=("global", "local"),
        window=256,
        model_type="gpt_neo",
    )


PRESETS: dict[str, GPTConfig] = {
    "gpt": GPTConfig(vocab_size=40478, max_positions=512, model_type="openai-gpt"),
    "gpt2": GPTConfig(),
    "gpt2-medium": GPTConfig(d_model=1024, n_layers=24, n_heads=16, d_ff=4096),
    "gpt2-large": GPTConfig(d_model=1280, n_layers=36, n_heads=20, d_ff=5120),
    "gpt2-xl": GPTConfig(d_model=1600, n_layers=48, n_heads=25, d_ff=6400),
    "gpt3-125m": _gpt3(768, 12, 12),
    "gpt3-350m": _gpt3(1024, 24, 16),
    "gpt3-760m": _gpt3(1536, 24, 16),
    # table 2.1 of the paper has 24 heads of 128 here, which is 3072, not 2048; 16 give the size that it states
    "gpt3-1.3b": _gpt3(2048, 24, 16),
    "gpt3-2.7b": _gpt3(2560, 32, 32),
    "gpt3-6.7b": _gpt3(4096, 32, 32),
    # the table has a width of 5140 here, which 40 heads do not divide; 40 heads of 128 are 5120
    "gpt3-13b": _gpt3(5120, 40, 40),
    "gpt3-175b": _gpt3(12288, 96, 96),
}
"""Published sizes, by name."""

_USUAL: dict[str, GPTConfig] = {
    "openai-gpt": PRESETS["gpt"],
    "gpt2": PRESETS["gpt2"],
    "gpt_neo": PRESETS["gpt3-1.3b"],
}
"""What a field is that a layout leaves out."""
