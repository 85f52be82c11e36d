"""A recipe: the TOML file that says which model, which data, which objective, which optimizer, how long."""

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kun.errors import BadRecipe

Stage = Literal["tokenizer", "pretrain", "finetune", "classify", "translate"]
Format = Literal["text", "alpaca", "sharegpt", "messages", "pairs", "labelled", "squad"]


class Table(BaseModel):
    """A table of a recipe: unknown keys are mistakes, and values keep their types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Model(Table):
    """A checkpoint to go on from, or a family with sizes of its own: every further key is a field of its config."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, populate_by_name=True)

    source: str | None = Field(default=None, alias="from")
    family: str | None = None
    tokenizer: str | None = None
    vocab_size: int | None = Field(default=None, ge=1, le=2**24)
    dropout: float | None = Field(default=None, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_origin(self) -> "Model":
        if self.source and self.family:
            raise ValueError("from and family are both given: a model goes on from a checkpoint or is new")
        if self.source and (self.model_extra or self.vocab_size or self.tokenizer):
            for key in self.model_extra or {}:
                if near := get_close_matches(key, ("from", "dropout"), n=1):
                    raise ValueError(f"{key} is no key beside from; did you mean model.{near[0]}?")
            extra = ["tokenizer"] * bool(self.tokenizer) + ["vocab_size"] * bool(self.vocab_size)
            named = ", ".join([*(self.model_extra or {}), *extra])
            raise ValueError(f"{named} cannot be chosen with from: the checkpoint has its own")
        return self

    @property
    def sizes(self) -> dict[str, Any]:
        """What is set of the family's config."""
        return dict(self.model_extra or {})


class Data(Table):
    """Where the text comes from. `eval` is a share of the training data, or a source of its own."""

    train: str | list[str]
    eval: float | str | list[str] | None = None
    format: Format | None = None
    skip_bad: bool = False
    too_long: Literal["cut", "drop"] = "cut"
    """What becomes of a conversation or pair that is longer than the context."""
    limit: int | None = Field(default=None, ge=1)
    """Rows to read, from the front."""

    @model_validator(mode="after")
    def _share(self) -> "Data":
        if isinstance(self.eval, float) and not 0 < self.eval < 1:
            raise ValueError(f"eval is {self.eval}: a share lies between 0 and 1")
        return self


class Train(Table):
    """How long, in steps of how many tokens. Of steps, tokens, epochs and minutes the first that ends, ends it."""

    steps: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    batch_tokens: int = Field(default=16384, ge=1)
    micro_batch_tokens: int = Field(default=8192, ge=1)
    """Tokens that go through the network at once; more only cost memory."""
    context: int | None = Field(default=None, ge=2, le=2**20)
    precision: Literal["bf16", "fp32"] = "bf16"
    compile: bool | Literal["auto"] = "auto"
    activation_checkpointing: bool = False
    snapshot_every: int | None = Field(default=250, ge=1)
    keep_snapshots: int = Field(default=2, ge=1)
    eval_every: int | None = Field(default=None, ge=1)
    eval_tokens: int = Field(default=2**20, ge=1)
    sample_every: int | None = Field(default=None, ge=1)
    prompts: list[str] = Field(default_factory=list)
    patience: int | None = Field(default=None, ge=1)
    """Evaluations without a better loss after which training stops."""
    keep: Literal["last", "best"] = "last"
    """Which weights the checkpoint gets: the last, or those with the best evaluation."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is evaluated and saved."""
    log: list[Literal["tensorboard"]] = Field(default_factory=list)


class Optimizer(Table):
    """What changes the weights, and by how much over time."""

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(default=3e-4, gt=0)
    muon_lr: float = Field(default=0.02, gt=0)
    """Muon's own rate, for the matrices of the layers; `lr` is AdamW's, for all else."""
    schedule: Literal["cosine", "linear", "wsd", "noam", "constant"] = "cosine"
    warmup: int = Field(default=0, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)
    """Where cosine and linear end and wsd decays to, as a share of the peak."""
    decay: float = Field(default=0.2, gt=0, le=1)
    """The share of the steps in which wsd decays."""
    weight_decay: float = Field(default=0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    clip: float | None = Field(default=1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("betas"), list):
            values = {**values, "betas": tuple(values["betas"])}
        return values


class Objective(Table):
    """How a batch becomes a loss; left out, what the paper of the model's family trained with."""

    name: (
        Literal[
            "next_token", "masked", "span", "permutation", "seq2seq", "classify", "regress", "answer_span"
        ]
        | None
    ) = None
    mask_share: float = Field(default=0.15, gt=0, lt=1)
    dynamic: bool = True
    """Masks drawn anew each epoch (RoBERTa), or once for all (BERT)."""
    span_length: float = Field(default=3.0, ge=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    predict_share: float = Field(default=1 / 6, gt=0, lt=1)
    """Of a permutation, the share of tokens at its end that are predicted (XLNet's 1/K)."""
    auxiliary: float = Field(default=0.5, ge=0)
    """What the loss of the next token weighs where a decoder learns to classify (GPT-1's lambda)."""


class Lora(Table):
    """A low-rank adapter in the place of the whole network."""

    rank: int = Field(default=16, ge=1, le=4096)
    alpha: float | None = Field(default=None, gt=0)
    """Twice the rank where it is left out."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] = Field(default_factory=list)
    quantize: Literal["int8", "int4"] | None = None
    """How the frozen base is held."""


class Parallel(Table):
    """Processes under torchrun: data x tensor x pipeline is their number; expert divides data."""

    data: int = Field(default=1, ge=1)
    tensor: int = Field(default=1, ge=1)
    pipeline: int = Field(default=1, ge=1)
    expert: int = Field(default=1, ge=1)
    shard: bool = False
    """Whether the processes along `data` keep a part of the weights each (FSDP2), to save memory, or all of them."""


class Tokenizer(Table):
    """The tokenizer that the stage of this name trains."""

    kind: Literal["bpe", "wordpiece", "unigram"] = "bpe"
    vocab_size: int = Field(default=8192, ge=300, le=2**20)
    chat: bool = True
    """Whether it gets tokens and a template for conversations."""


class Recipe(Table):
    """All of a recipe; see docs for what each key does."""

    stage: Stage
    out: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    model: Model = Field(default_factory=Model)
    data: Data
    train: Train = Field(default_factory=Train)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    objective: Objective = Field(default_factory=Objective)
    lora: Lora | None = None
    parallel: Parallel = Field(default_factory=Parallel)
    tokenizer: Tokenizer | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> "Recipe":
        if self.stage == "tokenizer":
            return self
        t = self.train
        if not (t.steps or t.tokens or t.epochs or t.minutes):
            raise ValueError("nothing says how long to train: set train.steps, tokens, epochs or minutes")
        if not (self.model.source or self.model.family):
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

    def to_toml(self) -> str:
        """The recipe as TOML, with every default written out, which reads back to the same recipe."""
        values = self.model_dump(by_alias=True, exclude_none=True, mode="json")
        lines = [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
        for key, table in values.items():
            if isinstance(table, dict):
                lines += ["", f"[{key}]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(_escaped(letter) for letter in value) + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return repr(value)


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x20 or ord(letter) == 0x7F else letter


def read_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a file, with dotted `overrides` ({"train.steps": 200}) laid over it.

    Paths of data, tokenizer and output are taken from where the process runs. Raises `BadRecipe`, which names
    the key and the nearest one that exists.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
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


def _override(values: dict[str, Any], dotted: str, value: Any) -> None:
    *tables, key = dotted.split(".")
    inner = values
    for table in tables:
        inner = inner.setdefault(table, {})
        if not isinstance(inner, dict):
            raise BadRecipe(f"{dotted} cannot be set: {table} is no table.")
    if not key:
        raise BadRecipe(f"{dotted!r} is no key: write table.key=value.")
    inner[key] = value


def parse_override(text: str) -> tuple[str, Any]:
    """`key=value` as the command line gives it; the value is TOML, or a plain word. Raises `BadRecipe`."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise BadRecipe(f"-o {text!r} is no key=value, as in -o train.steps=200.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def parse_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from its values. Raises `BadRecipe` with one sentence on the first mistake."""
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise BadRecipe(f"{where}: {_sentence(error)}") from error


def _sentence(error: ValidationError) -> str:
    """The mistake that most likely caused the others: an unknown key comes first."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    place = ".".join(str(part) for part in fault["loc"] if not _is_branch(part))
    if fault["type"] == "extra_forbidden":
        *tables, key = (str(part) for part in fault["loc"])
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


def _keys(tables: list[str]) -> list[str]:
    table: Any = Recipe
    for name in tables:
        annotation = table.model_fields[name].annotation
        options = getattr(annotation, "__args__", (annotation,))
        table = next(option for option in options if isinstance(option, type) and issubclass(option, Table))
    return [field.alias or name for name, field in table.model_fields.items()]
