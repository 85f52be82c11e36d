"""The stages one after the other, the time divided among them, and what is known so far."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Unpack, cast

from filelock import FileLock, Timeout

from kun.atomic_files import new_file, writing_to
from kun.errors import BadInput, Busy, NoSpace, NotFound, NotWritable
from kun.hub.layout import read_json, write_json
from kun.settings import settings
from kun.tour.speedrun.corpus import Files, write_corpus
from kun.tour.speedrun.facts import RecipeValues, SizeFacts, SpeedrunFacts
from kun.tour.speedrun.page import write_page
from kun.tour.speedrun.preferences import clicked, write_preferences
from kun.tour.speedrun.recipes import Recipes
from kun.tour.speedrun.sizes import Budget, Size, choose_size, choose_threads
from kun.training.progress import TrainingProgress
from kun.training.recipe import parse_recipe, read_recipe
from kun.training.report.reporting import ending
from kun.training.run import read_lines

STAGES = ("data", "tokenizer", "pretrain", "finetune", "preferences", "reward", "ppo", "evaluate")
LEAST_MINUTES = 0.5

_SHARES = {"pretrain": 0.46, "finetune": 0.24, "reward": 0.1, "ppo": 0.2}
"""Of the time that all trainings have."""
_EVALUATION = 0.08
_LEAST_EVALUATION = 5.0
"""Seconds of asking."""
_STARTING = {"pretrain": 3.0, "finetune": 3.0, "reward": 3.0, "ppo": 6.0}
"""Seconds of a training that are not training itself: data made tokens, measuring, saving, a rollout begun too late."""
_READING = 0.5
"""Of the tokenizer's time, what making tokens of the same documentation takes."""
_SLOWEST = 6.0
_LEAST_TRAINING = 1.5
_LEAST_DEVIATION = 0.05
_BETWEEN_WRITES = 2.0


@dataclass(frozen=True)
class Speedrun:
    """A finished one: its folder, the model that came of it, and what was found (see `speedrun.json`)."""

    path: Path
    checkpoint: Path
    facts: SpeedrunFacts

    @property
    def report(self) -> Path:
        return self.path / "report.html"


class _State:
    """speedrun.json: what is known so far, written whenever a stage ends, and every few seconds of it."""

    def __init__(self, path: Path, values: SpeedrunFacts) -> None:
        self.path, self.values = path, values
        self._written = -math.inf
        self._count: Callable[[], None] = lambda: None

    @classmethod
    def new(cls, path: Path, minutes: float, seed: int) -> "_State":
        return cls(path, {"minutes": minutes, "seed": seed, "state": "training", "done": [], "seconds": {}})

    def write(self, **values: Unpack[SpeedrunFacts]) -> None:
        self.values.update(values)
        self._written = time.monotonic()
        with new_file(self.path) as fresh:
            write_json(fresh, self.values)

    @property
    def left(self) -> float:
        """Seconds of the budget, of which the stage that runs has had some."""
        self._count()
        return 60 * self.values["minutes"] - sum(self.values["seconds"].values())

    @contextmanager
    def stage(self, name: str, report: TrainingProgress) -> Iterator[TrainingProgress]:
        """Gives the stage what it tells of itself with. Its time counts, however it ends: by a kill, to what it told
        a few seconds before."""
        began, before = time.monotonic(), self.values["seconds"].get(name, 0.0)

        def count() -> None:
            self.values["seconds"][name] = round(before + time.monotonic() - began, 2)

        self._count = count

        def tell(stage: str, done: int, total: int | None, detail: str) -> None:
            if time.monotonic() - self._written > _BETWEEN_WRITES:
                count()
                self.write()
            report(f"{name}: {stage}", done, total, detail)

        try:
            yield tell
            self.values["done"].append(name)
        finally:
            count()
            self._count = lambda: None
            self.write()


def run_speedrun(
    minutes: float,
    out: str | Path | None,
    seed: int,
    *,
    resume: bool,
    report: TrainingProgress | None,
    feedback: str | Path | None = None,
) -> Speedrun:
    """Do what is not done of a speedrun. `feedback` is a file of what people preferred, which the reward model learns
    from, too; one that is resumed keeps its own unless another is named. Raises what `kun.speedrun` raises.
    """
    if minutes < LEAST_MINUTES:
        raise BadInput(
            f"A speedrun of {minutes} minutes is too short to learn anything: give {LEAST_MINUTES} or more."
        )
    votes = None if feedback is None else _votes(Path(feedback).expanduser().absolute())
    path = _folder(out, resume)
    tell: TrainingProgress = report or (lambda stage, done, total, detail: None)
    with _held(path):
        state = _opened(path, minutes, seed, resume, votes)
        try:
            for name in STAGES:
                if name not in state.values["done"]:
                    with state.stage(name, tell) as told:
                        _DO[name](_Work(path, state), told)
        except BaseException as error:
            with suppress(
                NoSpace, NotWritable
            ):  # what ended it is told, whatever keeps the page from being written
                _end(state, cast("SpeedrunFacts", ending(error)))
            raise
        _end(state, {"state": "done"})
    return Speedrun(path, path / "ppo" / "checkpoint", state.values)


def _folder(out: str | Path | None, resume: bool) -> Path:
    if out is None:
        if resume:
            raise BadInput("Nothing says which speedrun to resume: name its folder with --out FOLDER.")
        return settings().runs / f"speedrun-{datetime.now():%Y%m%d-%H%M%S}"
    path = Path(out).expanduser().absolute()
    if path.is_file():
        raise BadInput(f"{path} is a file: name a folder for the speedrun.")
    begun = (path / "speedrun.json").is_file()
    if begun and not resume:
        raise BadInput(f"{path} holds a speedrun already: --resume goes on with it, --out names another.")
    if not begun and path.is_dir() and any(path.iterdir()):
        raise BadInput(f"{path} holds other things: name a new or empty folder for the speedrun.")
    return path


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with writing_to(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path / ".lock").acquire(timeout=0):
            yield
    except Timeout as error:
        raise Busy(f"Another process runs in {path}: wait for it, or name another folder.") from error


def _votes(path: Path) -> Path:
    """A file of people's feedback that can be learned from: told before hours of training, not after them."""
    if not path.is_file():
        raise NotFound(
            f"There is no file {path}: name one that `kun feedback export` wrote, or leave it out."
        )
    clicked(path)
    return path


def _opened(path: Path, minutes: float, seed: int, resume: bool, votes: Path | None) -> _State:
    """The state of a run that is resumed, whose minutes stay as they were; or a new one."""
    file = path / "speedrun.json"
    if resume and file.is_file():
        state = _State(file, cast("SpeedrunFacts", read_json(file)))
        if "data" in state.values["done"] and not Files(path / "data").prompts.is_file():
            raise BadInput(
                f"{path} was begun by an earlier version, whose stages were others: begin a new speedrun."
            )
        if votes and "preferences" in state.values["done"] and state.values.get("feedback") != str(votes):
            raise BadInput(
                f"The preferences of {path} are made already, without {votes}: leave --feedback out, or begin a new "
                "speedrun with it."
            )
        state.values["state"], state.values["why"] = "training", None
    else:
        state = _State.new(file, minutes, seed)
    if votes:
        state.values["feedback"] = str(votes)
    state.write()
    return state


def _end(state: _State, values: SpeedrunFacts) -> None:
    state.write(**values)
    write_page(state.path.parent, state.values)


class _Work:
    """Parts that the stages have in common."""

    def __init__(self, path: Path, state: _State) -> None:
        self.path, self.state = path, state
        self.budget = Budget(state.values["minutes"])
        self.files = Files(path / "data")
        self.recipes = Recipes(path, self.budget, state.values["seed"])

    @property
    def training(self) -> float:
        """Seconds that are left to the trainings."""
        asking = max(_LEAST_EVALUATION, _EVALUATION * 60 * self.budget.minutes)
        return self.state.left - asking

    def seconds(self, name: str) -> float:
        """A training's share of what is left to it and those after it."""
        after = list(_SHARES)[list(_SHARES).index(name) :]
        left = self.training - self.slowness * sum(self.starting(each) for each in after)
        return max(_LEAST_TRAINING, left * _SHARES[name] / sum(_SHARES[each] for each in after))

    def starting(self, name: str) -> float:
        """Seconds of a training that are not training itself, where nobody else uses the machine."""
        reading = _READING * self.state.values["seconds"].get("tokenizer", 0.0)
        return _STARTING[name] + (reading if name == "pretrain" else 0.0)

    @property
    def slowness(self) -> float:
        """How many times as long as expected that took in the trainings that are done: 1 at the least."""
        done = [name for name in _SHARES if name in self.state.values["done"]]
        if not done:
            return 1.0
        seconds = self.state.values["seconds"]
        took = sum(seconds[name] - _trained(self.path / name) for name in done)
        return min(_SLOWEST, max(1.0, took / sum(map(self.starting, done))))

    def measure_threads(self) -> None:
        """Choose the threads anew: whoever else uses this machine may have come or gone since."""
        self.state.write(threads=choose_threads(self.recipes.pretraining(_LEAST_TRAINING)))

    @property
    def size(self) -> Size:
        return Size(**self.state.values["size"])

    def train(self, name: str, make: Callable[[], RecipeValues], report: TrainingProgress) -> None:
        """Do a recipe, which is written first; one that was begun goes on."""
        from kun.training.train import train

        path = self.path / "recipes" / f"{name}.toml"
        if not path.is_file():
            text = parse_recipe(make()).to_toml()
            with new_file(path) as fresh:
                fresh.write_text(text, encoding="utf-8")
        begun = (self.path / name / "recipe.toml").is_file()
        with _threads(self.state.values.get("threads")):
            train(read_recipe(path), name, resume=begun, progress=report)


def _trained(run: Path) -> float:
    """The seconds of a training's steps and evaluations."""
    return max((float(line["seconds"]) for line in read_lines(run / "metrics.jsonl")), default=0.0)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Within it tensors are computed with so many threads; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _data(work: _Work, report: TrainingProgress) -> None:
    report("reading the installed documentation", 0, None, "")
    corpus = write_corpus(
        work.files.folder, work.budget.characters, work.budget.asked, work.state.values["seed"]
    )
    work.state.write(corpus=asdict(corpus))


def _tokenizer(work: _Work, report: TrainingProgress) -> None:
    work.train("tokenizer", work.recipes.tokenizer, report)


def _pretrain(work: _Work, report: TrainingProgress) -> None:
    def recipe() -> RecipeValues:
        values = work.recipes.pretraining(work.seconds("pretrain"))
        threads = choose_threads(values)
        with _threads(threads):
            size = choose_size(values, work.seconds("pretrain"))
        seconds = work.seconds("pretrain")
        values = work.recipes.pretraining(seconds)
        work.state.write(size=cast("SizeFacts", asdict(size)), threads=threads)
        return work.recipes.sized(values, size, seconds)

    work.train("pretrain", recipe, report)


def _finetune(work: _Work, report: TrainingProgress) -> None:
    def recipe() -> RecipeValues:
        work.measure_threads()
        return work.recipes.finetuning(work.size, work.seconds("finetune"))

    work.train("finetune", recipe, report)


def _preferences(work: _Work, report: TrainingProgress) -> None:
    report("comparing answers", 0, None, "")
    told = work.state.values.get("feedback")
    clicks = clicked(Path(told) if told else None)
    made = write_preferences(work.files, clicks, work.state.values["seed"])
    work.state.write(preferences=asdict(made))


def _reward(work: _Work, report: TrainingProgress) -> None:
    def recipe() -> RecipeValues:
        work.measure_threads()
        return work.recipes.reward(work.size, work.seconds("reward"))

    work.train("reward", recipe, report)


def _ppo(work: _Work, report: TrainingProgress) -> None:
    def recipe() -> RecipeValues:
        return work.recipes.ppo(work.size, work.seconds("ppo"), _deviation(work.path))

    work.train("ppo", recipe, report)


def _deviation(run: Path) -> float:
    """The standard deviation of the reward model's scores of held-out answers."""
    told = [
        line["eval_score_std"]
        for line in read_lines(run / "reward" / "metrics.jsonl")
        if "eval_score_std" in line
    ]
    return max(_LEAST_DEVIATION, float(told[-1])) if told else 1.0


def _evaluate(work: _Work, report: TrainingProgress) -> None:
    from kun.tour.speedrun.measures import measure

    objective = read_recipe(work.path / "recipes" / "ppo.toml").objective.options
    penalty = objective.get("cut_penalty")
    with _threads(1):  # steps this small wait longer for a second thread than it works
        found = measure(
            work.path,
            work.files,
            float(penalty) if isinstance(penalty, int | float) else 0.0,
            work.state.values["seed"],
            lambda done, total: report("asking", done, total, ""),
        )
    _write_json(work.path / "answers.json", found.answered)
    _write_json(work.path / "stages.json", {"asked": found.told})
    work.state.write(measures=found.measures)


def _write_json(path: Path, value: object) -> None:
    with new_file(path) as fresh:
        fresh.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


_DO: dict[str, Callable[[_Work, TrainingProgress], None]] = {
    "data": _data,
    "tokenizer": _tokenizer,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "preferences": _preferences,
    "reward": _reward,
    "ppo": _ppo,
    "evaluate": _evaluate,
}
