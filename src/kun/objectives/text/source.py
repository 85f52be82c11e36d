"""The rows that a task learns from, of the kinds that it reads, and their tokens, which lie in the run."""

from collections.abc import Iterator
from dataclasses import dataclass

from kun.data.rows import Choice, Conversation, Labelled, Pair, Question, Ranking, Row, Text, Unpaired
from kun.data.sources import Rows, Source
from kun.data.store import TokenStore
from kun.data.tokenized import RowTokenizer
from kun.errors import BadInput
from kun.training.opening import Opener

_NAMES: dict[type, str] = {
    Text: "running text",
    Conversation: "a conversation",
    Pair: "a pair of texts",
    Labelled: "a text with a label",
    Question: "a question on a text",
    Choice: "a question with candidate answers",
    Ranking: "a ranking of answers",
    Unpaired: "an answer that was judged",
}


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
class TextSource:
    """The data of a job, as rows of some kinds; `advice` says what to do where they are of others."""

    open: Opener
    kinds: tuple[type, ...]
    advice: str

    def rows(self, source: Source, *, limited: bool = True) -> RowsOfKind:
        data = self.open.job.data
        rows = Rows(source, data.format, data.skip_bad, data.limit if limited else None)
        return RowsOfKind(rows, self.kinds, self.advice)

    def training(self) -> RowsOfKind:
        """The rows to learn from."""
        return self.rows(self.open.job.data.train)

    def stores(self, tokenizer: RowTokenizer) -> tuple[TokenStore, TokenStore | None]:
        """The tokens to learn from and the held-out ones, which lie in the run and are made once."""
        data = self.open.job.data
        learned = self._store(self.training(), "train", tokenizer)
        held_out, kept_apart = None, 0.0
        if isinstance(data.eval, float):
            kept_apart = data.eval
            learned, held_out = learned.split(kept_apart)
        elif data.eval is not None:
            held_out = self._store(self.rows(data.eval, limited=False), "eval", tokenizer)
        if data.share is not None and data.share < 1:
            _, learned = learned.split(kept_apart + data.share * (1 - kept_apart))
        return learned, held_out

    def _store(self, rows: RowsOfKind, name: str, tokenizer: RowTokenizer) -> TokenStore:
        folder = self.open.folder
        path = folder.path / "data" / name
        if not folder.writes or (folder.goes_on and (path / "store.json").is_file()):
            return TokenStore.open(path)
        return TokenStore.build(
            path,
            rows,
            tokenizer,
            bad=rows.rows.bad,
            fingerprint=rows.fingerprint(),
            progress=lambda stage, done, total: self.open.progress(stage, done, total, ""),
        )
