"""Pipelines in diffusers' layout: `model_index.json`, and a folder for each component.

A component is a network (config.json and weights), a tokenizer's files, or a schedule's config. model_index.json names
the library and the class of each; what only Kun has a class for is of the library "kun".
https://huggingface.co/docs/diffusers/using-diffusers/loading
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol, runtime_checkable

from tokenizers import Tokenizer

from kun.atomic_files import Progress, inside, new_folder, silent
from kun.errors import BadInput, DamagedFile, UnsupportedFormat
from kun.hub.checkpoint import Checkpoint
from kun.hub.folder import FolderCheckpoint
from kun.hub.layout import (
    LINEAGE,
    PIPELINE_INDEX,
    Record,
    check_files,
    read_json,
    reference_class,
    weight_records,
    write_json,
    write_lineage,
    write_pipeline_card,
    write_tokenizer,
)
from kun.hub.lazy import lazy_tensors
from kun.hub.store import display_name
from kun.hub.weights import DIFFUSERS, TRANSFORMERS, Weights, check_sizes, write_weights
from kun.text.tokenizer_files import read_tokenizer

if TYPE_CHECKING:
    import torch

    from kun.networks.family import Family
    from kun.networks.names import NameMap

ComponentKind = Literal["network", "tokenizer", "schedule"]

_CONFIGS: dict[ComponentKind, str] = {
    "network": "config.json",
    "tokenizer": "tokenizer_config.json",
    "schedule": "scheduler_config.json",
}
_ENDINGS: dict[str, ComponentKind] = {
    "Tokenizer": "tokenizer",
    "TokenizerFast": "tokenizer",
    "Scheduler": "schedule",
}
"""How the names of classes end that are no networks."""


@dataclass(frozen=True)
class Component:
    """One part of a pipeline: the class that `library` has for it, and the folder where it lies."""

    name: str
    library: str
    class_name: str
    folder: Path

    @property
    def kind(self) -> ComponentKind:
        return next((kind for end, kind in _ENDINGS.items() if self.class_name.endswith(end)), "network")

    @property
    def config(self) -> dict[str, object]:
        """Its config. Raises `DamagedFile` where the folder holds nothing, or a component of another kind."""
        path = self.folder / _CONFIGS[self.kind]
        if not path.is_file():
            found = next((kind for kind, file in _CONFIGS.items() if (self.folder / file).is_file()), None)
            holds = f"holds a {found}" if found else "is missing"
            raise DamagedFile(
                f"{self.folder} {holds}, where {PIPELINE_INDEX} names a {self.kind} ({self.class_name}): pull or copy "
                f"the pipeline again."
            )
        config = read_json(path)
        own = config.get("_class_name") or reference_class(config) or self.class_name
        if self.kind != "tokenizer" and own != self.class_name:
            raise DamagedFile(
                f"{path} is of a {own}, and {PIPELINE_INDEX} names a {self.class_name}: put the right component there."
            )
        return config


class PipelineCheckpoint(Checkpoint):
    """Several components under one `config`, which is model_index.json."""

    @classmethod
    def open(cls, path: Path) -> "PipelineCheckpoint":
        """Open a pipeline's folder; that each component is there is checked.

        Raises `DamagedFile` for a component that is missing, is of another kind, or lies outside the folder.
        """
        checkpoint = cls(path, read_json(path / PIPELINE_INDEX))
        check_sizes(path, weight_records(checkpoint.lineage))
        check_files(path, checkpoint.lineage)
        for component in checkpoint.components.values():
            _ = component.config
        return checkpoint

    @cached_property
    def components(self) -> dict[str, Component]:
        """The components by name; those that model_index.json leaves out (null) are not among them."""
        found = {}
        for name, stated in self.config.items():
            if name.startswith("_") or not isinstance(stated, list) or stated == [None, None]:
                continue
            if len(stated) != 2 or not all(isinstance(part, str) and part for part in stated):
                raise DamagedFile(
                    f"{self.path / PIPELINE_INDEX} names its component {name!r} by {stated!r}; it must be the library "
                    f"and the class."
                )
            found[name] = Component(name, stated[0], stated[1], inside(self.path, name))
        if not found:
            raise DamagedFile(f"{self.path / PIPELINE_INDEX} names no component: it is no pipeline.")
        return found

    def component(self, name: str, kind: ComponentKind) -> Component:
        """A component of this kind. Raises `UnsupportedFormat` where the pipeline has none."""
        component = self.components.get(name)
        if component is None or component.kind != kind:
            here = ", ".join(f"{each.name} ({each.kind})" for each in self.components.values())
            raise UnsupportedFormat(f"{self.path} has no {kind} named {name!r}; it has {here}.")
        return component

    def part(self, name: str) -> Checkpoint:
        """A network of the pipeline, as a checkpoint. Raises `UnsupportedFormat`, `DamagedFile`."""
        component = self.component(name, "network")
        return _Part(component.folder, component.config, self)

    def tokenizer_of(self, name: str) -> Tokenizer:
        """A tokenizer of the pipeline. Raises `UnsupportedFormat`, `DamagedFile`."""
        return read_tokenizer(self.component(name, "tokenizer").folder, {})

    def schedule(self, name: str = "scheduler") -> dict[str, object]:
        """The config of a schedule of the pipeline. Raises `UnsupportedFormat`, `DamagedFile`."""
        return self.component(name, "schedule").config

    @cached_property
    def lineage(self) -> dict[str, object]:
        return read_json(self.path / LINEAGE) if (self.path / LINEAGE).is_file() else {}

    @property
    def generation_config(self) -> dict[str, object]:
        return {}

    @property
    def tokenizer_config(self) -> dict[str, object]:
        return {}

    @property
    def tokenizer(self) -> Tokenizer:
        """The pipeline's only tokenizer. Raises `UnsupportedFormat` where it has none, or several."""
        names = [each.name for each in self.components.values() if each.kind == "tokenizer"]
        if len(names) != 1:
            raise UnsupportedFormat(f"{self.path} has {len(names)} tokenizers; ask for one by its name.")
        return self.tokenizer_of(names[0])

    @property
    def pooling(self) -> str:
        self._refuse()

    @cached_property
    def family(self) -> "Family":
        self._refuse()

    def state(self) -> "dict[str, torch.Tensor]":
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsupportedFormat(
            f"{self.path} is a pipeline ({self.config.get('_class_name')}) of {', '.join(self.components)}, and Kun "
            f"has no use for it as one model."
        )

    def _weights(self) -> list[Path]:
        networks = (each for each in self.components.values() if each.kind == "network")
        return [path for each in networks for path in Weights.open(each.folder).files]

    def identifying_files(self) -> list[Path]:
        configs = [each.folder / _CONFIGS[each.kind] for each in self.components.values()]
        return [self.path / PIPELINE_INDEX, *configs, *self._weights()]

    def verify(self, progress: Progress = silent) -> None:
        self._weights()
        super().verify(progress)


class _Part(FolderCheckpoint):
    """A network of a pipeline, whose digests are in the pipeline's own kun.json."""

    def __init__(self, path: Path, config: dict[str, object], whole: PipelineCheckpoint) -> None:
        super().__init__(path, config)
        self._whole = whole

    def digests(self) -> dict[Path, str]:
        return {path: digest for path, digest in self._whole.digests().items() if path.parent == self.path}


class _Config(Protocol):
    def to_hf(self) -> dict[str, object]: ...


@runtime_checkable
class _Net(Protocol):
    """What is written of a network."""

    @property
    def config(self) -> _Config: ...

    def state_dict(self) -> "dict[str, torch.Tensor]": ...

    @property
    def names(self) -> "NameMap": ...


@dataclass(frozen=True)
class Named:
    """A component that is to be named in model_index.json otherwise than by its own config."""

    content: "_Net | Tokenizer | Mapping[str, object]"
    library: str
    class_name: str


def save_pipeline(
    folder: str | Path,
    components: Mapping[str, object],
    *,
    class_name: str = "KunPipeline",
    lineage: Mapping[str, object] | None = None,
    dtype: "torch.dtype | None" = None,
    progress: Progress = silent,
    check: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Write a pipeline in diffusers' layout, whole or not at all; returns its folder.

    A component is a network, a `Tokenizer`, or a mapping: the config of a schedule, whose `_class_name` ends in
    "Scheduler". A network is named by its config: by `_class_name` as diffusers', by `architectures` as transformers',
    else by its own class as Kun's; `Named` overrides that. `class_name` is the pipeline's. `check` is shown the written
    folder before it takes its name; if that raises, nothing is left.

    Raises `BadInput` for a component of no such kind, a name that is no folder's, and a folder that holds something
    other than a pipeline of ours; `NoSpace`.
    """
    folder = Path(folder).absolute()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not is_own(folder)):
        raise BadInput(f"{folder} holds other things: name a new or empty folder for the pipeline.")
    named = {name: _named(name, content) for name, content in components.items()}
    if not named:
        raise BadInput("A pipeline has at least one component; none was given.")
    record = {"name": display_name(folder), **dict(lineage or {})}
    index = {"_class_name": class_name} | {name: [n.library, n.class_name] for name, n in named.items()}
    with new_folder(folder) as fresh:
        records: dict[str, Record] = {}
        for name, component in named.items():
            written = _write(fresh / name, component, dtype, progress)
            records |= {f"{name}/{file}": record for file, record in written.items()}
        write_json(fresh / PIPELINE_INDEX, index)
        write_lineage(fresh, record, records)
        write_pipeline_card(fresh, record, index)
        check(fresh)
    return folder


def is_own(folder: Path) -> bool:
    """Whether a pipeline of ours lies there, which may be replaced."""
    return (folder / PIPELINE_INDEX).is_file() and (folder / LINEAGE).is_file()


def _named(name: str, content: object) -> Named:
    if not name.isidentifier() or name.startswith("_"):
        raise BadInput(
            f"A component cannot be named {name!r}: names are letters, digits and '_', a letter first."
        )
    if isinstance(content, Named):
        return content
    if isinstance(content, Tokenizer):
        return Named(content, "transformers", "PreTrainedTokenizerFast")
    if isinstance(content, Mapping):
        kind = str(content.get("_class_name", ""))
        if not kind.endswith("Scheduler"):
            raise BadInput(
                f"The component {name} has the _class_name {kind!r}; that of a schedule ends in Scheduler."
            )
        return Named(content, "diffusers", kind)
    if not isinstance(content, _Net):
        raise BadInput(
            f"The component {name} is a {type(content).__name__}; it must be a network, a tokenizer or a schedule."
        )
    config = content.config.to_hf()
    if config.get("_class_name"):
        return Named(content, "diffusers", str(config["_class_name"]))
    if reference_class(config):
        return Named(content, "transformers", reference_class(config))
    return Named(content, "kun", type(content).__name__)


def _write(folder: Path, named: Named, dtype: "torch.dtype | None", progress: Progress) -> dict[str, Record]:
    """One component into its folder; the records of its weights."""
    folder.mkdir()
    if isinstance(named.content, Tokenizer):
        write_tokenizer(folder, named.content, {"tokenizer_class": named.class_name})
        return {}
    if isinstance(named.content, Mapping):
        write_json(folder / _CONFIGS["schedule"], dict(named.content))
        return {}
    net = named.content
    config = net.config.to_hf()
    if named.library != "transformers":
        config = {"_class_name": named.class_name} | config
    write_json(folder / _CONFIGS["network"], config)
    stem = TRANSFORMERS if named.library == "transformers" else DIFFUSERS
    return write_weights(
        folder, lazy_tensors(net.names.reference(net.state_dict()), dtype), progress, stem=stem
    )
