"""The public face: every verb of Kun as one function.

Each import that costs time happens in the function that needs it, so that `import kun` and `kun --help`
stay instant. The classes that these functions return are fetched by name: `kun.KnowledgeBase`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from kun.atomic_files import Progress
from kun.settings import DEFAULT_ENCODER

if TYPE_CHECKING:
    import torch

    from kun.atomic_files import DetailedProgress
    from kun.evaluation.result import Result
    from kun.evaluation.task import AnyTask
    from kun.evaluation.zero_shot.labels import Example, Labels
    from kun.hub.export.exporting import Exported
    from kun.hub.listing import ModelRow
    from kun.inspection.attention import Look
    from kun.inspection.logits import NextWords
    from kun.inspection.positions import Places
    from kun.inspection.tokens import Cutting
    from kun.knowledge.base import KnowledgeBase
    from kun.knowledge.listing import KnowledgeBaseRow
    from kun.models.chosen import Choice
    from kun.models.language_model import LanguageModel
    from kun.models.ready import ReadyModel
    from kun.models.task_model import Judgement, TaskModel
    from kun.tour.running import Outcome, Toured
    from kun.tour.speedrun.run import Speedrun
    from kun.training.progress import TrainingProgress
    from kun.training.run import Run

_HOMES = {
    "LanguageModel": "kun.models.language_model",
    "SamplingOptions": "kun.generation.options",
    "Encoder": "kun.models.encoder",
    "TaskModel": "kun.models.task_model",
    "KnowledgeBase": "kun.knowledge.base",
    "Passage": "kun.knowledge.passage",
    "Answer": "kun.knowledge.answer",
    "Report": "kun.knowledge.base",
    "Run": "kun.training.run",
    "WordVectors": "kun.wordvectors.vectors",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kun.api' has no attribute {name!r}")


def load(
    name: str | Path | None = None,
    *,
    quantize: str | None = None,
    dtype: "torch.dtype | str | None" = None,
    device: "torch.device | str | None" = None,
    progress: Progress | None = None,
) -> "ReadyModel":
    """A model that is ready to use, of the kind that lies there: a `LanguageModel`, an `Encoder`, `WordVectors` …

    `name` is a catalog name, a folder in the Hugging Face layout, a `.gguf` file, a hub id, or what a kind of another
    package recognizes; what is named in the catalog or on the hub and is not here yet is pulled first. `quantize` is
    None, "int8" or "int4". `dtype` is the checkpoint's, `device` the best here where they are None. Without a name it
    is the language model that was chosen for this machine (see `chosen_model`).

    Raises `ModelNotFound`, `DamagedFile`, `UnsupportedFormat`, `BadInput`; `Unavailable` when pulling fails.
    """
    from kun.hub.pull import locate as hub_locate
    from kun.models.opening import open_model

    path = hub_locate(name or chosen_model().name, progress, any_file=True)
    return open_model(path, quantize=quantize, dtype=dtype, device=device)


def locate(name: str | Path, *, any_file: bool = False, progress: Progress | None = None) -> Path:
    """The folder or file of a model, pulled first where that is needed. Raises what `load` raises."""
    from kun.hub.pull import locate as hub_locate

    return hub_locate(name, progress, any_file=any_file)


def chosen_model() -> "Choice":
    """The default language model of this home, who chose it (a person, the machine, or that it alone is here), and why.

    Where nothing is decided yet the machine is measured, which takes about a second, and the decision is kept.
    """
    from kun.models.chosen import chosen

    return chosen()


def choose_model(name: str) -> "Choice":
    """Make a model the default one of this home; "auto" measures the machine anew.

    Raises `ModelNotFound` for an unknown model, `BadInput` for one that writes no text.
    """
    from kun.models.chosen import choose

    return choose(name)


def pull(name: str, *, progress: Progress | None = None) -> Path:
    """Fetch a model of the catalog, or of the hub by `owner/name`, into KUN_HOME; return its folder.

    Raises `ModelNotFound`, `DamagedFile` (a digest differs), `NoSpace`, `Unavailable`.
    """
    from kun.hub.pull import pull as hub_pull

    return hub_pull(name, progress=progress)


def remove_model(name: str) -> None:
    """Delete a model from KUN_HOME. Raises `ModelNotFound`, `BadInput` for a name that is no name."""
    from kun.hub.store import remove

    remove(name)


def save(model: "ReadyModel", folder: str | Path) -> Path:
    """Write a model as a folder that `load` opens again, and, where it is of text, `transformers` as it stands.

    Raises `BadInput` for a quantized model and for a folder that holds other things, `NoSpace`.
    """
    return model.save(folder)


def export(
    name: str | Path,
    folder: str | Path,
    *,
    format: str = "hf",
    dtype: str | None = None,
    verify: bool = False,
    progress: Progress | None = None,
) -> "Exported":
    """Write a model for other programs: `format` "hf" (a folder in the Hugging Face layout) or "gguf" (llama.cpp).

    `dtype` is the model's own where it is None; "float32", "bfloat16", "float16", and for GGUF "Q8_0", "Q4_0", "Q4_1".
    With `verify` the format's reference reader must find the same tokens, chats and logits; `fidelity` of the
    result says what was compared. Raises `ExportDiffers` where it does not, and then nothing is left; `BadInput`,
    `UnsupportedFormat` for what the format cannot hold, `NoSpace`, and what `locate` raises.
    """
    from kun.atomic_files import silent
    from kun.hub.export.fidelity import export_model
    from kun.hub.opening import open_checkpoint

    checkpoint = open_checkpoint(locate(name, progress=progress))
    return export_model(
        checkpoint, Path(folder), format=format, dtype=dtype, verify=verify, progress=progress or silent
    )


def load_language_model(
    name: str | Path | None = None, *, quantize: str | None = "int4", progress: Progress | None = None
) -> "LanguageModel":
    """`load`, for what must be a language model; the default one where none is named, and "none" for `quantize` too.

    Raises `BadInput` for a text encoder, and what `load` raises.
    """
    from kun.models.language_model import as_language_model

    wanted = None if quantize == "none" else quantize
    return as_language_model(load(name or None, quantize=wanted, progress=progress), name)


def load_task_model(name: str | Path, *, progress: Progress | None = None) -> "TaskModel":
    """`load`, for what must be an encoder with the head of a task. Raises `BadInput` for another model."""
    from kun.models.task_model import TaskModel

    return TaskModel.open(locate(name, progress=progress))


def create_knowledge_base(
    name: str | Path, *, encoder: str | None = None, progress: Progress | None = None
) -> "KnowledgeBase":
    """Open a knowledge base, made where there is none, with its encoder pulled first where that is needed.

    Raises `EncoderMismatch` when it exists with another encoder, and what `pull` raises.
    """
    from kun.knowledge.base import KnowledgeBase

    if encoder or name not in knowledge_bases():
        locate(encoder or DEFAULT_ENCODER, progress=progress)
    return KnowledgeBase.open(name, encoder=encoder)


def knowledge_base(name: str | Path) -> "KnowledgeBase":
    """Open a knowledge base that exists. Raises `KnowledgeBaseNotFound` with the nearest names."""
    from kun.knowledge.base import KnowledgeBase

    return KnowledgeBase.open(name, create=False)


def knowledge_bases() -> list[str]:
    """The names of the knowledge bases under KUN_HOME."""
    from kun.knowledge.base import knowledge_bases as names

    return names()


def knowledge_base_rows() -> "list[KnowledgeBaseRow]":
    """Every knowledge base under KUN_HOME: name, path, encoder, documents, passages.

    One that cannot be read has None for what is not known of it, and says why in `fault`.
    """
    from kun.knowledge.listing import rows

    return rows()


def delete_knowledge_base(name: str | Path) -> None:
    """Delete a knowledge base with all that is in it. Raises `KnowledgeBaseNotFound`."""
    from kun.knowledge.base import delete

    delete(name)


def handbook() -> Path:
    """The folder of the handbook: in a checkout of the source, or where the installed package put it.

    Raises `NotFound` where it was not installed.
    """
    from kun.tour.handbook import handbook_folder

    return handbook_folder()


def tour(
    only: Sequence[int] = (),
    *,
    out: str | Path = "tour.html",
    each: "Callable[[Outcome], None] | None" = None,
    progress: "DetailedProgress | None" = None,
) -> "Toured":
    """Run and check the examples of the seventeen ideas, or of `only` some, and show them on one page, `out`.

    Nothing is fetched. Raises `BadInput` for a number that no idea has, `NoSpace`, `NotWritable`.
    """
    from kun.tour.touring import take_tour

    return take_tour(only, Path(out), each, progress)


def inspect_tokens(text: str, models: Sequence[str | Path] = ()) -> "list[Cutting]":
    """`text` as each model's tokenizer cuts it; the default language model's and encoder's where none is named.

    Raises `BadInput` for a text that is too long to show, and what opening a checkpoint raises.
    """
    from kun.inspection.by_name import cuttings

    return cuttings(text, models)


def inspect_merges(word: str, model: str | Path | None = None) -> list[tuple[str, ...]]:
    """The merges by which byte pair encoding builds `word`; empty for a tokenizer of another kind."""
    from kun.inspection.by_name import merges

    return merges(word, model)


def inspect_positions(
    kinds: Sequence[str] = (), n: int = 64, width: int = 64, model: str | Path | None = None
) -> "list[Places]":
    """Tables of positions of these kinds (default: all that need no model, and with `model` its learned ones too)."""
    from kun.inspection.by_name import places

    return places(kinds, n, width, model)


def inspect_attention(
    text: str, models: Sequence[str | Path] = (), answer: str | None = None
) -> "list[Look]":
    """The attention weights over `text` in each model; a decoder and an encoder side by side where none is named.

    An encoder-decoder has three attentions, its encoder's, its decoder's, and that of the one on the other; its
    decoder reads the `answer`, or writes one.
    """
    from kun.inspection.by_name import looks

    return looks(text, models, answer)


def inspect_logits(
    text: str, model: str | Path | None = None, k: int = 5, answer: str | None = None
) -> "list[NextWords]":
    """The `k` likeliest next tokens at every place of `text`, and what each layer would say.

    Of a model that reads all of the text first, at every place of the `answer`, or of the one that it writes.
    """
    from kun.inspection.by_name import next_words

    return next_words(text, model, k, answer)


def train(
    recipe: str | Path,
    overrides: Mapping[str, object] | None = None,
    *,
    resume: bool = False,
    progress: "TrainingProgress | None" = None,
) -> "Run":
    """Train as a recipe says, with dotted `overrides` ({"train.steps": 200}) laid over it; the run that it wrote.

    With `resume` it goes on from the newest snapshot in the recipe's folder. Ctrl-C and SIGTERM end the step, write a
    snapshot and raise KeyboardInterrupt. Raises `BadRecipe`, `BadInput` for data that cannot be used, `Diverged`,
    `NoMemory`, `NoSpace`, `Busy`, and what `load` raises.
    """
    from kun.inspection.curves import curves
    from kun.training.comparing import train_recipe

    return train_recipe(recipe, overrides, curves, resume=resume, progress=progress)


def speedrun(
    minutes: float = 15.0,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
    feedback: str | Path | None = None,
    progress: "TrainingProgress | None" = None,
) -> "Speedrun":
    """A GPT's life in minutes: tokenizer, pretraining, fine-tuning, reward model and PPO on installed documentation.

    `out` is the folder that it writes, a fresh one under KUN_HOME/runs where it is None; with `resume` what is done
    there is not done again. `feedback` is a file of people's preferences, for the reward model. Raises `BadInput`,
    `NotFound`, `Busy`, `NoSpace`; KeyboardInterrupt after a last snapshot.
    """
    from kun.tour.speedrun.run import run_speedrun

    return run_speedrun(minutes, out, seed, resume=resume, report=progress, feedback=feedback)


def read_task(
    task: "str | Path | Mapping[str, object] | AnyTask", *, limit: int | None = None, shots: int | None = None
) -> "AnyTask":
    """A task from its TOML file, which shows `shots` examples where they are given; its data is checked, too.

    Raises `NotFound`, `BadRecipe`, `DamagedFile`, `BadInput`.
    """
    from kun.evaluation.prepare import prepared

    return prepared(task, limit, shots)[0]


def evaluate(
    model: "str | Path | ReadyModel",
    task: "str | Path | Mapping[str, object] | AnyTask",
    *,
    limit: int | None = None,
    shots: int | None = None,
    progress: Progress | None = None,
) -> "Result":
    """The result of a model, loaded or by name, on a task: the path of its TOML file, or the values of one.

    Only the first `limit` rows are asked; `shots` is how many solved examples a question follows (default: the
    task's own). Raises `BadRecipe`, `BadInput`, `DamagedFile`, and what `load` raises.
    """
    from kun.evaluation.by_name import evaluate as run

    return run(model, task, limit, shots, progress)


def classify(
    texts: str | list[str],
    labels: "Sequence[str] | Mapping[str, str] | Labels | None" = None,
    *,
    model: "str | Path | ReadyModel | None" = None,
    examples: "Iterable[Example | tuple[str, str]]" = (),
    quantize: str | None = None,
    progress: Progress | None = None,
) -> "Judgement | list[Judgement]":
    """Which of some `labels`, never trained, fits a text: a `Judgement` (label, score, probabilities), or a list.

    A mapping describes labels. `model` is an encoder (the default), which takes the nearest; a language model (packed:
    in 4 bits unless `quantize` says), the likeliest; or a classifier with labels of its own. `examples` are solved:
    (text, label). Raises `BadInput`, `ContextOverflow`, and what `load` raises.
    """
    from kun.evaluation.by_name import classify as run

    return run(texts, labels, model, examples, quantize, progress)


def models() -> "list[ModelRow]":
    """Every model that is here or in the catalog: name, kind, bytes, cached, licence, here, whole, source,
    base, description.

    `whole` is None for a model that is not here, False where a file is missing or cut short; `base` an adapter's own.
    """
    from kun.hub.listing import rows

    return rows()
