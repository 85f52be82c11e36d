"""A text as ids of words on the disk: cut once, counted in bounded memory, a part held out."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b, sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kun.atomic_files import check_once, new_folder
from kun.data.corpus import texts_of
from kun.data.described import Counts
from kun.data.rows import Row
from kun.errors import BadInput, DamagedFile
from kun.text.words import cut_words
from kun.wordvectors.counting import WordCounts

_PARAGRAPH = re.compile(r"\n[ \t\r]*\n")
_LONGEST_SENTENCE = 10_000
"""Words after which a window ends, in text without paragraphs."""
_SHOWN_EVERY = 2000
ENDS = -1
"""The id between paragraphs: no window reaches beyond it."""

Ids = NDArray[np.int32]
Tell = Callable[[str, int], None]
"""Hears of work that people wait for, and how far it is."""


@dataclass(frozen=True)
class Limits:
    """Words that come less than `least` times are left out, and of the others all but the commonest `most`."""

    least: int = 5
    most: int = 1_000_000


@dataclass(frozen=True)
class Vocabulary:
    """Words, the commonest first, and how often each came, int64 [n]."""

    words: tuple[str, ...]
    counts: NDArray[np.int64]


class WordText:
    """A text as int32 ids, mapped from the disk, `ENDS` between paragraphs."""

    def __init__(self, path: Path, digest: str, words: int, counts: Counts) -> None:
        self.ids: Ids = np.memmap(path, np.int32, "r") if path.stat().st_size else np.empty(0, np.int32)
        self.digest, self.counts, self._words = digest, counts, words

    def __len__(self) -> int:
        """Words, without the ends of paragraphs."""
        return self._words


@dataclass(frozen=True)
class Corpus:
    """The text that a training learns from, and the one it is measured on where something is held out."""

    vocabulary: Vocabulary
    learned: WordText
    held_out: WordText | None


def build(
    folder: Path,
    rows: Iterable[Row],
    limits: Limits,
    *,
    share: float = 0.0,
    held_out: Iterable[Row] = (),
    tell: Tell = lambda stage, done: None,
) -> Corpus:
    """Write the corpus into `folder`, whole or not at all.

    `share` of the paragraphs are held out, by their own content, or `held_out` are. Raises `BadInput` for text in which
    no word comes often enough, and what reading raises.
    """
    met = Counts()
    with new_folder(folder) as fresh:
        counts = WordCounts(fresh)
        with (
            (fresh / "learned.txt").open("w", encoding="utf-8") as learned,
            (fresh / "held_out.txt").open("w", encoding="utf-8") as aside,
        ):
            for words in _paragraphs(_counted(rows, met), tell):
                line = " ".join(words) + "\n"
                if share and _is_held_out(line, share):
                    aside.write(line)
                else:
                    learned.write(line)
                    counts.add(words)
            for words in _paragraphs(held_out, tell):
                aside.write(" ".join(words) + "\n")
        known = counts.commonest(limits.least, limits.most)
        if len(known) < 2:
            raise BadInput(
                f"The text has {counts.total:,} words, of which not two come {limits.least} times: name more "
                f"text, or set objective.min_count lower."
            )
        facts = _write(fresh, known, met, tell)
        if (share or held_out) and not facts["held_out"]:
            raise BadInput(
                f"Of the text to measure on (data.eval) no paragraph has two words that come {limits.least} times in "
                f"the text to learn from: name more of it, or set objective.min_count lower."
            )
        for path in fresh.glob("*.txt"):
            path.unlink()
    return open_corpus(folder)


def _counted(rows: Iterable[Row], met: Counts) -> Iterator[Row]:
    for row in rows:
        met.rows += 1
        met.documents += 1
        yield row


def _paragraphs(rows: Iterable[Row], tell: Tell) -> Iterator[list[str]]:
    """The words of each paragraph of a text."""
    for number, row in enumerate(rows, 1):
        if number % _SHOWN_EVERY == 0:
            tell("cutting into words", number)
        for text in texts_of(row):
            for paragraph in _PARAGRAPH.split(text):
                words = cut_words(paragraph)
                for start in range(0, len(words), _LONGEST_SENTENCE):
                    yield words[start : start + _LONGEST_SENTENCE]


def _is_held_out(line: str, share: float) -> bool:
    digest = blake2b(line.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") < share * 2**32


def _write(folder: Path, known: list[tuple[str, int]], met: Counts, tell: Tell) -> dict[str, int]:
    """Write vocabulary and ids; how many words each part has."""
    index = {word: row for row, (word, _) in enumerate(known)}
    facts: dict[str, object] = {"counts": asdict(met)}
    sizes = dict[str, int]()
    for name in PARTS:
        facts[name], sizes[name] = _encode(folder / f"{name}.txt", folder / f"{name}.ids", index, tell)
    vocabulary = {"words": [word for word, _ in known], "counts": [count for _, count in known]}
    written = json.dumps(vocabulary, ensure_ascii=False).encode()
    (folder / "vocabulary.json").write_bytes(written)
    facts["vocabulary"] = sha256(written).hexdigest()
    (folder / "corpus.json").write_text(json.dumps(facts), encoding="utf-8")
    return sizes


def _encode(text: Path, path: Path, index: dict[str, int], tell: Tell) -> tuple[dict[str, object], int]:
    """Write the ids of a text; its words, bytes and digest, and the words once more."""
    digest, count = sha256(), 0
    with text.open(encoding="utf-8", newline="\n") as lines, path.open("wb") as file:
        for number, line in enumerate(lines, 1):
            ids = [index[word] for word in line.split() if word in index]
            if len(ids) < 2:
                continue
            data = np.array([*ids, ENDS], np.int32).tobytes()
            digest.update(data)
            file.write(data)
            count += len(ids)
            if number % 100_000 == 0:
                tell("numbering words", number)
    return {"words": count, "bytes": path.stat().st_size, "digest": digest.hexdigest()}, count


def open_corpus(folder: Path) -> Corpus:
    """The corpus that was written into `folder`. Raises `DamagedFile`, which names the file."""
    try:
        facts = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        read = (folder / "vocabulary.json").read_bytes()
        if facts.get("vocabulary", digest := sha256(read).hexdigest()) != digest:
            raise ValueError("vocabulary.json does not match its digest")
        known = json.loads(read)
        if len(known["words"]) != len(known["counts"]):
            raise ValueError(f"{len(known['words'])} words have {len(known['counts'])} counts")
        vocabulary = Vocabulary(tuple(known["words"]), np.array(known["counts"], np.int64))
        counts = Counts(**facts["counts"])
        learned, held_out = (_opened(folder / f"{name}.ids", facts[name], counts) for name in PARTS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{folder} holds no whole text of words ({error}): start another run.") from error
    return Corpus(vocabulary, learned, held_out if len(held_out) else None)


PARTS = ("learned", "held_out")


def _opened(path: Path, facts: dict[str, object], counts: Counts) -> WordText:
    size = path.stat().st_size
    if size != facts["bytes"]:
        raise ValueError(f"{path.name} has {size:,} bytes, not {facts['bytes']}")
    check_once(path, str(facts["digest"]))
    return WordText(path, str(facts["digest"]), int(str(facts["words"])), counts)
