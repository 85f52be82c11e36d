"""From votes to a reward model: the data and the recipe that `kun train` takes."""

from dataclasses import dataclass
from pathlib import Path

from kun.alignment.feedback.exchange import export_file, rankings
from kun.alignment.feedback.store import FeedbackStore
from kun.alignment.feedback.votes import plain
from kun.atomic_files import new_file
from kun.errors import BadInput

_FEWEST_PROMPTS = 2
_ENOUGH_TO_EVALUATE = 50
"""Prompts from which a tenth of them is held out; of fewer a quarter."""
_ENOUGH_FOR_ONE_EPOCH = 300
"""Rankings from which each is seen once, as InstructGPT does, which overfits otherwise; fewer are seen three times."""
_FEWEST_STEPS, _LARGEST_BATCH = 50, 16


@dataclass(frozen=True)
class Prepared:
    """A recipe that is ready, and the command that trains by it."""

    recipe: Path
    data: Path
    run: Path
    rankings: int

    @property
    def command(self) -> str:
        return f"kun train {self.recipe}"


def prepare(store: FeedbackStore, folder: Path, model: str) -> Prepared:
    """Write all that people prefer and a recipe for a reward model on top of `model` into `folder`.

    Raises `BadInput` where too few prompts were judged.
    """
    found = list(rankings(store))
    prompts = len({plain(ranking.prompt) for ranking in found})
    if prompts < _FEWEST_PROMPTS:
        raise BadInput(
            f"A reward model needs preferences on {_FEWEST_PROMPTS} prompts or more, not on {prompts}: rate more."
        )
    made = Prepared(folder / "reward.toml", folder / "preferences.jsonl", folder / "run", len(found))
    export_file(store, made.data, shape="ranking")
    held_out = 0.1 if prompts >= _ENOUGH_TO_EVALUATE else 0.25
    with new_file(made.recipe) as fresh:
        fresh.write_text(_recipe(made, model, held_out), encoding="utf-8")
    return made


def _recipe(made: Prepared, model: str, held_out: float) -> str:
    epochs = 1 if made.rankings >= _ENOUGH_FOR_ONE_EPOCH else 3
    batch = max(1, min(_LARGEST_BATCH, int(made.rankings * (1 - held_out) * epochs) // _FEWEST_STEPS))
    return f"""# A reward model from the feedback that was collected with Kun.
stage = "reward"
out = {_quoted(made.run)}

[model]
from = {_quoted(model)}

[data]
train = {_quoted(made.data)}
eval = {held_out}

[train]
epochs = {epochs}
batch = {batch}
context = 1024

[optimizer]
lr = 2e-5
"""


def _quoted(text: str | Path) -> str:
    """A TOML string."""
    plain_text = text.as_posix() if isinstance(text, Path) else text
    escaped = plain_text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
