"""The default language model of this home: chosen once by memory and measured speed, kept, and changed by name.

A person's choice holds. Without one, a home that has one of the two models goes on with it, so that nothing is
fetched unasked; where both are here, or neither, the machine decides, and the decision is kept. The measurement needs
no model: it multiplies random matrices of the larger model's shape with the kernels that answers are written with.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from pydantic import BaseModel, ValidationError

from kun.atomic_files import new_file
from kun.errors import BadInput
from kun.hub.catalog import catalog
from kun.hub.store import installed, not_found, resolve
from kun.settings import DEFAULT_MODEL, LARGER_MODEL, settings
from kun.settings import memory as machine_memory

MEMORY = 6 * 2**30
"""Bytes of memory that a machine must have for the larger model: its weights, its cache, and the rest of the day."""
FREE = 5 * 2**29
"""Bytes that must be free for it at the time."""
SECONDS = 12.0
"""The longest that an answer may take with the larger model, by the measurement; on two cores of 2023 it takes 7."""
PROMPT, WRITTEN = 700, 60
"""Tokens that an answer from documents reads, and writes."""

_WEIGHTS = 1.54e9
"""Numbers that the larger model multiplies with for each token."""
_BYTES = 0.95e9
"""Bytes of them, which are read from memory for each token that is written."""
_OTHERWISE = 2.0
"""The factor by which a prompt takes longer than its products alone: attention, norms, waiting threads."""
_OUTPUTS, _INPUTS = 8960, 1536
_ROWS = 64
_ROUNDS = 24
_PIECE = 2**24
_MEMORY_READ = 24 * _PIECE
"""Bytes that are read to see how fast memory is: more than the caches of most processors hold."""
_TRIES = 3
_FILE = "default-model.json"
By = Literal["person", "machine", "here"]


@dataclass(frozen=True)
class Choice:
    """The default model's name or path, who chose it, and why."""

    name: str
    by: By
    reason: str


class _Kept(BaseModel):
    name: str
    by: Literal["person", "machine"]
    reason: str = ""


def chosen() -> Choice:
    """The default language model; where nothing is decided yet the machine is measured, about a second."""
    kept = _read()
    if kept is not None and (kept.by == "person" or _is_here(kept.name)):
        return Choice(kept.name, kept.by, kept.reason)
    here = [name for name in (DEFAULT_MODEL, LARGER_MODEL) if _is_here(name)]
    if len(here) == 1:
        return Choice(here[0], "here", "it is the one that is here")
    if kept is not None and not here:
        return Choice(kept.name, kept.by, kept.reason)
    choice = by_machine()
    _keep(choice)
    return choice


def choose(name: str) -> Choice:
    """Make `name` the default from now on: a model of the catalog or one that is here, or a path; "auto" measures anew.

    Raises `ModelNotFound` for an unknown one, `BadInput` for what writes no text.
    """
    if name == "auto":
        choice = by_machine()
    else:
        kinds = {model.name: model.kind for model in installed()} | {
            entry.name: entry.kind for entry in catalog().values()
        }
        if name not in kinds:
            try:
                name = str(resolve(name).absolute())
            except BadInput as error:
                raise not_found(name) from error
        elif kinds[name] in ("encoder", "pipeline", "vectors"):
            raise BadInput(f"{name} writes no text: choose a language model (kun models lists them).")
        choice = Choice(name, "person", "it was chosen by name")
    _keep(choice)
    return choice


def by_machine(seconds: Callable[[], float] | None = None) -> Choice:
    """The model that memory and speed allow; `seconds` measures an answer's time with the larger one."""
    memory, free = machine_memory()
    if memory is not None and memory < MEMORY:
        return _machine(
            DEFAULT_MODEL, f"the larger one wants {_gb(MEMORY)} of memory, and there are {_gb(memory)}"
        )
    if free is not None and free < FREE:
        return _machine(
            DEFAULT_MODEL, f"the larger one wants {_gb(FREE)} of free memory, and there are {_gb(free)}"
        )
    for _ in range(_TRIES):  # a machine that is busy at the moment gets another chance
        took = (seconds or answer_seconds)()
        if took <= SECONDS:
            break
    if took > SECONDS:
        return _machine(DEFAULT_MODEL, f"an answer of the larger one would take some {took:.0f} s here")
    return _machine(
        LARGER_MODEL, f"an answer takes some {max(took, 1):.0f} s here, and there is memory for it"
    )


def answer_seconds() -> float:
    """The seconds of an answer with the larger model: `PROMPT` tokens read, `WRITTEN` ones written.

    Measured on one thread in time of the processor, so that what else the machine does at the moment changes little.
    """
    import torch

    from kun.adaptation.packing import empty
    from kun.adaptation.quantize import QuantizedLinear

    if torch.cuda.is_available():
        return 1.0
    packed = empty(_OUTPUTS, _INPUTS, 4)
    packed.codes.random_()
    packed.scales.fill_(0.01)
    layer, prompt = QuantizedLinear(packed, _OUTPUTS, _INPUTS), torch.randn(_ROWS, _INPUTS)
    pieces = torch.ones(_MEMORY_READ // 4).split(_PIECE // 4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            product = min(_least([partial(layer, prompt)] * _ROUNDS, 1))
            memory = sum(_least([piece.sum for piece in pieces], 3))
    finally:
        torch.set_num_threads(threads)
    read = _OTHERWISE * product / _ROWS * _WEIGHTS / (_OUTPUTS * _INPUTS)
    written = memory * _BYTES / _MEMORY_READ
    return (PROMPT * read + WRITTEN * written) / threads


def _least(work: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The least time that each piece took: short enough to find a moment of its own on a busy machine."""
    took = [float("inf")] * len(work)
    for _ in range(rounds):
        for place, piece in enumerate(work):
            started = time.thread_time()
            piece()
            took[place] = min(took[place], time.thread_time() - started)
    return took


def _machine(name: str, reason: str) -> Choice:
    return Choice(name, "machine", reason)


def _gb(size: int) -> str:
    return f"{size / 2**30:.1f} GB"


def _is_here(name: str) -> bool:
    from kun.errors import KunError

    try:
        resolve(name)
    except KunError:
        return False
    return True


def _read() -> _Kept | None:
    try:
        return _Kept.model_validate_json((settings().home / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _keep(choice: Choice) -> None:
    """Write the choice down; a home that nobody can write to is measured again the next time."""
    with suppress(OSError):
        settings().home.mkdir(parents=True, exist_ok=True)
        with new_file(settings().home / _FILE) as path:
            path.write_text(json.dumps(asdict(choice), ensure_ascii=False, indent=2) + "\n", "utf-8")
