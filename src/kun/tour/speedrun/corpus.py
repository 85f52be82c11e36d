"""The data of a speedrun: files made of the installed documentation."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from kun.atomic_files import new_file
from kun.data.documented import Documented
from kun.data.installed import COMPILED, entries, shown
from kun.tour.speedrun.questions import KINDS, Question, questions, share_of

_HELD_OUT = 0.02
_MEASURED = 60_000
"""Characters of held-out documentation that bits per byte are measured on."""
_KNOWN = {name.partition(".")[0] for name in COMPILED} | set(sys.stdlib_module_names)
"""Packages whose functions are asked about: those that everybody has and most people ask about."""
_CHOICES = 4
_PREFERRED = 0.3
"""Functions below this share and above the held-out ones are asked about in reward model and PPO alone: of answers that
it has by heart a network knows which one is right, and learns nothing of what makes one good.
"""
_WATCHED = 0.05
"""Held-out functions below this share are asked about while the stages learn, some of which keep their best weights by
it; those above it when all is learned.
"""
_WATCHED_PROMPTS = 32
"""Those whose answers PPO shows and measures as it goes."""


@dataclass(frozen=True)
class Corpus:
    """Counts of the documentation that was found, and of what was made of it."""

    modules: int
    characters: int
    held_out: int
    """Modules that are kept for measuring."""
    learned: int
    """Questions to learn from."""
    preferred: int
    """Questions whose answers are compared and rewarded."""
    unlearned: int
    """Questions on functions that are asked about only when all is learned."""


class Files:
    """Paths of the parts of the data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.docs, self.held_out = folder / "docs.jsonl", folder / "held-out.jsonl"
        self.measured = folder / "measured.jsonl"
        self.chats, self.held_out_chats = folder / "chats.jsonl", folder / "held-out-chats.jsonl"
        self.prompts, self.held_out_prompts = folder / "prompts.jsonl", folder / "held-out-prompts.jsonl"
        self.preferences = folder / "preferences.jsonl"
        self.held_out_preferences = folder / "held-out-preferences.jsonl"
        self.seen, self.unseen = folder / "seen.jsonl", folder / "unseen.jsonl"
        self.seen_choices, self.unseen_choices = (
            folder / "seen-choices.jsonl",
            folder / "unseen-choices.jsonl",
        )


def write_corpus(folder: Path, characters: int, asked: int, seed: int) -> Corpus:
    """Read some `characters` of installed documentation, and write what is learned from and what is asked.

    `asked` questions of each kind, on functions that questions were learned on and on others, are for measuring.
    Whole modules are held out from all learning.
    """
    found = list(_some(entries(), characters))
    shares = {module: share_of(module) for module in {entry.module for entry in found}}
    limit = max(_HELD_OUT, min(shares.values()))  # one module at the least
    kept = [entry for entry in found if shares[entry.module] > limit]
    held_out = [entry for entry in found if shares[entry.module] <= limit]
    files = Files(folder)
    documents, unread = list(_documents(kept)), list(_documents(held_out))
    write_rows(files.docs, ({"text": text} for text in documents))
    write_rows(files.held_out, ({"text": text} for text in unread))
    write_rows(files.measured, ({"text": text} for text in _up_to(unread, _MEASURED)))
    made = list(questions(entry for entry in kept if entry.module.partition(".")[0] in _KNOWN))
    asked_for = [one for one in made if not one.is_held_out]
    preferred = [one for one in asked_for if share_of(one.name) < _PREFERRED]
    learned = [one for one in asked_for if share_of(one.name) >= _PREFERRED]
    watched = [one for one in made if one.is_held_out and share_of(one.name) < _WATCHED]
    others = [one for one in made if one.is_held_out and share_of(one.name) >= _WATCHED]
    write_rows(files.chats, map(_chat, _shuffled(learned, seed)))
    write_rows(files.held_out_chats, map(_chat, _shuffled(watched, seed)))
    write_rows(files.prompts, map(_chat, _shuffled(preferred, seed)))
    write_rows(files.held_out_prompts, map(_chat, islice(_shuffled(watched, seed + 1), _WATCHED_PROMPTS)))
    modules = sorted({one.answer for one in made if one.kind == "module"})
    for some, asking, choosing in (
        (learned, files.seen, files.seen_choices),
        (others, files.unseen, files.unseen_choices),
    ):
        chosen = list(_chosen(some, asked, seed))
        write_rows(
            asking, ({"kind": one.kind, "question": one.question, "answer": one.answer} for one in chosen)
        )
        where = [one for one in chosen if one.kind == "module"]
        write_rows(choosing, _with_choices(where, modules, seed))
    characters = sum(map(len, documents))
    return Corpus(len(documents), characters, len(unread), len(learned), len(preferred), len(others))


def _some(found: Iterable[Documented], characters: int) -> Iterator[Documented]:
    count = 0
    for entry in found:
        if count >= characters:
            return
        count += len(entry.doc)
        yield entry


def _documents(found: Iterable[Documented]) -> Iterator[str]:
    """The whole documentation of each module."""
    for _, inside in groupby(found, lambda entry: entry.module):
        yield "\n\n".join(map(shown, inside)) + "\n"


def _up_to(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        yield text[:characters]
        characters -= len(text)


def _shuffled(some: Sequence[Question], seed: int) -> Iterator[Question]:
    for place in np.random.default_rng(seed).permutation(len(some)):
        yield some[place]


def _chosen(some: Sequence[Question], count: int, seed: int) -> Iterator[Question]:
    """`count` of each kind, each on another function."""
    for kind in KINDS:
        names: set[str] = set()
        for one in _shuffled([one for one in some if one.kind == kind], seed):
            if len(names) < count and one.name not in names:
                names.add(one.name)
                yield one


def _with_choices(some: Iterable[Question], modules: Sequence[str], seed: int) -> Iterator[dict[str, object]]:
    """Each question with its module among others, in an order of chance."""
    rng = np.random.default_rng(seed)
    for one in some:
        others = [module for module in modules if module != one.answer]
        listed = [one.answer, *rng.choice(others, min(len(others), _CHOICES - 1), replace=False).tolist()]
        rng.shuffle(listed)
        yield {"question": one.question, "choices": listed, "answer": one.answer}


def _chat(one: Question) -> dict[str, object]:
    return {
        "kind": one.kind,
        "messages": [
            {"role": "user", "content": one.question},
            {"role": "assistant", "content": one.answer},
        ],
    }


def write_rows(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Write rows as JSON lines, all of them or none."""
    with new_file(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
