"""What a caller may ask of a generation, checked before any of it runs."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from kun.errors import BadInput

MOST_TOKENS = 1_000_000
MOST_COPIES = 128
MOST_STOPS = 16
LONGEST_STOP = 512
MOST_BIASES = 4096
MOST_LOGPROBS = 100
MOST_BEAMS = 128
LONGEST_CONSTRAINT = 2**16
_LARGEST_SEED = 2**64
_NEVER = -1000.0


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are chosen, and when to stop.

    `None` for temperature or top_p means the checkpoint's, else 1.0. The order is: constraint, bias, penalties,
    temperature, top-k, top-p (Holtzman et al., arXiv:1904.09751), min-p (arXiv:2407.01082).
    `repetition_penalty` (Keskar et al., arXiv:1909.05858) divides the scores of tokens in prompt and answer;
    `frequency_penalty` and `presence_penalty` lower those of the answer's tokens, as OpenAI's API defines them.
    `logprobs` is how many likely alternatives to report beside each chosen token's log-probability.
    `json_schema` (a schema, or True for any object), `regex` and `grammar` (Lark) constrain the text, one at
    most. With `truncate` a prompt that is too long loses its beginning, and the result says so.

    More than one of `beams` searches for the likeliest answers, the `n` best of which come out; nothing is drawn
    then. Sums of log-probabilities are divided by the length to the power of `length_penalty` (above 0 favours
    long answers). `early_stopping` ends the search with as many answers as beams; else it ends when no beam is
    better than the worst of them, or with "never" when none could become so.

    `for_training` reports what learning from an answer needs: the token that ends it is among its ids, and
    `logprobs` are those of the very distribution that was drawn from, which must be the network's own, tempered.

    Raises `BadInput` for a value out of its range.
    """

    max_tokens: int = 256
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    n: int = 1
    json_schema: Mapping[str, object] | str | bool | None = None
    regex: str | None = None
    grammar: str | None = None
    truncate: bool = False
    ignore_eos: bool = False
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    for_training: bool = False

    def __post_init__(self) -> None:
        _whole("max_tokens", self.max_tokens, 1, MOST_TOKENS)
        _whole("n", self.n, 1, MOST_COPIES)
        _number("temperature", self.temperature, 0.0, 100.0)
        if self.top_k is not None:
            _whole("top_k", self.top_k, 0, 2**31)
        _number("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        _number("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        _number("presence_penalty", self.presence_penalty, -100.0, 100.0)
        if self.seed is not None:
            _whole("seed", self.seed, -_LARGEST_SEED, _LARGEST_SEED)
        if self.logprobs is not None:
            _whole("logprobs", self.logprobs, 0, MOST_LOGPROBS)
        object.__setattr__(self, "stop", _stops(self.stop))
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))
        self._check_constraint()
        self._check_beams()
        if self.for_training:
            self._check_whole()

    def _check_whole(self) -> None:
        """Whether tokens are drawn from all of the network's distribution, at a temperature."""
        bent = {
            "a temperature of 0": self.temperature == 0,
            "top_k": bool(self.top_k),
            "top_p": self.top_p not in (None, 1.0),
            "min_p": self.min_p > 0,
            "a penalty": self.repetition_penalty != 1 or self.frequency_penalty or self.presence_penalty,
            "logit_bias": bool(self.logit_bias),
            "a schema, regex or grammar": self.constrained,
            "beams": self.beams > 1,
        }
        wrong = next((name for name, given in bent.items() if given), None)
        if wrong is not None:
            raise BadInput(
                f"{wrong} cannot be combined with for_training: log-probabilities would not be of what is drawn from."
            )

    def _check_constraint(self) -> None:
        given = [
            name for name in ("json_schema", "regex", "grammar") if getattr(self, name) not in (None, False)
        ]
        if len(given) > 1:
            raise BadInput(f"{' and '.join(given)} cannot be asked for at once: choose one.")
        for name in given:
            if _size(name, getattr(self, name)) > LONGEST_CONSTRAINT:
                raise BadInput(f"{name} is longer than {LONGEST_CONSTRAINT} characters: make it smaller.")

    def _check_beams(self) -> None:
        _whole("beams", self.beams, 1, MOST_BEAMS)
        _number("length_penalty", self.length_penalty, -5.0, 5.0)
        if self.early_stopping not in (True, False, "never"):
            raise BadInput(f'early_stopping is {_shown(self.early_stopping)}; it is True, False or "never".')
        if self.beams == 1:
            if self.length_penalty != 1 or self.early_stopping:
                raise BadInput(
                    "length_penalty and early_stopping belong to a search: ask for more than one beam."
                )
            return
        if self.n > self.beams:
            raise BadInput(
                f"n is {self.n}, but {self.beams} beams find no more answers than that: raise beams."
            )
        drawn = {
            "temperature": bool(self.temperature),
            "top_k": self.top_k is not None,
            "top_p": self.top_p is not None,
            "min_p": self.min_p > 0,
            "seed": self.seed is not None,
        }
        told = {"logprobs": self.logprobs is not None, "a schema, regex or grammar": self.constrained}
        wrong = next((name for name, given in (drawn | told).items() if given), None)
        if wrong is not None:
            why = "searches and draws nothing" if wrong in drawn else "goes by whole answers"
            raise BadInput(f"{wrong} cannot be combined with beams, which {why}: leave one of them out.")

    @property
    def constrained(self) -> bool:
        return (
            bool(self.json_schema) or self.json_schema == {} or self.regex is not None or bool(self.grammar)
        )

    def filled(self, checkpoint: Mapping[str, object]) -> "SamplingOptions":
        """These options with temperature and top_p from a `generation_config` where they were left out.

        Tokens that it bars get no probability, unless `logit_bias` names them.
        """
        if self.beams > 1:
            return replace(self, logit_bias={**_barred(checkpoint), **self.logit_bias})
        return replace(
            self,
            logit_bias={**_barred(checkpoint), **self.logit_bias},
            temperature=_default(self.temperature, checkpoint.get("temperature"), 0.0, 100.0),
            top_p=_default(self.top_p, checkpoint.get("top_p"), 1e-6, 1.0),
        )


NAMES = frozenset(each.name for each in fields(SamplingOptions))


def make_options(given: Mapping[str, object]) -> SamplingOptions:
    """Options from keywords. Raises `BadInput` that names the one that does not exist."""
    unknown = sorted(given.keys() - NAMES)
    if unknown:
        raise BadInput(f"There is no option {unknown[0]!r}; there are {', '.join(sorted(NAMES))}.")
    make: Callable[..., SamplingOptions] = SamplingOptions
    return make(**given)


def _barred(checkpoint: Mapping[str, object]) -> dict[int, float]:
    """The `suppress_tokens` of a `generation_config`, and its `bad_words_ids` of one token."""
    words = [word for word in _listed(checkpoint.get("bad_words_ids")) if len(_listed(word)) == 1]
    ids = [*_listed(checkpoint.get("suppress_tokens")), *(_listed(word)[0] for word in words)]
    return {token: _NEVER for token in ids if isinstance(token, int)}


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _default(given: float | None, said: object, low: float, high: float) -> float:
    if given is not None:
        return given
    if isinstance(said, bool) or not isinstance(said, int | float) or not low <= said <= high:
        return 1.0
    return float(said)


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadInput(f"{name} is {_shown(value)}; it must be a whole number from {low} to {high}.")


def _number(name: str, value: object, low: float, high: float, *, open_low: bool = False) -> None:
    if value is None:
        return
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or not low <= number <= high or (open_low and number == low):
        span = f"above {low:g} and at most {high:g}" if open_low else f"from {low:g} to {high:g}"
        raise BadInput(f"{name} is {_shown(value)}; it must be a number {span}.")


def _stops(stop: str | Iterable[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MOST_STOPS:
        raise BadInput(f"stop has {len(stops)} strings; {MOST_STOPS} are the most.")
    for one in stops:
        if not isinstance(one, str) or not 1 <= len(one) <= LONGEST_STOP:
            raise BadInput(
                f"stop holds {_shown(one)}; each must be a text of 1 to {LONGEST_STOP} characters."
            )
    return stops


def _biases(bias: object) -> dict[int, float]:
    if not bias:
        return {}
    if not isinstance(bias, Mapping) or len(bias) > MOST_BIASES:
        raise BadInput(f"logit_bias must map at most {MOST_BIASES} token ids to numbers.")
    try:
        pairs = {int(token): float(value) for token, value in bias.items()}
    except (TypeError, ValueError) as error:
        raise BadInput("logit_bias must map token ids to numbers.") from error
    for token, value in pairs.items():
        _whole("a token of logit_bias", token, 0, 2**31)
        _number(f"logit_bias of token {token}", value, -1000.0, 1000.0)
    return pairs


def _size(name: str, constraint: object) -> int:
    if isinstance(constraint, str):
        return len(constraint)
    if name != "json_schema" or not isinstance(constraint, Mapping | bool):
        raise BadInput(f"{name} must be a text{', or an object' if name == 'json_schema' else ''}.")
    try:
        return len(json.dumps(constraint))
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(
            "json_schema cannot be written as JSON: use plain objects, lists and numbers."
        ) from error


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


Message = Mapping[str, object]
Messages = Sequence[Message]
Prompt = str | Messages | Sequence[int]
