"""The keys of a task's TOML file, checked before a model is loaded."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kun.errors import BadRecipe, NotFound
from kun.evaluation.rules import Rules
from kun.evaluation.sets import shipped


class Task(BaseModel):
    """The keys of every task. Paths are relative to the task's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    name: str = ""
    data: Path
    """.jsonl, .csv or .tsv; for perplexity any other file too, which then is one text, or a folder of texts."""
    columns: tuple[str, ...] | None = None
    """Names for the columns of a table that has no header."""


class Perplexity(Task):
    """Perplexity: windows of `context` tokens that move by `stride`, each token scored once."""

    kind: Literal["perplexity"]
    text: str = "text"
    context: int = Field(1024, ge=2)
    stride: int | None = Field(None, ge=1)
    """None: half the context. As large as the context: windows do not overlap."""


class Prompted(Task):
    """A task that asks a language model: Jinja templates over a row's columns, and solved examples before it."""

    preamble: str = ""
    """Text before everything, as it is."""
    shots: int = Field(0, ge=0, le=1000)
    examples: Path | None = None
    """Rows to show solved, the first `shots` of them for every question."""
    separator: str = " "
    """Text between a question and its answer."""
    between: str = "\n\n"
    """Text between two examples."""


class MultipleChoice(Prompted):
    """Which of some answers a model holds likeliest after a question."""

    kind: Literal["multiple-choice"]
    prompt: str
    choices: tuple[str, ...] | str
    """A template for each answer, or the column that lists them."""
    answer: str
    """The column of the right one: its number from 0, its letter, or its text."""


class Classification(Prompted):
    """Which label a text has: a classifier's own, or the likeliest word after a prompt."""

    kind: Literal["classification"]
    text: str = "text"
    pair: str | None = None
    """The column of a second text, for a classifier of pairs."""
    label: str = "label"
    labels: dict[str, str] = Field(min_length=2)
    """The name of each label, by what stands in the data; a language model chooses among the names."""
    prompt: str | None = None


class Written(Prompted):
    """A task whose answer is written, and held against the reference in `target`."""

    target: str = "target"
    chat: bool = False
    """Ask through the model's chat template; examples are earlier turns, and `preamble` is the system's."""
    max_tokens: int = Field(256, ge=1)
    beams: int = Field(1, ge=1, le=64)
    stop: tuple[str, ...] = ()


class Translation(Written):
    """One language into another: BLEU (Papineni et al. 2002; Post, arXiv:1804.08771) and chrF (Popović 2015)."""

    kind: Literal["translation"]
    prompt: str = "{{ source }}"
    tokenize: Literal["13a", "zh", "char", "intl", "none"] = "13a"


class Summary(Written):
    """A long text made short: ROUGE (Lin 2004) over `units`."""

    kind: Literal["summary"]
    prompt: str = "{{ text }}"
    units: Literal["words", "characters", "chinese-words"] = "words"
    """English words; words with each Chinese character by itself; words as rjieba cuts Chinese."""
    reward: str = ""
    """A reward model that scores each summary with what was asked: a catalog name, a folder as seen from where the
    process runs, or a hub id."""


class Group(BaseModel):
    """Rows that are counted together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: str = Field(min_length=1)
    """The name of the share of answers that keep their rules."""
    goal: Literal["higher", "lower"] = "higher"
    """Whether it is good to keep them: a refusal is right where a request is harmful, and wrong elsewhere."""
    rules: Rules = Rules()
    """Rules of all rows of the group, next to a row's own."""


class Ruled(Task):
    """Answers that are held against rules: those of a row's column `rules`, and those of its group."""

    kind: Literal["rules"]
    prompt: str = "prompt"
    """The column of the question: a text, or a list of turns, the user's first and last."""
    group: str = "group"
    """The column of the group's name."""
    groups: dict[str, Group] = Field(min_length=1)
    patterns: Path | None = None
    """What rules mean by `says`: a TOML file."""
    system: str = ""
    """A system message before each question."""
    speakers: tuple[str, str] = ("User", "Assistant")
    """Names before the turns where a model has no chat template and is asked in plain text."""
    max_tokens: int = Field(160, ge=1)


AnyTask = Perplexity | MultipleChoice | Classification | Translation | Summary | Ruled
_KINDS: dict[str, type[Task]] = {
    "perplexity": Perplexity,
    "multiple-choice": MultipleChoice,
    "classification": Classification,
    "translation": Translation,
    "summary": Summary,
    "rules": Ruled,
}
_ADAPTER: TypeAdapter[AnyTask] = TypeAdapter(Annotated[AnyTask, Field(discriminator="kind")])


def read_task(task: "str | Path | Mapping[str, object] | AnyTask") -> AnyTask:
    """A task from its TOML file or its name, or from what such a file would say (paths then as from here).

    Raises `NotFound`, and `BadRecipe` that names the key, and the nearest one that exists.
    """
    if isinstance(task, Task):
        return task
    if isinstance(task, Mapping):
        return _checked(task, "The task", Path())
    path = shipped(Path(task).expanduser())
    if not path.is_file():
        raise NotFound(f"The task {path} does not exist: give the path of its .toml file.")
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRecipe(f"{path} is no TOML: {error}.") from error
    return _checked({"name": path.stem, **said}, str(path), path.parent)


def _checked(said: Mapping[str, object], where: str, folder: Path) -> AnyTask:
    try:
        task = _ADAPTER.validate_python(dict(said))
    except ValidationError as error:
        raise BadRecipe(f"{where}: {'; '.join(_faults(error, said))}.") from error
    return task.model_copy(update=dict(_placed(task, folder)))


def _placed(task: AnyTask, folder: Path) -> Iterator[tuple[str, Path]]:
    """Its paths, as seen from here."""
    for name in ("data", "examples", "patterns"):
        path = getattr(task, name, None)
        if path is not None:
            yield name, folder / path.expanduser()


def _faults(error: ValidationError, said: Mapping[str, object]) -> Iterator[str]:
    for fault in error.errors():
        kind, place = fault["type"], [str(part) for part in fault["loc"]]
        if kind in ("union_tag_not_found", "union_tag_invalid"):
            near = _nearest(str(said.get("kind", "")), _KINDS)
            yield f"kind is {said.get('kind')!r}; it is one of {', '.join(_KINDS)}{near}"
        elif kind == "extra_forbidden":
            near = _nearest(place[-1], _KINDS[place[0]].model_fields)
            yield f"there is no key {place[-1]!r} for {place[0]}{near}"
        elif kind == "missing":
            yield f"the key {place[-1]!r} is missing"
        else:
            yield f"{'.'.join(place[1:])}: {fault['msg']}"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
