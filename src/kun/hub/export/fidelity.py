"""The proof that an export is the model it was made of.

The model, as Kun runs it, and the written file, as the format's own reader reads it, are given the same texts, chats
and token ids. Tokens and rendered chats must be equal. Logits must be as near as the reader computes: they are held
against the network with its weights rounded as the file holds them, so that an error in the export does not pass for
the price of fewer bits, and that price is stated apart. For GGUF there are two readers: transformers takes the weights
out and computes in float32, which shows a wrong tensor sharply; llama.cpp computes as it does in use, with numbers
rounded on their way into each matrix, and is held against the network that does the same (`ggml`).

An adapter is merged on its way out. Before any reader, the merged network is held against its base with the adapter
beside it.
"""

import copy
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kun.atomic_files import Progress, silent
from kun.hub.adapter import AdapterCheckpoint
from kun.hub.checkpoint import Checkpoint
from kun.hub.export.battery import CHATS, Battery
from kun.hub.export.comparing import (
    StateCheck,
    Tolerance,
    compare_chats,
    compare_states,
    compare_tokens,
)
from kun.hub.export.exporting import Export, Exported
from kun.hub.export.gguf import planned
from kun.hub.export.reading import Answer, CannotRead, Job, read
from kun.hub.export.verdict import UNMERGED, ExportDiffers, Fidelity, Reading
from kun.settings import memory

if TYPE_CHECKING:
    from torch import Tensor, nn

_SPAN = ("start_logits", "end_logits")
_RESULTS = (
    ("logits",),
    ("prediction_logits", "seq_relationship_logits"),
    _SPAN,
    ("last_hidden_state", "pooler_output"),
)
"""Results of networks: all of the first of these that one has is compared."""

_FLOAT32 = Tolerance(relative=2e-3, typical=2e-4, mean_kl=1e-6)
"""The change that the order of float32 sums may make through some dozens of layers."""

_TWICE = 2.0
"""The distance of two networks that round alike, in units of what rounding costs either.

Where their roundings have nothing to do with each other any more, the square of the difference is twice that of one
rounding; the rest is room for chance.
"""
_OF_THE_LARGEST = 4.0
"""The same for the largest of all differences, which chance moves more."""


@dataclass(frozen=True)
class _Own:
    """States as Kun computes them with the weights that the file holds, float32 [positions, width].

    They are what the network returns under the names `results`, and belong to the tokens of `places`. `like_ggml` are
    those of the network that rounds on its way as llama.cpp does. `merging` compares the network with the one that it
    was merged of.
    """

    results: tuple[str, ...]
    places: list[tuple[int, int]]
    states: np.ndarray
    like_ggml: np.ndarray
    rounding: StateCheck | None
    arithmetic: StateCheck | None
    merging: StateCheck | None


def prove(
    export: Export, path: Path, progress: Progress = silent, source: "nn.Module | None" = None
) -> Fidelity:
    """Compare the file or folder at `path`, written by `export`, with the model as Kun runs it.

    `source` is the network whose numbers count, where it isn't the one that was written: a base with its adapter,
    unmerged. A reader that is not here, or fails, is a `problem` of its reading.
    """
    battery = Battery.of(export)
    needed, free = _memory(export.net)
    own = _own_states(export, battery, source, progress) if needed <= free else None
    readings = []
    if own is not None and own.merging is not None:
        readings.append(Reading(UNMERGED, states=own.merging))
    shown = []
    for reader in _readers(export):
        text = reader != "transformers" or export.format == "hf"
        job = _job(export, battery, path, text=text, results=own.results if own else ())
        try:
            shown.append(_compared(read(reader, job, progress), reader, export, battery, own))
        except CannotRead as error:
            shown.append(Reading(reader, problem=str(error)))
    if own is None:
        shown.append(
            Reading("kun", problem=f"logits take {needed >> 20} MB of memory, {free >> 20} MB are free")
        )
    return Fidelity(
        export.format,
        export.dtype,
        (*readings, *shown),
        own.rounding if own else None,
        own.arithmetic if own else None,
        _missing(shown, battery),
    )


def _memory(net: "nn.Module") -> tuple[int, int]:
    """Bytes that comparing logits takes (the network in float32, here and then in the reader), and that are free."""
    needed = sum(weight.numel() for weight in net.parameters()) * 4 * 5 // 4
    _, free = memory()
    return needed, needed if free is None else free  # another system: the reader says if it was too much


def _readers(export: Export) -> tuple[str, ...]:
    if export.format == "hf":
        return ("transformers",)
    config = export.net.config
    # transformers takes no encoder from GGUF, nor ERNIE 4.5, and leaves the rows of LLaMA's biases as they are
    turned = config.model_type == "llama" and config.attention_bias
    known = config.model_type in ("llama", "qwen2", "qwen3", "gpt2", "bloom") and not turned
    return ("llama.cpp", "transformers") if known else ("llama.cpp",)


def _job(export: Export, battery: Battery, path: Path, text: bool, results: tuple[str, ...]) -> Job:
    return Job(
        model=str(path),
        format=export.format,
        kind=export.checkpoint.kind,
        config=export.net.config.to_hf(),
        texts=battery.texts if text else (),
        chats=[CHATS[name] for name in battery.chats] if text else (),
        sequences=battery.sequences if results else (),
        sequence_texts=battery.sequence_texts if results else (),
        results=results,
        threads=os.cpu_count() or 1,
    )


def _own_states(export: Export, battery: Battery, source: "nn.Module | None", progress: Progress) -> _Own:
    kind = export.checkpoint.kind
    net = copy.deepcopy(export.net).float().eval()
    results = _results(net, export, battery)
    exact, places = _states(net, battery, kind, results)
    compare = partial(compare_states, places=places, logits=_gives_logits(export))
    apart = None if source is None else _states(source.float().eval(), battery, kind, results)[0]
    progress("computing", 1, 2)
    export.round(net)
    states, _ = _states(net, battery, kind, results)
    like_ggml = _states_like_ggml(net, export, battery, results) if export.format == "gguf" else states
    progress("computing", 2, 2)
    return _Own(
        results,
        places,
        states,
        like_ggml,
        None if np.array_equal(exact, states) else compare(exact, states, tolerance=None),
        None if np.array_equal(states, like_ggml) else compare(states, like_ggml, tolerance=None),
        None if apart is None else compare(apart, exact, tolerance=_FLOAT32),
    )


def _states_like_ggml(
    net: "nn.Module", export: Export, battery: Battery, results: tuple[str, ...]
) -> np.ndarray:
    from kun.hub.export.ggml import LikeGgml
    from kun.networks.network import TextNetwork

    assert isinstance(net, TextNetwork)
    kinds = {part: tensor.kind for tensor in planned(net, export.dtype) for part in tensor.parts}
    with LikeGgml(net, kinds):
        return _states(net, battery, export.checkpoint.kind, results)[0]


def _results(net: "nn.Module", export: Export, battery: Battery) -> tuple[str, ...]:
    """The names of what `net` returns and the file holds: a GGUF file has no pooler."""
    given = _run(net, battery.sequences[0], export.checkpoint.kind)
    there = next(
        [name for name in names if getattr(given, name, None) is not None]
        for names in _RESULTS
        if hasattr(given, names[0])
    )
    return tuple(there[:1] if export.format == "gguf" else there)


def _states(
    net: "nn.Module", battery: Battery, kind: str, results: tuple[str, ...]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """float32 [positions, width], and the sequence and token of each position.

    For each sequence the `results` one below the other, each filled up with zeros to the width of the widest; what is
    said of a whole text counts as its first token's. A reader does the same.
    """
    rows, places = [], []
    for number, sequence in enumerate(battery.sequences):
        given = _run(net, sequence, kind)
        parts = [_by_token(name, getattr(given, name)) for name in results]
        width = max(part.shape[-1] for part in parts)
        rows += [np.pad(part, ((0, 0), (0, width - part.shape[-1]))) for part in parts]
        places += [(number, token) for part in parts for token in range(len(part))]
    return np.concatenate(rows), places


def _run(net: "nn.Module", sequence: Sequence[int], kind: str) -> object:
    import torch

    ids = torch.tensor([sequence])
    given = {"decoder_input_ids": ids} if kind == "encoder-decoder" else {}
    with torch.inference_mode():
        return net(input_ids=ids, **given)


def _by_token(name: str, result: "Tensor") -> np.ndarray:
    """A result [1, t, width] or [1, width], or [1, t] where an answer starts or ends, as float32 rows."""
    rows: np.ndarray = result.reshape(-1, 1 if name in _SPAN else result.shape[-1]).float().numpy()
    return rows


def _gives_logits(export: Export) -> bool:
    return export.checkpoint.kind != "encoder"


def _compared(answer: Answer, reader: str, export: Export, battery: Battery, own: _Own | None) -> Reading:
    names = list(battery.chats)
    tokens = chats = chat_tokens = states = None
    if answer.tokens is not None:
        tokens = replace(compare_tokens(battery.texts, battery.tokens, answer.tokens), spared=battery.spared)
    if answer.chats is not None and answer.chat_tokens is not None and names:
        chats = compare_chats(names, list(battery.chats.values()), answer.chats)
        pairs = [
            (name, a, b)
            for name, a, b in zip(names, battery.chat_tokens, answer.chat_tokens, strict=True)
            if a and b
        ]
        chat_tokens = compare_tokens(*map(list, zip(*pairs, strict=True))) if pairs else None
    if answer.states is not None and own is not None:
        by_ggml = reader == "llama.cpp"
        states = compare_states(
            own.like_ggml if by_ggml else own.states,
            answer.states,
            own.places,
            _gives_logits(export),
            _tolerance(own.arithmetic if by_ggml else None),
        )
    return Reading(answer.reader, tokens, chats, chat_tokens, states)


def _tolerance(arithmetic: StateCheck | None) -> Tolerance:
    """Float32's, or in proportion to what a reader's own `arithmetic` costs this very network where that is more.

    Where that cost has no bound, since numbers overflow, nothing beyond float32's is forgiven.
    """
    if arithmetic is None or not math.isfinite(arithmetic.typical):
        return _FLOAT32
    return Tolerance(
        max(_FLOAT32.relative, _OF_THE_LARGEST * arithmetic.relative),
        max(_FLOAT32.typical, _TWICE * arithmetic.typical),
        max(_FLOAT32.mean_kl, _TWICE**2 * (arithmetic.mean_kl or 0.0)),  # a divergence grows by the square
    )


def _missing(readings: Sequence[Reading], battery: Battery) -> tuple[str, ...]:
    """The checks that no reader has made."""

    def not_shown() -> Iterator[str]:
        if not any(reading.tokens for reading in readings):
            yield "tokens"
        if battery.chats and not any(reading.chats for reading in readings):
            yield "chats"
        if not any(reading.states for reading in readings):
            yield "logits"

    return tuple(not_shown())


def export_model(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    format: str = "hf",
    dtype: str | None = None,
    verify: bool = False,
    progress: Progress = silent,
) -> Exported:
    """Export a checkpoint, and with `verify` prove the export before it takes its name.

    A merged adapter is held against its base with the adapter beside it, too. Raises `ExportDiffers`, and then
    nothing is left; `BadInput`, `UnsupportedFormat`, `NoSpace`, `NotWritable`.
    """
    export = Export.of(checkpoint, format, dtype)
    proofs: list[Fidelity] = []

    def check(path: Path) -> None:
        source = checkpoint.adapted("float32", "cpu") if isinstance(checkpoint, AdapterCheckpoint) else None
        proofs.append(prove(export, path, progress, source))
        if proofs[0].verdict == "differs":
            raise ExportDiffers(
                f"Nothing was exported, since it would not be the same: {proofs[0].sentence}", proofs[0]
            )

    exported = export.write(folder, progress, check) if verify else export.write(folder, progress)
    return replace(exported, fidelity=proofs[0] if proofs else None)
