"""A recipe: the TOML file that says which model, which data, which objective, which optimizer, how long."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from kun.errors import BadRecipe
from kun.training import registry
from kun.training.tables import (
    Compare,
    Data,
    Lora,
    Model,
    OptimizerTable,
    Parallel,
    Table,
    Tokenizer,
    Train,
)

Values = dict[str, object]


class Objective(Table):
    """How a batch becomes a loss: the name of a task, and the options of tasks, which `registry` knows."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str | None = None
    """Left out, what the paper of the model's family trained with."""

    @property
    def options(self) -> Values:
        """What is set next to the name."""
        return dict(self.model_extra or {})


class Recipe(Table):
    """All of a recipe; see docs for what each key does."""

    stage: str
    out: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    model: Model = Field(default_factory=Model)
    data: Data
    train: Train = Field(default_factory=Train)
    optimizer: OptimizerTable = Field(default_factory=OptimizerTable)
    objective: Objective = Field(default_factory=Objective)
    lora: Lora | None = None
    parallel: Parallel = Field(default_factory=Parallel)
    tokenizer: Tokenizer | None = None
    compare: Compare | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> "Recipe":
        if self.stage == "tokenizer":
            return self
        t = self.train
        if not (t.steps or t.tokens or t.epochs or t.minutes):
            raise ValueError("nothing says how long to train: set train.steps, tokens, epochs or minutes")
        if not (self.model.source or self.model.family) and registry.wants_model(self.stage):
            raise ValueError(
                "no model is named: set model.from to a checkpoint, or model.family for a new one"
            )
        if (t.patience or t.keep == "best") and not (t.eval_every and self.data.eval is not None):
            raise ValueError(
                'train.patience and keep = "best" need evaluations: set data.eval and train.eval_every'
            )
        if self.lora is not None and not self.model.source:
            raise ValueError("[lora] adapts a checkpoint: name it in model.from")
        if self.tokenizer is not None:
            raise ValueError('[tokenizer] belongs to stage = "tokenizer"')
        return self

    def values(self) -> Values:
        """The recipe as plain values, with every default written out and keys that are not set left out."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")

    def to_toml(self) -> str:
        """The recipe as TOML, with every default written out, which reads back to the same recipe."""
        values = self.values()
        lines = [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
        for key, table in values.items():
            if isinstance(table, dict):
                lines += ["", f"[{key}]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
        return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(_escaped(letter) for letter in value) + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return repr(value)


def _key(name: str) -> str:
    """A key as TOML has it, in quotes where it is no bare one."""
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _toml(name)


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x20 or ord(letter) == 0x7F else letter


def read_recipe(path: str | Path, overrides: Mapping[str, object] | None = None) -> Recipe:
    """The recipe in a file, with dotted `overrides` ({"train.steps": 200}) laid over it.

    Paths of data, tokenizer and output are taken from where the process runs. Raises `BadRecipe`, which names
    the key and the nearest one that exists.
    """
    path = Path(path)
    try:
        values: Values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadRecipe(f"{path} does not exist: name a recipe, a TOML file.") from error
    except IsADirectoryError as error:
        raise BadRecipe(f"{path} is a folder: name the recipe in it.") from error
    except UnicodeDecodeError as error:
        raise BadRecipe(f"{path} is not UTF-8 text: save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise BadRecipe(f"{path} is no TOML: {error}.") from error
    for dotted, value in (overrides or {}).items():
        _override(values, dotted, value)
    return parse_recipe(values, str(path))


def _override(values: Values, dotted: str, value: object) -> None:
    *tables, key = dotted.split(".")
    inner = values
    for table in tables:
        found = inner.setdefault(table, {})
        if not isinstance(found, dict):
            raise BadRecipe(f"{dotted} cannot be set: {table} is no table.")
        inner = found
    if not key:
        raise BadRecipe(f"{dotted!r} is no key: write table.key=value.")
    inner[key] = value


def read_override(dotted: str, value: object) -> Values:
    """A dotted key with its value as the tables that it stands in."""
    made: Values = {}
    _override(made, dotted, value)
    return made


def parse_override(text: str) -> tuple[str, object]:
    """`key=value` as the command line gives it; the value is TOML, or a plain word. Raises `BadRecipe`."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise BadRecipe(f"-o {text!r} is no key=value, as in -o train.steps=200.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def parse_recipe(values: Mapping[str, object], where: str = "recipe") -> Recipe:
    """A recipe from its values. Raises `BadRecipe` with one sentence on the first mistake."""
    values = dict(values)
    objective = values.get("objective")
    if isinstance(objective, dict) and not registry.wants_data(objective.get("name")):
        values.setdefault("data", {"train": []})
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise BadRecipe(f"{where}: {_sentence(error.errors())}") from error
    if recipe.stage not in registry.stages():
        raise BadRecipe(
            f"{where}: stage: input should be one of {_listing(registry.stages())} (it is {recipe.stage!r})."
        )
    _check_objective(recipe.objective, where)
    return recipe


def _check_objective(asked: Objective, where: str) -> None:
    """The name and the options of [objective], which are the union of those of all tasks."""
    if asked.name is not None and asked.name not in registry.tasks():
        registry.check_loaded(asked.name)
        names = _listing(sorted(registry.tasks()))
        raise BadRecipe(f"{where}: objective.name: input should be one of {names} (it is {asked.name!r}).")
    for key, value in asked.options.items():
        faults = registry.faults(key, value, asked.name)
        if faults:
            raise BadRecipe(f"{where}: {_sentence(faults, ('objective',))}")


def _sentence(faults: Sequence[ErrorDetails], within: tuple[str, ...] = ()) -> str:
    """The mistake that most likely caused the others: an unknown key comes first."""
    fault = min(faults, key=lambda fault: fault["type"] != "extra_forbidden")
    parts = [*within, *(str(part) for part in fault["loc"] if not _is_branch(part))]
    place = ".".join(parts)
    if fault["type"] == "extra_forbidden":
        *tables, key = [*within, *(str(part) for part in fault["loc"])]
        known = _keys(tables)
        near = get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f"did you mean {'.'.join([*tables, near[0]])}?" if near else f"known are {', '.join(known)}."
        return f"{place} is no key of a recipe; {hint}"
    if fault["type"] == "missing":
        return f"{place} is missing."
    message = fault["msg"].removeprefix("Value error, ")
    given = fault.get("input")
    shown = f" (it is {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{place + ': ' if place else ''}{message[0].lower() + message[1:]}{shown}."


def _is_branch(part: object) -> bool:
    """Pydantic names the alternative of a union that it tried."""
    return isinstance(part, str) and (
        part.startswith(("literal[", "list[")) or part in ("str", "float", "bool")
    )


def _keys(tables: Sequence[str]) -> list[str]:
    if list(tables) == ["objective"]:
        return ["name", *registry.option_names()]
    table: type[BaseModel] = Recipe
    for name in tables:
        annotation = table.model_fields[name].annotation
        options = getattr(annotation, "__args__", (annotation,))
        table = next(option for option in options if isinstance(option, type) and issubclass(option, Table))
    return [field.alias or name for name, field in table.model_fields.items()]


def _listing(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
