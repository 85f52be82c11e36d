"""What a caller may ask of a generation, checked before anything runs."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from kun.errors import BadInput

_MOST_COMPLETIONS = 64
_MOST_STOPS = 16
_LONGEST_STOP = 256
_MOST_BIASES = 1024
_LONGEST_CONSTRAINT = 2**16
MOST_LOGPROBS = 20


@dataclass(frozen=True)
class SamplingOptions:
    """How text is drawn. Raises `BadInput`, which names the option, for a value that cannot be.

    `temperature` (0 is greedy) and `top_p` are the checkpoint's where None. `top_k` 0, `top_p` 1 and `min_p` 0
    leave all tokens in. `logprobs` asks for log-probabilities with that many alternatives. At most one of
    `json_schema`, `regex` and `grammar` (Lark) binds the text. `truncate` lets a prompt that is too long lose
    its oldest part; without it that is an error. `prompt_logprobs` scores the prompt itself.
    """

    max_tokens: int = 256
    temperature: float | None = None
    top_k: int = 0
    top_p: float | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    n: int = 1
    json_schema: Mapping[str, Any] | None = None
    regex: str | None = None
    grammar: str | None = None
    ignore_eos: bool = False
    truncate: bool = False

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        object.__setattr__(self, "stop", stop)
        _integer("max_tokens", self.max_tokens, 0, 2**31)
        _number("temperature", self.temperature, 0.0, 100.0)
        _integer("top_k", self.top_k, 0, 2**31)
        _number("top_p", self.top_p, 0.0, 1.0, open_below=True)
        _number("min_p", self.min_p, 0.0, 1.0)
        _number("repetition_penalty", self.repetition_penalty, 0.0, 100.0, open_below=True)
        _number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _number("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _integer("seed", self.seed, -(2**63), 2**64)
        _integer("logprobs", self.logprobs, 0, MOST_LOGPROBS)
        _integer("prompt_logprobs", self.prompt_logprobs, 0, MOST_LOGPROBS)
        _integer("n", self.n, 1, _MOST_COMPLETIONS)
        self._check_stop()
        self._check_bias()
        self._check_constraint()

    def _check_stop(self) -> None:
        if len(self.stop) > _MOST_STOPS:
            raise BadInput(f"stop has {len(self.stop)} strings; {_MOST_STOPS} are the most.")
        for text in self.stop:
            if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST_STOP:
                raise BadInput(f"A stop string has from 1 to {_LONGEST_STOP} characters.")

    def _check_bias(self) -> None:
        if len(self.logit_bias) > _MOST_BIASES:
            raise BadInput(f"logit_bias has {len(self.logit_bias)} tokens; {_MOST_BIASES} are the most.")
        for token, bias in self.logit_bias.items():
            _integer("A token of logit_bias", token, 0, 2**31)
            _number("A value of logit_bias", bias, -100.0, 100.0)

    def _check_constraint(self) -> None:
        given = [name for name in ("json_schema", "regex", "grammar") if getattr(self, name) is not None]
        if len(given) > 1:
            raise BadInput(f"{' and '.join(given)} cannot bind one text together: give one of them.")
        for name in given:
            value = getattr(self, name)
            if len(value if isinstance(value, str) else json.dumps(value)) > _LONGEST_CONSTRAINT:
                raise BadInput(f"{name} is longer than {_LONGEST_CONSTRAINT} characters: give a smaller one.")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    def resolved(self, generation_config: Mapping[str, Any]) -> "SamplingOptions":
        """These options with temperature and top_p filled in: the checkpoint's, else 1."""
        filled = {}
        for name, low in (("temperature", 0.0), ("top_p", 1e-6)):
            if getattr(self, name) is None:
                said = generation_config.get(name)
                sound = isinstance(said, int | float) and not isinstance(said, bool) and low <= said <= 100
                filled[name] = min(float(said), 1.0) if sound and name == "top_p" else float(said) if sound else 1.0
        return replace(self, **filled)

    @classmethod
    def of(cls, **options: Any) -> "SamplingOptions":
        """Options by name; `BadInput` names one that does not exist."""
        known = [one.name for one in fields(cls)]
        for name in options:
            if name not in known:
                raise BadInput(f"There is no option {name!r} of generation; there are {', '.join(known)}.")
        return cls(**options)


def _integer(name: str, value: Any, low: int, high: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadInput(f"{name} is {value!r}; it is a whole number from {low} to {high}.")


def _number(name: str, value: Any, low: float, high: float, *, open_below: bool = False) -> None:
    if value is None:
        return
    sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not sound or not low <= value <= high or (open_below and value == low):
        raise BadInput(f"{name} is {value!r}; it is {'above' if open_below else 'from'} {low:g} up to {high:g}.")
