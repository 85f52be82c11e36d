"""Word vectors by name: those of a folder or file, or the table of a model that reads text."""

from pathlib import Path

from kun.atomic_files import Progress
from kun.errors import DamagedFile
from kun.hub.pull import locate
from kun.models.kinds import Candidate
from kun.wordvectors.kind import WORD_VECTORS
from kun.wordvectors.pieces import Composition, compose
from kun.wordvectors.text_format import SUFFIXES
from kun.wordvectors.tokens import TokenVectors, open_tokens
from kun.wordvectors.vectors import WordVectors


def open_vectors(name: str | Path, progress: Progress | None = None) -> WordVectors:
    """Vectors by catalog name, folder, file in word2vec's text format; of a model, its own table of pieces.

    Raises what `kun.load` raises, `DamagedFile` for a file of vectors that holds none, and `UnsupportedFormat` for a
    model that reads no text.
    """
    path = locate(name, progress, any_file=True)
    if WORD_VECTORS.recognizes(Candidate(path)):
        return WordVectors.open(path)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        raise DamagedFile(
            f"{path} holds no vectors in word2vec's text format: it is empty, or something else."
        )
    return open_tokens(path)


def composed(vectors: WordVectors, word: str) -> Composition:
    """A word from its pieces: a tokenizer's where the vectors are a model's, else runs of its letters.

    Raises `BadInput` for a word of which no piece is known.
    """
    return vectors.compose(word) if isinstance(vectors, TokenVectors) else compose(vectors, word)
