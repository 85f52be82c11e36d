"""What a stage puts together for the loop, and the rows and tokens that it makes it from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kun.data.rows import Conversation, Labelled, Pair, Question, Row, Text
from kun.data.sources import Rows
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.errors import BadInput
from kun.training.feed import Feed
from kun.training.loop import Report, Sampler
from kun.training.model import Subject
from kun.training.objectives import Objective
from kun.training.recipe import Recipe
from kun.training.run import RunFolder

_NAMES: dict[type, str] = {
    Text: "running text",
    Conversation: "a conversation",
    Pair: "a pair of texts",
    Labelled: "a text with a label",
    Question: "a question on a text",
}


@dataclass
class Prepared:
    """All that the loop needs: what learns, towards what, from what.

    `store` is what it learns from, `held_out` what it is evaluated on; `waste` the share of padding where rows are
    packed, None where they differ in length; `even` whether all batches have one shape.
    """

    subject: Subject
    objective: Objective
    feed: Feed
    store: TokenStore
    held_out: TokenStore | None
    waste: float | None = None
    sampler: Sampler | None = None
    even: bool = False


class RowsOfKind:
    """The rows of a source, which must be of some kinds; `advice` says what to do about others.

    Iterating raises `BadInput` for a row of another kind, which it names, and what `Rows` raises.
    """

    def __init__(self, rows: Rows, kinds: tuple[type, ...], advice: str) -> None:
        self.rows, self.kinds, self.advice = rows, kinds, advice

    def __iter__(self) -> Iterator[Row]:
        for row in self.rows:
            if not isinstance(row, self.kinds):
                raise BadInput(f"{row.where} is {_NAMES[type(row)]}: {self.advice}")
            yield row

    def fingerprint(self) -> str:
        return self.rows.fingerprint()


@dataclass(frozen=True)
class Reading:
    """How a stage reads rows: of which kinds, and what to do where they are of others."""

    recipe: Recipe
    folder: RunFolder
    report: Report
    kinds: tuple[type, ...]
    advice: str

    def rows(self, source: Any, *, limited: bool = True) -> RowsOfKind:
        data = self.recipe.data
        rows = Rows(source, data.format, data.skip_bad, data.limit if limited else None)
        return RowsOfKind(rows, self.kinds, self.advice)

    def stores(self, tokenizer: RowTokenizer) -> tuple[TokenStore, TokenStore | None]:
        """The tokens to learn from and the held-out ones, which lie in the run and are made once."""
        data = self.recipe.data
        whole = self._store(self.rows(data.train), "train", tokenizer)
        if data.eval is None:
            return whole, None
        if isinstance(data.eval, float):
            return whole.split(data.eval)
        return whole, self._store(self.rows(data.eval, limited=False), "eval", tokenizer)

    def _store(self, rows: RowsOfKind, name: str, tokenizer: RowTokenizer) -> TokenStore:
        path = self.folder.path / "data" / name
        if not self.folder.writes or (self.folder.goes_on and (path / "store.json").is_file()):
            return TokenStore.open(path)
        return TokenStore.build(
            path,
            rows,
            tokenizer,
            bad=rows.rows.bad,
            fingerprint=rows.fingerprint(),
            progress=lambda stage, done, total: self.report(stage, done, total, ""),
        )
