"""The proof that an export is the model it was made of.

The model, as Kun runs it, and the written file, as the format's own reader reads it, are given the same texts, chats
and token ids. Tokens and rendered chats must be equal. Logits must be as near as the reader computes: they are held
against the network with its weights rounded as the file holds them, so that an error in the export does not pass for
the price of fewer bits, and that price is stated apart. For GGUF there are two readers: transformers takes the weights
out and computes in float32, which shows a wrong tensor sharply; llama.cpp computes as it does in use.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kun.errors import BadInput, KunError
from kun.evaluation.battery import CHATS, TEXTS
from kun.evaluation.comparing import (
    StateCheck,
    TextCheck,
    Tolerance,
    compare_chats,
    compare_states,
    compare_tokens,
)
from kun.evaluation.reading import Answer, CannotRead, Job, read
from kun.hub.checkpoint import Checkpoint
from kun.hub.export import Export, Exported
from kun.hub.files import Progress, silent

Verdict = Literal["same", "differs", "not compared"]

_SEQUENCES = 6
_LONGEST = 48
_MOST_NUMBERS = 2**26
_RESULTS = ("logits", "prediction_logits", "start_logits", "last_hidden_state")

_EXACT = Tolerance(relative=2e-3, mean_kl=1e-6)
#: llama.cpp rounds what flows through the network to the precision of the weights that it meets
_LLAMA_CPP = {
    "F32": Tolerance(relative=0.05, mean_kl=1e-5),
    "F16": Tolerance(relative=0.1, mean_kl=1e-4),
    "BF16": Tolerance(relative=0.3, mean_kl=2e-3),
}
_LLAMA_CPP_QUANTIZED = Tolerance(relative=1.0, mean_kl=2e-2)


class ExportDiffers(KunError):
    """An export that its reader does not read as the model it was made of. `fidelity` tells where."""

    def __init__(self, message: str, fidelity: "Fidelity") -> None:
        super().__init__(message)
        self.fidelity = fidelity


@dataclass(frozen=True)
class Reading:
    """What one reference reader showed; None for what it was not asked, `problem` where it could not be."""

    reader: str
    tokens: TextCheck | None = None
    chats: TextCheck | None = None
    chat_tokens: TextCheck | None = None
    states: StateCheck | None = None
    problem: str | None = None

    @property
    def ok(self) -> bool:
        checks = (self.tokens, self.chats, self.chat_tokens, self.states)
        return all(check is None or check.ok for check in checks)


@dataclass(frozen=True)
class Fidelity:
    """The result of a proof. `rounding` is the price of the weights' fewer bits, None where they are what they were."""

    format: str
    dtype: str
    readings: tuple[Reading, ...]
    rounding: StateCheck | None
    missing: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        if not all(reading.ok for reading in self.readings):
            return "differs"
        return "not compared" if self.missing else "same"

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        match self.verdict:
            case "same":
                names = " and ".join(reading.reader for reading in self.readings if reading.problem is None)
                return f"{names} read the same tokens, chats and logits as Kun."
            case "differs":
                return " ".join(filter(None, map(_difference, self.readings)))
        problems = [reading.problem for reading in self.readings if reading.problem]
        return f"Not compared: {', '.join(self.missing)}. {'; '.join(problems)}."

    def as_dict(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "sentence": self.sentence, **asdict(self)}


def _difference(reading: Reading) -> str:
    """What a reader reads otherwise, in one sentence; nothing where it is the same."""
    if reading.tokens and not reading.tokens.ok:
        first = reading.tokens.first or {}
        return (
            f"{reading.reader} cuts {reading.tokens.total - reading.tokens.same} of {reading.tokens.total} texts "
            f"otherwise: in {first['text']!r} token {first['token']} is {first['reader']} instead of {first['kun']}."
        )
    if reading.chats and not reading.chats.ok:
        first = reading.chats.first or {}
        return (
            f"{reading.reader} renders {reading.chats.total - reading.chats.same} of {reading.chats.total} chats "
            f"otherwise: {first['chat']!r} is {first['reader']!r} at character {first['character']} instead of "
            f"{first['kun']!r}."
        )
    if reading.chat_tokens and not reading.chat_tokens.ok:
        return f"{reading.reader} cuts rendered chats into other tokens: {reading.chat_tokens.first}."
    if reading.states and not reading.states.ok:
        return (
            f"{reading.reader} computes other numbers: {reading.states.largest:.4g} apart at "
            f"{reading.states.where}, {reading.states.relative:.2%} of their spread."
        )
    return ""


def prove(export: Export, path: Path, progress: Progress = silent, source: Any = None) -> Fidelity:
    """Compare the file or folder at `path`, written by `export`, with the model as Kun runs it.

    `source` is the network whose numbers count, where it isn't the one that was written: a base with its adapter,
    unmerged. A reader that is not here, or fails, is a `problem` of its reading.
    """
    battery = _Battery.of(export)
    needed, free = _memory(export.net)
    fits = needed <= free
    ours, rounding = _own_states(export, battery, source, progress) if fits else (None, None)
    readings = []
    for reader in _readers(export):
        job = battery.job(export, path, text=reader != "transformers" or export.format == "hf", states=fits)
        try:
            answer = read(reader, job, progress)
            readings.append(_compared(answer, reader, export, battery, ours))
        except CannotRead as error:
            readings.append(Reading(reader, problem=str(error)))
    if not fits:
        readings.append(
            Reading("kun", problem=f"logits take {needed >> 20} MB of memory, {free >> 20} MB are free")
        )
    return Fidelity(export.format, export.dtype, tuple(readings), rounding, _missing(readings, battery))


def _memory(net: Any) -> tuple[int, int]:
    """Bytes that comparing logits takes (the network in float32, here and then in the reader), and that are free."""
    needed = sum(weight.numel() for weight in net.parameters()) * 4 * 5 // 4
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # another system: the reader says if it was too much
        free = needed
    return needed, free


def _readers(export: Export) -> tuple[str, ...]:
    if export.format == "hf":
        return ("transformers",)
    config = export.net.config
    # transformers takes no encoder from GGUF, nor ERNIE 4.5, and leaves the rows of LLaMA's biases as they are
    turned = config.model_type == "llama" and config.attention_bias
    known = config.model_type in ("llama", "qwen2", "qwen3", "gpt2", "bloom") and not turned
    return ("llama.cpp", "transformers") if known else ("llama.cpp",)


@dataclass(frozen=True)
class _Battery:
    """What is tried, as Kun reads it."""

    texts: Sequence[str]
    tokens: list[list[int]]
    chats: dict[str, str | None]
    chat_tokens: list[list[int] | None]
    excepted: frozenset[str]
    sequences: list[list[int]]
    sequence_texts: list[str]

    @classmethod
    def of(cls, export: Export) -> "_Battery":
        losses = export.losses()
        tokenizer, limit = export.checkpoint.tokenizer, export.net.config.context_length
        tokens = [tokenizer.encode(text).ids for text in TEXTS]
        chats = _rendered(export.checkpoint)
        chat_tokens = [
            None if chat is None else tokenizer.encode(chat, add_special_tokens=False).ids
            for chat in chats.values()
        ]
        width, positions, chosen = export.net.config.vocab_size, 0, []
        for text, ids in zip(TEXTS, tokens, strict=True):
            if any(loss.concerned(text) for loss in losses):
                continue
            short = ids if len(ids) <= min(limit, _LONGEST) else None
            # an encoder's reader takes whole texts
            cut = short if export.checkpoint.kind == "encoder" else ids[: min(limit, _LONGEST)]
            if cut and len(cut) > 1 and (positions + len(cut)) * width <= _MOST_NUMBERS:
                chosen.append((cut, text))
                positions += len(cut)
        chosen = list(islice(chosen, _SEQUENCES))
        excepted = frozenset(text for text in TEXTS if any(loss.concerned(text) for loss in losses))
        sequences, sequence_texts = [ids for ids, _ in chosen], [text for _, text in chosen]
        return cls(TEXTS, tokens, chats, chat_tokens, excepted, sequences, sequence_texts)

    @property
    def places(self) -> list[tuple[int, int]]:
        """The sequence and token of each position."""
        return [(row, column) for row, ids in enumerate(self.sequences) for column in range(len(ids))]

    def job(self, export: Export, path: Path, text: bool, states: bool) -> Job:
        return Job(
            model=str(path),
            format=export.format,
            kind=export.checkpoint.kind,
            config=export.net.config.to_hf(),
            texts=self.texts if text else (),
            chats=[CHATS[name] for name in self.chats] if text else (),
            sequences=self.sequences if states else (),
            sequence_texts=self.sequence_texts if states else (),
            threads=os.cpu_count() or 1,
        )


def _rendered(checkpoint: Checkpoint) -> dict[str, str | None]:
    """Each chat as the model's template renders it, None where it refuses; nothing where there is no template."""
    template = checkpoint.chat_template
    rendered: dict[str, str | None] = {}
    for name, chat in CHATS.items() if template else ():
        try:
            assert template is not None
            rendered[name] = template.render(
                chat["messages"], tools=chat["tools"], add_generation_prompt=chat["prompt"]
            )
        except BadInput:
            rendered[name] = None
    return rendered


def _own_states(
    export: Export, battery: _Battery, source: Any, progress: Progress
) -> tuple[np.ndarray, StateCheck | None]:
    """The states of the network as the file holds it, and what the rounding of its weights costs."""
    net = copy.deepcopy(source if source is not None else export.net).float().eval()
    exact = _states(net, battery, export.checkpoint.kind)
    if source is not None:
        net = copy.deepcopy(export.net).float().eval()
    export.round(net)
    progress("computing", 1, 1)
    rounded = _states(net, battery, export.checkpoint.kind)
    if np.array_equal(exact, rounded):
        return rounded, None
    return rounded, compare_states(exact, rounded, battery.places, _gives_logits(export), None)


def _states(net: Any, battery: _Battery, kind: str) -> np.ndarray:
    """float32 [positions, width]: logits, or an encoder's states."""
    import torch

    rows = []
    with torch.inference_mode():
        for sequence in battery.sequences:
            ids = torch.tensor([sequence])
            given = {"decoder_input_ids": ids} if kind == "encoder-decoder" else {}
            result = net(input_ids=ids, **given)
            states = next(
                getattr(result, name) for name in _RESULTS if getattr(result, name, None) is not None
            )
            rows.append(states.reshape(-1, states.shape[-1]).float().numpy())
    return np.concatenate(rows)


def _gives_logits(export: Export) -> bool:
    return export.checkpoint.kind != "encoder"


def _compared(
    answer: Answer, reader: str, export: Export, battery: _Battery, ours: np.ndarray | None
) -> Reading:
    names = list(battery.chats)
    tokens = chats = chat_tokens = states = None
    if answer.tokens is not None:
        rows = zip(battery.texts, battery.tokens, answer.tokens, strict=True)
        kept = [row for row in rows if row[0] not in battery.excepted]
        tokens = replace(
            compare_tokens(*map(list, zip(*kept, strict=True))), excepted=len(battery.texts) - len(kept)
        )
    if answer.chats is not None and answer.chat_tokens is not None and names:
        chats = compare_chats(names, list(battery.chats.values()), answer.chats)
        pairs = [
            (name, a, b)
            for name, a, b in zip(names, battery.chat_tokens, answer.chat_tokens, strict=True)
            if a and b
        ]
        chat_tokens = compare_tokens(*map(list, zip(*pairs, strict=True))) if pairs else None
    if answer.states is not None and ours is not None:
        states = compare_states(
            ours, answer.states, battery.places, _gives_logits(export), _tolerance(reader, export.dtype)
        )
    return Reading(answer.reader, tokens, chats, chat_tokens, states)


def _tolerance(reader: str, dtype: str) -> Tolerance:
    return _EXACT if reader == "transformers" else _LLAMA_CPP.get(dtype, _LLAMA_CPP_QUANTIZED)


def _missing(readings: Sequence[Reading], battery: _Battery) -> tuple[str, ...]:
    """What no reader has shown."""

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

    Raises `ExportDiffers`, and then nothing is left; `BadInput`, `UnsupportedFormat`, `NoSpace`, `NotWritable`.
    """
    export = Export.of(checkpoint, format, dtype)
    proofs: list[Fidelity] = []

    def check(path: Path) -> None:
        proofs.append(prove(export, path, progress))
        if proofs[0].verdict == "differs":
            raise ExportDiffers(
                f"Nothing was exported, since it would not be the same: {proofs[0].sentence}", proofs[0]
            )

    exported = export.write(folder, progress, check) if verify else export.write(folder, progress)
    return replace(exported, fidelity=proofs[0] if proofs else None)
