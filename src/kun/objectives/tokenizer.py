"""The stage that learns a tokenizer: from a recipe to a folder that new networks name as theirs."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice

from kun.atomic_files import new_folder
from kun.data.corpus import Corpus
from kun.data.sources import Rows
from kun.hub.layout import write_tokenizer
from kun.text.compression import by_language, compression, pieces_of
from kun.text.learn import CHATML, LearnedTokenizer, learn_tokenizer
from kun.training.opening import Opener
from kun.training.progress import TrainingProgress
from kun.training.tables import Tokenizer
from kun.training.task import Procedure

_WORDS = ("lowering", "lower", "transformer", "def __init__(self):", "北冥有鱼，其名为鲲")
"""Words whose pieces the report shows: the first is the example of those who brought in byte pair encoding."""
_MEASURED = 2000
"""Blocks of held-out text, of some thousand characters each, that compression is measured on."""


class TokenizerTraining(Procedure):
    """Writes checkpoint/ with tokenizer.json and tokenizer_config.json, and what it does to the run's facts.

    Raises `BadInput` for text that nothing can be learned from, and what reading data raises.
    """

    name = "tokenizer"
    stages = ("tokenizer",)

    def run(self, open: Opener) -> None:
        data, asked = open.job.data, open.job.tokenizer or Tokenizer()
        corpus = Corpus(Rows(data.train, data.format, data.skip_bad, data.limit))
        open.progress("learning a tokenizer", 0, None, "")
        texts = _counted(corpus.training(), open.progress)
        learned = learn_tokenizer(
            texts, asked.kind, asked.vocab_size, chat_template=CHATML if asked.chat else None
        )
        with new_folder(open.folder.checkpoint) as fresh:
            write_tokenizer(fresh, learned.tokenizer, learned.config)
        facts = _facts(asked, learned, islice(corpus.held_out(), _MEASURED))
        open.folder.record_facts({"tokenizer": facts})


def _counted(texts: Iterable[str], progress: TrainingProgress) -> Iterator[str]:
    for count, text in enumerate(texts, 1):
        if count % 1000 == 0:
            progress("learning a tokenizer", count, None, "")
        yield text


def _facts(asked: Tokenizer, learned: LearnedTokenizer, held_out: Iterable[str]) -> dict[str, object]:
    tokenizer = learned.tokenizer
    found = compression(tokenizer, by_language(held_out))
    return {
        "kind": asked.kind,
        "vocabulary": tokenizer.get_vocab_size(),
        "compression": {language: asdict(value) for language, value in found.items()},
        "words": {word: pieces_of(word, tokenizer) for word in _WORDS},
    }
