"""The tables of a recipe, each with its keys, their types and their defaults."""

from difflib import get_close_matches
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kun.data.formats import DataFormat


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
    frozen: list[str] = Field(default_factory=list)
    """Parts that keep their weights, by how their names begin, as "embeddings.words" or "layers.0"."""

    @model_validator(mode="after")
    def _one_origin(self) -> "Model":
        if self.source and self.family:
            raise ValueError("from and family are both given: a model goes on from a checkpoint or is new")
        if self.source and (self.model_extra or self.vocab_size or self.tokenizer):
            for key in self.model_extra or {}:
                if near := get_close_matches(key, ("from", "dropout", "frozen"), n=1):
                    raise ValueError(f"{key} is no key next to from; did you mean model.{near[0]}?")
            extra = ["tokenizer"] * bool(self.tokenizer) + ["vocab_size"] * bool(self.vocab_size)
            named = ", ".join([*(self.model_extra or {}), *extra])
            raise ValueError(f"{named} cannot be chosen with from: the checkpoint has its own")
        return self

    @property
    def sizes(self) -> dict[str, object]:
        """What is set of the family's config."""
        return dict(self.model_extra or {})


class Data(Table):
    """Where the text comes from. `eval` is a share of the training data, or a source of its own."""

    train: str | list[str]
    eval: float | str | list[str] | None = None
    format: DataFormat | None = None
    skip_bad: bool = False
    too_long: Literal["cut", "drop"] = "cut"
    """What becomes of a conversation or pair that is longer than the context."""
    limit: int | None = Field(default=None, ge=1)
    """Rows to read, from the front."""
    share: float | None = Field(default=None, gt=0, le=1)
    """The share of the documents to learn from; what is held out stays the same."""

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
    batch: int | None = Field(default=None, ge=1)
    """Items of a step, where a task counts pairs, pictures or the like and no tokens; its own where it is left out."""
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
    """Which weights the checkpoint gets: the last, or those with the best evaluation (of rewards the default)."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is evaluated and saved."""
    log: list[Literal["tensorboard"]] = Field(default_factory=list)


class OptimizerTable(Table):
    """What changes the weights, and by how much over time."""

    name: Literal["adamw", "adam", "muon", "sgd"] = "adamw"
    lr: float = Field(default=3e-4, gt=0)
    muon_lr: float = Field(default=0.02, gt=0)
    """Muon's own rate, for the matrices of the layers; `lr` is AdamW's, for all else."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """SGD's: the share of the last update in the next; 0 is plain gradient descent. Muon has its own."""
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
    def _pair(cls, values: object) -> object:
        if isinstance(values, dict) and isinstance(values.get("betas"), list):
            values = {**values, "betas": tuple(values["betas"])}
        return values


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


class Compare(Table):
    """Trainings that differ in a few keys, for one picture."""

    runs: dict[str, dict[str, object]] = Field(min_length=1)
    """What each run has otherwise, by its name; `try` in it holds lists, of whose values the best is shown."""
    draw: list[str] = Field(default_factory=lambda: ["eval_loss"], min_length=1)
    """What is drawn, a panel each: metrics by step, or plots of the task by their titles."""
    log: list[str] = Field(default_factory=list)
    """Metrics of `draw` whose axis is logarithmic; plots know their own."""
    by: str = "eval_loss"
    """The metric whose last value decides, the lower the better."""
