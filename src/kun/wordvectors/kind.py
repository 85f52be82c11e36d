"""The kind of ready model that word vectors are, and the look of their folders and files; no torch is imported."""

from kun.hub.word_vectors import is_word_vectors
from kun.models.kinds import Candidate, ModelKind
from kun.wordvectors.text_format import looks_like_text_format


def _holds_vectors(candidate: Candidate) -> bool:
    path = candidate.path
    return looks_like_text_format(path) if path.is_file() else is_word_vectors(path)


WORD_VECTORS = ModelKind("word vectors", "kun.wordvectors.vectors:WordVectors.from_candidate", _holds_vectors)
