"""Beam search: the likeliest answers as wholes, where sampling goes by one token at a time.

At each step the best continuations of all beams compete (Lowerre, 1976; Graves, arXiv:1211.3711); an answer's
score is the sum of its log-probabilities over its length to the power of a penalty. Scores and the ways to stop
are those of Hugging Face's `generate`.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kun.generation.options import SamplingOptions
from kun.generation.results import FinishReason, Piece
from kun.generation.row import EngineRow
from kun.generation.sampling import adjusted, best
from kun.generation.stream import TextStream


@dataclass(frozen=True)
class Ended:
    """An answer that came to its end; `score` has the length penalty in it."""

    score: np.float32
    tokens: list[int]


@dataclass(eq=False)
class BeamSearch:
    """One request's search, from the row `root` that reads the prompt; its answers go out through the `streams`.

    `rows` are the beams that run, best first, with their `scores`; `ended` the best answers so far, best first.
    """

    root: EngineRow
    options: SamplingOptions
    streams: list[TextStream]

    def __post_init__(self) -> None:
        self.width, self.ends = self.options.beams, self.streams[0].ends
        self.root.search = self
        self.begin()

    def begin(self) -> None:
        """Search from the prompt on, also again."""
        self.rows: list[EngineRow] = [self.root]
        self.scores = np.zeros(1, dtype=np.float32)
        self.ended: list[Ended] = []

    def choose(self, logits: Tensor) -> list[tuple[EngineRow, int]]:
        """From logits [rows, vocabulary] the rows to go on from, and with which token; none when it is over."""
        likely = logits.float().log_softmax(-1).cpu().numpy()
        samplers = [row.sampler for row in self.rows]
        if not all(sampler.plain for sampler in samplers):
            likely = adjusted(likely, samplers)
        vocabulary = likely.shape[1]
        totals = (likely + self.scores[:, None]).reshape(1, -1)
        # enough that `width` of them go on even if all the others end
        count = min(max(2, 1 + len(self.ends)) * self.width, totals.shape[1])
        places = best(totals, count)[0]
        length = len(self.rows[0].tokens) + 1 - self.rows[0].prompt_length
        full = len(self.rows[0].tokens) + 1 >= self.rows[0].limit
        going: list[tuple[EngineRow, int]] = []
        scores: list[np.float32] = []
        for rank, place in enumerate(places.tolist()):
            row, token, score = self.rows[place // vocabulary], place % vocabulary, totals[0, place]
            if full or token in self.ends:
                if rank < self.width:
                    answer = [*row.tokens[row.prompt_length :], token]
                    self.ended.append(Ended(score / np.float32(length**self.options.length_penalty), answer))
            elif len(going) < self.width:
                going.append((row, token))
                scores.append(score)
        self.ended = sorted(self.ended, key=lambda one: -one.score)[: self.width]
        self.scores = np.array(scores, dtype=np.float32)
        return going if going and self._may_improve(length) else []

    def _may_improve(self, length: int) -> bool:
        """Whether one that runs may still become better than the worst that ended.

        Unless `early_stopping` is "never", its score is judged as if it ended now: it can only fall, but for
        the length penalty, which the judgement leaves out.
        """
        if len(self.ended) < self.width:
            return True
        if self.options.early_stopping is True:
            return False
        row, penalty = self.rows[0], self.options.length_penalty
        if self.options.early_stopping == "never" and penalty > 0:
            length = row.limit - row.prompt_length
        return bool(self.scores[0] / np.float32(length**penalty) > self.ended[-1].score)

    def pieces(self) -> list[Piece]:
        """The best answers, whole, each with its reason to end."""
        pieces = []
        for stream, answer in zip(self.streams, self.ended, strict=False):
            pieces += _written(stream, answer.tokens)
        return pieces

    def last_pieces(self, reason: FinishReason) -> list[Piece]:
        """What there is to say when it is ended from outside: nothing, since no answer is sure."""
        return [stream.finish(reason) for stream in self.streams]


def _written(stream: TextStream, tokens: list[int]) -> list[Piece]:
    pieces = []
    for place, token in enumerate(tokens, 1):
        ended = token in stream.ends
        piece = stream.push(None if ended else token, None, ended, place == len(tokens))
        if piece is not None:
            pieces.append(piece)
            if piece.finish_reason is not None:
                break
    return pieces
