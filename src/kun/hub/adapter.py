"""Adapters in PEFT's layout: thin matrices next to a base model's, in a folder of their own that `peft` loads.

`adapter_config.json` names the base and how much the pairs count, `adapter_model.safetensors` holds them under the
names of the reference's layers. https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.atomic_files import Progress, checking, silent
from kun.errors import BadInput, BaseMismatch, DamagedFile, UnsupportedFormat
from kun.hub.bases import find_base
from kun.hub.checkpoint import Checkpoint, sample
from kun.hub.folder import folder_template
from kun.hub.layout import ADAPTER_CONFIG as CONFIG
from kun.hub.layout import ADAPTER_WEIGHTS as WEIGHTS
from kun.hub.layout import LINEAGE, check_files, parent_of, read_json, weight_records
from kun.hub.loading import build
from kun.hub.weights import PICKLES, Weights, check_sizes, read_header
from kun.networks.fields import Fields
from kun.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import nn

    from kun.adaptation.lora import Pair
    from kun.networks.family import Family
    from kun.networks.network import Network

PREFIX = "base_model.model."
_UNKNOWN = (
    "use_dora", "lora_bias", "target_parameters", "trainable_token_indices", "layer_replication", "corda_config",
    "use_qalora", "alora_invocation_tokens",
)  # fmt: skip
"""What PEFT's newer versions can do besides plain pairs, and Kun does not: each is off, empty or not named."""
_LONGEST_PATTERN = 500


class AdapterCheckpoint(Checkpoint):
    """An adapter, and the checkpoint that it makes of its `base`: its network, tokenizer, template and lineage.

    `stated` is adapter_config.json. The tokenizer and the template are the adapter's own where it has them. As a
    checkpoint like any other (`state`, `network`), its weights are the base's with the pairs added, in float32.
    """

    def __init__(self, path: Path, base: Checkpoint, stated: dict[str, Any]) -> None:
        own = path / "config.json"
        super().__init__(path, read_json(own) if own.is_file() else base.config)
        self.base, self.stated = base, stated

    @classmethod
    def open(cls, path: str | Path, base: str | Path | Checkpoint | None = None) -> "AdapterCheckpoint":
        """Open the adapter in a folder; its base is found by its name, or by the digest that kun.json has of it.

        A `base` that is named is taken or refused. Raises `UnsupportedFormat` for another kind of adapter,
        `ModelNotFound` where the base is not here, `BadInput` where it is an adapter itself, `BaseMismatch` where it
        is not the one that the adapter was trained on, and `DamagedFile`.
        """
        path = Path(path)
        stated = read_json(path / CONFIG)
        _check_kind(path, stated)
        lineage = read_json(path / LINEAGE) if (path / LINEAGE).is_file() else {}
        check_sizes(path, weight_records(lineage))
        check_files(path, lineage)
        parent = parent_of(lineage)
        found = base if isinstance(base, Checkpoint) else find_base(path, stated, parent, base)
        if "identity" in parent and found.identity != parent["identity"]:
            raise BaseMismatch(
                f"{path} was trained on {parent.get('name')} with the digest {str(parent['identity'])[:12]}…, and "
                f"{found.path} is another ({found.identity[:12]}…): an adapter fits no other weights than those it "
                f"was trained on."
            )
        return cls(path, found, stated)

    @property
    def files_path(self) -> Path:
        return self.base.files_path

    @cached_property
    def tensors(self) -> "dict[str, torch.Tensor]":
        """What the file holds, by the reference's names. Raises `DamagedFile`."""
        path = self.path / WEIGHTS
        if not path.is_file() and (pickles := [p.name for each in PICKLES for p in self.path.glob(each)]):
            raise UnsupportedFormat(
                f"{self.path} holds its weights as {pickles[0]}, a pickle, which can run code and is never read: "
                f"have them written as {WEIGHTS}."
            )
        with checking(self.digests()):
            named = Weights(self.path, read_header(path)).load()
        wrong = next((name for name, tensor in named.items() if not tensor.is_floating_point()), None)
        if wrong is not None:
            raise DamagedFile(f"{path}: {wrong} is not floating point; copy the adapter again.")
        return {name.removeprefix(PREFIX): tensor for name, tensor in named.items()}

    @cached_property
    def whole(self) -> "dict[str, torch.Tensor]":
        """Tensors that the adapter has instead of the base's, by the reference's names."""
        kept = {name: tensor for name, tensor in self.tensors.items() if ".lora_" not in name}
        return {name.replace(".modules_to_save.default", ""): tensor for name, tensor in kept.items()}

    def pairs(self, net: "Network") -> "dict[str, Pair]":
        """The pairs by the names of the layers of `net`. Raises `DamagedFile` where they do not fit it."""
        from kun.adaptation.lora import check_pair, matrices
        from kun.adaptation.lora_layout import Layout

        try:
            pairs = Layout.of(net).ours(self._reference_pairs())
            layers = dict(matrices(net))
            for name, pair in pairs.items():
                check_pair(name, layers.get(name), pair)
        except BadInput as error:
            raise DamagedFile(f"{self.path} does not fit {self.base.path}: {error}") from error
        return pairs

    def _reference_pairs(self) -> "dict[str, Pair]":
        from kun.adaptation.lora import Pair

        other = next(
            (n for n in self.tensors if ".lora_" in n and ".lora_A." not in n and ".lora_B." not in n), None
        )
        if other is not None:
            raise UnsupportedFormat(
                f"{self.path / WEIGHTS} holds {other}, which Kun does not read: adapt linear layers alone."
            )
        ups = {_layer(name, "lora_B"): tensor for name, tensor in self.tensors.items() if ".lora_B." in name}
        downs = {
            _layer(name, "lora_A"): tensor for name, tensor in self.tensors.items() if ".lora_A." in name
        }
        if (
            ups.keys() != downs.keys()
            or not downs
            or any(t.dim() != 2 for t in (*ups.values(), *downs.values()))
        ):
            raise DamagedFile(
                f"{self.path / WEIGHTS} does not hold pairs of matrices; copy the adapter again."
            )
        fields = Fields(self.stated, str(self.path / CONFIG))
        alpha = fields.number("lora_alpha", 8.0)
        alphas = fields.mapping("alpha_pattern") if "alpha_pattern" in fields else {}
        rooted = fields.flag("use_rslora", False)  # Kalajdzievski, arXiv:2312.03732
        pairs = {}
        for name, a in downs.items():
            counts = next((v for key, v in alphas.items() if _names(key, name)), alpha)
            if isinstance(counts, bool) or not isinstance(counts, int | float):
                raise fields.wrong("alpha_pattern", "numbers by names of layers")
            pairs[name] = Pair(a, ups[name], counts / (len(a) ** 0.5 if rooted else len(a)))
        return pairs

    def adapted(
        self,
        dtype: "torch.dtype | str | None" = None,
        device: "torch.device | str | None" = None,
        dropout: float = 0.0,
    ) -> "nn.Module":
        """The base's network with the pairs beside its matrices, to go on training them and the `whole` parts."""
        from kun.adaptation.lora import attach

        net: Any = build(_Replaced(self), dtype, device)
        place = next(net.parameters()).device
        attach(net, self.pairs(net), dropout).to(place)
        for name in net.names.ours(self.whole):
            net.get_parameter(name).requires_grad_(True)
        return net

    def state(self) -> "dict[str, torch.Tensor]":
        """The weights of the merged model, float32, by their Hugging Face names."""
        from kun.adaptation.lora import merge

        net: Any = merge(self.adapted("float32", "cpu"))
        merged: dict[str, torch.Tensor] = net.names.reference(net.state_dict())
        return merged

    def identifying_files(self) -> list[Path]:
        own = (self.path / name for name in (CONFIG, WEIGHTS, "tokenizer.json"))
        return [path for path in own if path.is_file()]

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256(self.base.identity.encode())
        for path in self.identifying_files():
            sample(path, digest)
        return digest.hexdigest()

    @cached_property
    def lineage(self) -> dict[str, object]:
        own = read_json(self.path / LINEAGE) if (self.path / LINEAGE).is_file() else {}
        return {key: self.base.lineage[key] for key in ("licence",) if key in self.base.lineage} | own

    @property
    def pooling(self) -> str:
        return self.base.pooling

    @property
    def is_sentence_encoder(self) -> bool:
        return self.base.is_sentence_encoder

    @cached_property
    def generation_config(self) -> dict[str, object]:
        return self.base.generation_config

    @cached_property
    def tokenizer_config(self) -> dict[str, object]:
        path = self.path / "tokenizer_config.json"
        return read_json(path) if path.is_file() else self.base.tokenizer_config

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        own = self.path / "tokenizer.json"
        return load_tokenizer(self.path) if own.is_file() else self.base.tokenizer

    def template_source(self) -> str | None:
        return folder_template(self.path) or super().template_source() or self.base.template_source()

    def verify(self, progress: Progress = silent) -> None:
        """Compare the adapter's weights, and its base's, with the digests of their lineages. Raises `DamagedFile`."""
        super().verify(progress)
        self.base.verify(progress)


@dataclass(frozen=True)
class _Replaced:
    """An adapter's base with the tensors that the adapter has instead."""

    adapter: AdapterCheckpoint

    @property
    def path(self) -> Path:
        return self.adapter.path

    @property
    def config(self) -> Mapping[str, object]:
        return self.adapter.config

    @property
    def identity(self) -> str:
        return self.adapter.identity

    @property
    def family(self) -> "Family":
        return self.adapter.family

    @property
    def family_config(self) -> Any:
        return self.adapter.family_config

    def state(self) -> "dict[str, torch.Tensor]":
        return {**self.adapter.base.state(), **self.adapter.whole}


def _names(pattern: str, layer: str) -> bool:
    """Whether a pattern of peft's, a regular expression for the end of a name, is of this layer.

    Raises `UnsupportedFormat` for one that is not sound, or so long that it could take for ever.
    """
    try:
        if len(pattern) > _LONGEST_PATTERN:
            raise re.error("it is too long")
        return re.match(rf"(.*\.)?({pattern})$", layer) is not None
    except re.error as error:
        raise UnsupportedFormat(f"The pattern {pattern[:80]!r} of layers cannot be read: {error}.") from error


def _check_kind(path: Path, stated: Mapping[str, object]) -> None:
    if stated.get("peft_type") != "LORA":
        raise UnsupportedFormat(
            f"{path} is an adapter of the kind {stated.get('peft_type')!r}; Kun reads LORA."
        )
    used = next((name for name in _UNKNOWN if stated.get(name)), None)
    if used is not None:
        raise UnsupportedFormat(f"{path / CONFIG} uses {used}, which Kun does not read: plain LoRA it does.")
    if stated.get("bias", "none") != "none":
        raise UnsupportedFormat(
            f"{path / CONFIG} trained biases ({stated['bias']}), which Kun does not read."
        )


def _layer(name: str, kind: str) -> str:
    return name.partition(f".{kind}.")[0]
