"""A conversation as a model can take it: through its chat template, or as plain text where it has none."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kun.generation.options import Prompt
    from kun.models.language_model import LanguageModel

Turns = tuple[str, ...]
"""What is said by turns; the user begins and ends."""


@dataclass(frozen=True)
class Asked:
    """A prompt, and texts at which the answer ends."""

    prompt: "Prompt"
    stop: tuple[str, ...] = ()


def asked_of(
    lm: "LanguageModel", turns: Turns, system: str = "", speakers: tuple[str, str] = ("User", "Assistant")
) -> Asked:
    """The prompt for a conversation.

    A model that was only pretrained has no chat template; it gets the turns as a dialogue of `speakers` to go on with,
    and its answer ends where it lets the user speak, as GPT-3 was asked (Brown et al., arXiv:2005.14165).
    """
    if lm.template is not None:
        head = [{"role": "system", "content": system}] if system else []
        roles = ("user", "assistant")
        said = [{"role": roles[number % 2], "content": text} for number, text in enumerate(turns)]
        return Asked([*head, *said])
    user, assistant = speakers
    lines = [system] if system else []
    lines += [f"{speakers[number % 2]}: {text}" for number, text in enumerate(turns)]
    return Asked("\n".join([*lines, f"{assistant}:"]), (f"\n{user}:",))


def shown_turns(turns: Turns) -> str:
    """The turns for people, those of the assistant indented."""
    return "\n".join(f"    {text}" if number % 2 else text for number, text in enumerate(turns))
