"""Adapters in PEFT's layout: thin matrices beside a base model's, in a folder of their own that `peft` loads.

`adapter_config.json` says what the base is and how much the pairs count, `adapter_model.safetensors` holds them
under the names of the reference's layers. https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kun.atomic_files import Progress, check_digest, inside, new_folder, silent
from kun.errors import BadInput, BaseMismatch, DamagedFile, ModelNotFound, UnsupportedFormat
from kun.hub.catalog import catalog
from kun.hub.checkpoint import Checkpoint, check_sizes, sample
from kun.hub.layout import ADAPTER_CONFIG as CONFIG
from kun.hub.layout import ADAPTER_WEIGHTS as WEIGHTS
from kun.hub.layout import (
    LINEAGE,
    is_adapter,
    read_json,
    write_adapter_card,
    write_json,
    write_lineage,
    write_tokenizer,
)
from kun.hub.store import display_name
from kun.hub.weights import PICKLES, Weights, read_header
from kun.networks.fields import Fields
from kun.text.chat import ChatTemplate

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import nn

    from kun.adaptation.lora import Pair
    from kun.adaptation.lora_layout import Layout

_PREFIX = "base_model.model."
_TASKS = {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM", "encoder": "FEATURE_EXTRACTION"}
_HEADS = {
    "SequenceClassification": "SEQ_CLS",
    "TokenClassification": "TOKEN_CLS",
    "QuestionAnswering": "QUESTION_ANS",
}
_UNKNOWN = (
    "use_dora", "lora_bias", "target_parameters", "trainable_token_indices", "layer_replication", "corda_config",
    "use_qalora", "alora_invocation_tokens",
)  # fmt: skip
"""What PEFT's newer versions can do beside plain pairs, and Kun does not: each is off, empty or not named."""


_LONGEST_PATTERN = 500


class AdapterCheckpoint(Checkpoint):
    """An adapter, and the checkpoint that it makes of its `base`: its network, tokenizer, template and lineage.

    `said` is adapter_config.json. The tokenizer and the template are the adapter's own where it has them. As a
    checkpoint like any other (`state`, `network`), its weights are the base's with the pairs added, in float32.
    """

    def __init__(self, path: Path, base: Checkpoint, said: dict[str, Any]) -> None:
        own = path / "config.json"
        super().__init__(path, read_json(own) if own.is_file() else base.config)
        self.base, self.said = base, said

    @classmethod
    def open(cls, path: str | Path, base: str | Path | Checkpoint | None = None) -> "AdapterCheckpoint":
        """Open the adapter in a folder; its base is found by its name, or by the digest that kun.json has of it.

        A `base` that is named is taken or refused. Raises `UnsupportedFormat` for another kind of adapter,
        `ModelNotFound` where the base is not here, `BadInput` where it is an adapter itself, `BaseMismatch` where it
        is not the one that the adapter was trained on, and `DamagedFile`.
        """
        path = Path(path)
        said = read_json(path / CONFIG)
        _check_kind(path, said)
        lineage = read_json(path / LINEAGE) if (path / LINEAGE).is_file() else {}
        check_sizes(path, lineage)
        parent = parent_of(lineage)
        found = base if isinstance(base, Checkpoint) else _find_base(path, said, parent, base)
        if "identity" in parent and found.identity != parent["identity"]:
            raise BaseMismatch(
                f"{path} was trained on {parent.get('name')} with the digest {parent['identity'][:12]}…, and "
                f"{found.path} is another ({found.identity[:12]}…): an adapter fits no other weights than those it "
                f"was trained on."
            )
        return cls(path, found, said)

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
        named = Weights(self.path, read_header(path)).load()
        wrong = next((name for name, tensor in named.items() if not tensor.is_floating_point()), None)
        if wrong is not None:
            raise DamagedFile(f"{path}: {wrong} is not floating point; copy the adapter again.")
        return {name.removeprefix(_PREFIX): tensor for name, tensor in named.items()}

    @cached_property
    def whole(self) -> "dict[str, torch.Tensor]":
        """Tensors that the adapter has instead of the base's, by the reference's names."""
        kept = {name: tensor for name, tensor in self.tensors.items() if ".lora_" not in name}
        return {name.replace(".modules_to_save.default", ""): tensor for name, tensor in kept.items()}

    def pairs(self, net: "nn.Module") -> "dict[str, Pair]":
        """The pairs by the names of the layers of `net`. Raises `DamagedFile` where they do not fit it."""
        from kun.adaptation.lora import check_pair, matrices
        from kun.adaptation.lora_layout import Layout

        try:
            pairs = Layout.of(net).ours(self._theirs())
            layers = dict(matrices(net))
            for name, pair in pairs.items():
                check_pair(name, layers.get(name), pair)
        except BadInput as error:
            raise DamagedFile(f"{self.path} does not fit {self.base.path}: {error}") from error
        return pairs

    def _theirs(self) -> "dict[str, Pair]":
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
        fields = Fields(self.said, str(self.path / CONFIG))
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
        from kun.hub.loading import build

        net: Any = build(_Replaced(self), dtype, device)
        place = next(net.parameters()).device
        attach(net, self.pairs(net), dropout).to(place)
        for name in net.from_hf_names(self.whole):
            net.get_parameter(name).requires_grad_(True)
        return net

    def state(self) -> "dict[str, torch.Tensor]":
        """The weights of the merged model, float32, by their Hugging Face names."""
        from kun.adaptation.lora import merge

        net: Any = merge(self.adapted("float32", "cpu"))
        merged: dict[str, torch.Tensor] = net.to_hf_names(net.state_dict())
        return merged

    @cached_property
    def identity(self) -> str:
        digest = hashlib.sha256(self.base.identity.encode())
        for name in (CONFIG, WEIGHTS, "tokenizer.json"):
            if (self.path / name).is_file():
                sample(self.path / name, digest)
        return digest.hexdigest()

    @cached_property
    def lineage(self) -> dict[str, Any]:
        said = read_json(self.path / LINEAGE) if (self.path / LINEAGE).is_file() else {}
        return {key: self.base.lineage[key] for key in ("licence",) if key in self.base.lineage} | said

    @property
    def pooling(self) -> str:
        return self.base.pooling

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        return self.base.generation_config

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        path = self.path / "tokenizer_config.json"
        return read_json(path) if path.is_file() else self.base.tokenizer_config

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        return super().tokenizer if (self.path / "tokenizer.json").is_file() else self.base.tokenizer

    def _template_source(self) -> str | None:
        return super()._template_source() or self.base._template_source()

    def verify(self, progress: Progress = silent) -> None:
        """Compare the adapter's weights, and its base's, with the digests of their lineages. Raises `DamagedFile`."""
        for name, record in (self.lineage.get("weights") or {}).items():
            check_digest(inside(self.path, name), record["sha256"], str(self.path / name), progress)
        self.base.verify(progress)


class _Replaced(Checkpoint):
    """An adapter's base with the tensors that the adapter has instead."""

    def __init__(self, adapter: AdapterCheckpoint) -> None:
        super().__init__(adapter.path, adapter.config)
        self._adapter = adapter

    def state(self) -> "dict[str, torch.Tensor]":
        return {**self._adapter.base.state(), **self._adapter.whole}


def save_adapter(
    folder: str | Path,
    net: Any,
    *,
    origin: Checkpoint,
    tokenizer: "Tokenizer | None" = None,
    chat_template: ChatTemplate | str | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> Path:
    """Write the pairs in `net`, and the parts that trained with them, so that `peft` loads them; returns the folder.

    `origin` is the checkpoint that `net` came from. Tokenizer and template are its, where they are not given.
    Raises `BadInput` for a network without pairs, and for a folder that holds something other than an adapter.
    """
    from kun.adaptation.lora import lora_pairs
    from kun.adaptation.lora_layout import Layout
    from kun.hub.loading import lazy_tensors
    from kun.hub.weights import write_file

    folder = Path(folder).absolute()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not is_adapter(folder)):
        raise BadInput(f"{folder} holds other things: name a new or empty folder for the adapter.")
    mine = lora_pairs(net)
    if not mine:
        raise BadInput("The network has no adapter: put one beside its layers with add_lora.")
    layout = Layout.of(net)
    pairs = layout.theirs({name: pair.pair for name, pair in mine.items()})
    whole = _whole(net, layout)
    dropout = next(iter(mine.values())).dropout.p
    said = _config(pairs, whole, layout, net.config.to_hf(), origin, dropout)
    tensors = {f"{_PREFIX}{name}": tensor for name, tensor in whole.items()}
    for name, pair in pairs.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"], tensors[f"{_PREFIX}{name}.lora_B.weight"] = pair.a, pair.b
    parent = {"name": origin.lineage.get("name", display_name(origin.path)), "identity": origin.identity}
    record = {"name": display_name(folder), "parents": [parent], **dict(lineage or {})}
    given = chat_template or origin.chat_template
    source = given.source if isinstance(given, ChatTemplate) else given
    about = {name: value for name, value in origin.tokenizer_config.items() if name != "chat_template"}
    with new_folder(folder) as fresh:
        digest = write_file(fresh / WEIGHTS, lazy_tensors(tensors))
        write_json(fresh / CONFIG, said)
        if whole:
            write_json(fresh / "config.json", net.config.to_hf())
        about |= {"chat_template": source} if source else {}
        write_tokenizer(fresh, tokenizer or origin.tokenizer, about)
        write_lineage(fresh, record, {WEIGHTS: {"sha256": digest, "bytes": (fresh / WEIGHTS).stat().st_size}})
        write_adapter_card(fresh, record, said["base_model_name_or_path"])
    return folder


def _whole(net: Any, layout: "Layout") -> "dict[str, torch.Tensor]":
    """The parts of `net` that train entirely, by the reference's names."""
    from kun.adaptation.lora import base_state

    state = base_state(net)
    trained = {
        name for name, parameter in net.named_parameters() if parameter.requires_grad and name in state
    }
    if not trained:
        return {}
    # what becomes of them is seen by what becomes of numbers that are none
    marked = {n: t.new_full(t.shape, float("nan")) if n in trained else t for n, t in state.items()}
    names = [name for name, tensor in net.to_hf_names(marked).items() if bool(tensor.isnan().any())]
    theirs = net.to_hf_names(state)
    return {name: theirs[name].detach() for name in names}


def _config(
    pairs: "Mapping[str, Pair]",
    whole: "Mapping[str, torch.Tensor]",
    layout: "Layout",
    config: Mapping[str, Any],
    origin: Checkpoint,
    dropout: float,
) -> dict[str, Any]:
    """adapter_config.json; pairs of another rank or scale than most have their own entries in it."""
    rank, scale = Counter((len(pair.a), pair.scale) for pair in pairs.values()).most_common(1)[0][0]
    others = {name: pair for name, pair in pairs.items() if (len(pair.a), pair.scale) != (rank, scale)}
    head = str((config.get("architectures") or [""])[0]).rpartition("For")[2]
    return {
        "peft_type": "LORA",
        "task_type": _HEADS.get(head, _TASKS[origin.kind]),
        "base_model_name_or_path": _name_of(origin),
        "r": rank,
        "lora_alpha": scale * rank,
        "rank_pattern": {name: len(pair.a) for name, pair in others.items()},
        "alpha_pattern": {name: pair.scale * len(pair.a) for name, pair in others.items()},
        "target_modules": _shortest(pairs.keys(), layout),
        "modules_to_save": sorted({name.rpartition(".")[0] for name in whole}) or None,
        "lora_dropout": dropout,
        "bias": "none",
        "fan_in_fan_out": pairs.keys() <= layout.turned,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _shortest(targets: Any, layout: "Layout") -> list[str]:
    """The fewest ends of names that mean these layers and no other; the whole names where there are none."""
    modules = {name.rpartition(".")[0] for name in layout.names}
    for depth in (1, 2, 3):
        ends = {".".join(name.split(".")[-depth:]) for name in targets}
        if {name for name in modules if any(f".{name}".endswith(f".{end}") for end in ends)} == set(targets):
            return sorted(ends)
    return sorted(targets)


def _name_of(origin: Checkpoint) -> str:
    """Where `peft` finds the very weights: on the hub, where they came from there, else in their folder."""
    source = origin.lineage.get("source")
    hub = source.get("repo") if isinstance(source, dict) and source.get("kind") == "hub" else None
    return str(hub or origin.path.absolute())


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


def _check_kind(path: Path, said: Mapping[str, Any]) -> None:
    if said.get("peft_type") != "LORA":
        raise UnsupportedFormat(
            f"{path} is an adapter of the kind {said.get('peft_type')!r}; Kun reads LORA."
        )
    used = next((name for name in _UNKNOWN if said.get(name)), None)
    if used is not None:
        raise UnsupportedFormat(f"{path / CONFIG} uses {used}, which Kun does not read: plain LoRA it does.")
    if said.get("bias", "none") != "none":
        raise UnsupportedFormat(f"{path / CONFIG} trained biases ({said['bias']}), which Kun does not read.")


def parent_of(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """What a lineage says of the model that this one was made of first; nothing where it names none."""
    parents = lineage.get("parents")
    return parents[0] if isinstance(parents, list) and parents and isinstance(parents[0], dict) else {}


def _find_base(
    path: Path, said: Mapping[str, Any], parent: Mapping[str, Any], base: str | Path | None
) -> Checkpoint:
    from kun.hub.store import installed, resolve

    if base is not None:
        place = resolve(base)
        if is_adapter(place):
            raise BadInput(f"{place} is an adapter itself: name the model that {path} was trained on.")
        return Checkpoint.open(place)
    named = said.get("base_model_name_or_path")
    known = [name for name, entry in catalog().items() if entry.hub is not None and entry.hub.repo == named]
    for name in filter(None, [*known, named, parent.get("name")]):
        try:
            place = resolve(name)
        except (ModelNotFound, BadInput):
            continue
        if not is_adapter(place):
            return Checkpoint.open(place)
    for model in installed() if "identity" in parent else []:
        if model.whole and not is_adapter(model.path):
            found = Checkpoint.open(model.path)
            if found.identity == parent["identity"]:
                return found
    name = known[0] if known else parent.get("name") or named
    raise ModelNotFound(
        f"{path} is an adapter of {name}, which is not here: fetch it first (kun pull {name})."
    )


def _layer(name: str, kind: str) -> str:
    return name.partition(f".{kind}.")[0]
