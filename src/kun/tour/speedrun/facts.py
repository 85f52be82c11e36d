"""Files that a speedrun writes: the values of its recipes, and the facts of speedrun.json and answers.json."""

from typing import NotRequired, TypedDict


class TrainValues(TypedDict, total=False):
    """The keys of `[train]` that a speedrun sets."""

    minutes: float
    context: int
    batch: int
    batch_tokens: int
    eval_every: int
    eval_tokens: int
    sample_every: int
    snapshot_every: int
    keep_snapshots: int
    compile: bool


class RecipeValues(TypedDict):
    """A recipe as its TOML file holds it."""

    stage: str
    out: str
    seed: int
    data: dict[str, str]
    model: NotRequired[dict[str, object]]
    train: NotRequired[TrainValues]
    optimizer: NotRequired[dict[str, object]]
    objective: NotRequired[dict[str, object]]
    tokenizer: NotRequired[dict[str, object]]


class Answered(TypedDict):
    """One question, its answer in the documentation, and the model's."""

    kind: str
    question: str
    wanted: str
    said: str


class Chosen(TypedDict):
    """The share of `n` questions whose right answer was chosen, and its standard error."""

    accuracy: float
    error: float | None
    n: int


class Interval(TypedDict):
    """A mean, and between what it lies 95 times in 100."""

    mean: float
    low: float
    high: float


class Rewarded(TypedDict):
    """Answers of one stage to `n` questions that no stage learned from, drawn at temperature 1.

    `reward` is what PPO counts, `exact` the share that is the documentation's, `ended` the share that came to an end,
    `length` in tokens.
    """

    reward: Interval
    exact: float
    ended: float
    length: float
    n: int


class StageAnswer(TypedDict):
    """The answer of one stage to a question, and its reward."""

    said: str
    reward: float


class Told(TypedDict):
    """A question with the documentation's answer and that of every stage, by the stage's name."""

    kind: str
    question: str
    wanted: StageAnswer
    said: dict[str, StageAnswer]


class Measures(TypedDict):
    """The numbers that were measured; by side, "seen" or "unseen", and for answers by kind of question.

    `rewards` are by stage, `gains` of each stage over the one before, on the same questions.
    """

    bits_per_byte: dict[str, float]
    answers: dict[str, dict[str, dict[str, float]]]
    choices: dict[str, Chosen]
    rewards: NotRequired[dict[str, Rewarded]]
    gains: NotRequired[dict[str, Interval]]


class SizeFacts(TypedDict):
    """The fields of `kun.tour.speedrun.sizes.Size`."""

    n_layers: int
    d_model: int
    parameters: int
    tokens_per_s: float


class SpeedrunFacts(TypedDict, total=False):
    """speedrun.json: what is known so far, the seconds of each stage among it."""

    minutes: float
    seed: int
    state: str
    why: str | None
    done: list[str]
    seconds: dict[str, float]
    corpus: dict[str, int]
    feedback: str
    preferences: dict[str, int]
    size: SizeFacts
    threads: int
    measures: Measures
