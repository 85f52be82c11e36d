"""Builds a token store slowly, in a process that a test kills: `python building_process.py FOLDER ROWS SECONDS`."""

import sys
import time
from collections.abc import Iterator

from rows_of_many import many_rows, tokenizer

from kun.data import building
from kun.data.rows import Row
from kun.data.store import TokenStore


def slowly(count: int, seconds: float) -> Iterator[Row]:
    for row in many_rows(count):
        time.sleep(seconds)
        yield row


if __name__ == "__main__":
    folder, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    building._ROWS, building._BATCHES = 10, 2
    TokenStore.build(folder, slowly(count, seconds), tokenizer(), processes=2, shard=1000)
