"""The record of one architecture: all that the rest of the house has to know of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from kun.networks.gguf_layout import GgufLayout
from kun.networks.network import Network, NetworkConfig

Kind = Literal["decoder", "encoder", "encoder-decoder"]
"""What a network is for: to write, to read, or to read one text and write another."""


class ConfigType(Protocol):
    """The type of a family's configs."""

    def from_hf(self, values: Mapping[str, object]) -> NetworkConfig:
        """Read a `config.json`; BadInput names an impossible field, UnsupportedFormat one that we lack."""


@dataclass(frozen=True)
class Sharding:
    """How a network is cut over several processes; parts are named from the layer on.

    `columns` are cut by what they give, `rows` by what they read; `widths` are the fields of a config that have to be
    cut evenly. `before` are parts that embedded tokens go through ahead of the first layer, where the network may be
    cut into stages of layers; None where it may not.
    """

    columns: tuple[str, ...] = ("attention.q", "attention.k", "attention.v", "mlp.gate", "mlp.up")
    rows: tuple[str, ...] = ("attention.o", "mlp.down")
    widths: tuple[str, ...] = ("n_heads", "n_kv_heads", "d_ff")
    before: tuple[str, ...] | None = None


ENCODER_DECODER = Sharding(
    columns=(*Sharding.columns, "cross.q", "cross.k", "cross.v", "relative.table"),
    rows=(*Sharding.rows, "cross.o"),
    widths=(*Sharding.widths, "n_decoder_heads", "d_decoder_ff"),
)
"""That of an encoder-decoder."""


@dataclass(frozen=True)
class Family:
    """One architecture, by the `model_types` of `config.json` that it reads.

    `presets` are published sizes by name; `aliases` usual names of model types; `heads` what may stand in the place of
    the usual head: its name ("SequenceClassification") -> model type -> the reference's class; `objectives` what it
    learns, the usual first; `gguf` how GGUF files hold each of its model types that they can hold.
    """

    name: str
    model_types: tuple[str, ...]
    kind: Kind
    config: ConfigType
    network: Callable[..., Network]
    presets: Mapping[str, NetworkConfig]
    objectives: tuple[str, ...]
    paper: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sharding: Sharding | None = None
    gguf: Mapping[str, GgufLayout] = field(default_factory=dict)


def heads_of(stems: Mapping[str, str], names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """`Family.heads` for classes named by a stem for each model type and the head's name: BertForMaskedLM."""
    return {name: {kind: f"{stem}For{name}" for kind, stem in stems.items()} for name in names}
