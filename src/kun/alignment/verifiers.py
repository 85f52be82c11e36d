"""Rewards that need no model: whether an answer is right can be looked up."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kun.alignment.prompts import Prompt
from kun.alignment.rollouts import Rollout
from kun.errors import BadRow

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text: str) -> str:
    """The last number of a text, behind "####" where GSM8K's mark is there; "" where there is none."""
    found = _NUMBER.findall(text.rpartition("####")[2])
    return _plain(found[-1]) if found else ""


def _plain(number: str) -> str:
    whole, _, part = number.replace(",", "").partition(".")
    part = part.rstrip("0")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{digits.lstrip('0') or '0'}" + (f".{part}" if part else "")


def same_number(said: str, wanted: str) -> bool:
    """Whether two texts end in the same number."""
    number = last_number(said)
    return bool(number) and number == last_number(wanted)


def same_text(said: str, wanted: str) -> bool:
    """Whether two texts are the same but for white space around and case."""
    return said.strip().casefold() == wanted.strip().casefold()


VERIFIERS: Mapping[str, Callable[[str, str], bool]] = {"number": same_number, "text": same_text}


class ByVerifier:
    """1 for an answer that is right and ended, else 0. Raises `BadRow` for a prompt without a right answer."""

    def __init__(self, is_right: Callable[[str, str], bool]) -> None:
        self.is_right = is_right

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[Rollout]]
    ) -> list[NDArray[np.float32]]:
        for prompt in prompts:
            if not prompt.wanted.strip():
                raise BadRow(f"{prompt.where} has no answer that others could be compared with: give one.")
        return [
            np.array(
                [answer.ended and self.is_right(answer.text, prompt.wanted) for answer in some], np.float32
            )
            for prompt, some in zip(prompts, answers, strict=True)
        ]
