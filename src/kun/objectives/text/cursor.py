"""Feeds that go over rows in an order that seed and place alone decide, the same on every machine.

Nothing is remembered but the place, so that a run can be taken up anywhere.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch import nn

from kun.data.store import TokenStore
from kun.training.feed import ALL_ROWS, Batch, Feed, RankSlice, as_count


@dataclass(frozen=True)
class DataCursor:
    """The place of a training in its data: `row` rows of epoch `epoch` are done."""

    epoch: int = 0
    row: int = 0


class RowFeed(Feed[nn.Module]):
    """A feed that is a function of its cursor."""

    def __init__(self, data: TokenStore, held_out: TokenStore | None) -> None:
        self.data: TokenStore = data
        self.held_out: TokenStore | None = held_out
        self.rows: RankSlice = ALL_ROWS
        self.cursor = DataCursor()

    @property
    def size(self) -> int:
        return self.data.n_tokens

    @abstractmethod
    def at(self, place: DataCursor) -> tuple[list[Batch], DataCursor]:
        """This process's batches of the step at `place`; and the next place."""

    @abstractmethod
    def rows_of(self, epoch: int) -> int:
        """How many rows an epoch has."""

    def step(self) -> list[Batch]:
        batches, self.cursor = self.at(self.cursor)
        return batches

    def spare(self) -> list[Batch]:
        """See `Feed`: those of the first step, of which every process has some."""
        return self.at(DataCursor())[0]

    def epochs(self) -> float:
        return self.cursor.epoch + self.cursor.row / max(1, self.rows_of(self.cursor.epoch))

    def where(self) -> str:
        return f"epoch {self.cursor.epoch}, rows from {self.cursor.row}"

    def state(self) -> dict[str, object]:
        return asdict(self.cursor)

    def load(self, state: Mapping[str, object]) -> None:
        self.cursor = DataCursor(as_count(state, "epoch"), as_count(state, "row"))
